"""Pictures and their order are pure functions of (seed, epoch, index)."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from antiparallel.benchmarks.data import digits, order


def batches(**changes: int):
    arguments = {"seed": 1, "epoch": 2, "start": 0, "stop": 27, "batch_size": 50} | changes
    return list(digits().train_batches(**arguments))


def test_the_split_is_stratified_and_holds_every_picture_once():
    train, held_out = digits().train, digits().validation
    assert (len(train.labels), len(held_out.labels)) == (1397, 400)
    assert np.bincount(held_out.labels).tolist() == [40] * 10
    source = load_digits()
    ours = np.concatenate([train.images, held_out.images]).reshape(1797, -1)
    assert sorted(map(tuple, ours)) == sorted(map(tuple, source.data))


def test_mean_and_deviation_are_the_training_pictures_own():
    images = digits().train.images
    assert images.shape[1:] == (8, 8, 1)
    assert images.dtype == np.uint8
    mean = sum(int(pixel) for pixel in images.flat) / images.size
    squares = sum(int(pixel) ** 2 for pixel in images.flat) / images.size
    # Sums of n float64 numbers are exact to n roundings at most.
    tolerance = images.size * np.finfo(np.float64).eps
    assert digits().mean == pytest.approx((mean,), rel=tolerance)
    assert digits().deviation == pytest.approx(((squares - mean**2) ** 0.5,), rel=tolerance)


def test_an_epochs_order_is_a_permutation():
    assert sorted(order(1397, seed=3, epoch=5)) == list(range(1397))


def test_order_depends_on_seed_and_epoch_and_on_nothing_else():
    first = order(100, seed=0, epoch=0)
    assert (first == order(100, seed=0, epoch=0)).all()
    assert (first != order(100, seed=1, epoch=0)).any()
    assert (first != order(100, seed=0, epoch=1)).any()


def test_the_order_is_the_one_that_is_written_down():
    # As it was when runs were first recorded: another order would break their resuming.
    assert order(10, seed=0, epoch=0).tolist() == [0, 8, 2, 6, 7, 4, 3, 1, 9, 5]


def test_beginning_in_the_middle_of_an_epoch_gives_the_same_batches():
    whole, later = batches(), batches(start=20)
    assert len(later) == 7
    for one, other in zip(whole[20:], later, strict=True):
        assert (one.images == other.images).all()
        assert (one.labels == other.labels).all()


def test_validation_shows_every_picture_in_order():
    shown = list(digits().validation_batches(150))
    assert [len(batch.labels) for batch in shown] == [150, 150, 100]
    for part in (0, 1):
        whole = np.concatenate([batch[part] for batch in shown])
        assert (whole == digits().validation[part]).all()


def test_an_epoch_shows_no_picture_twice():
    labels = np.concatenate([batch.labels for batch in batches()])
    pictures = np.concatenate([batch.images for batch in batches()]).reshape(1350, -1)
    assert len(labels) == digits().train_size // 50 * 50 == 1350
    distinct = len(np.unique(digits().train.images.reshape(1397, -1), axis=0))
    assert len(np.unique(pictures, axis=0)) >= 1350 - (1397 - distinct)
