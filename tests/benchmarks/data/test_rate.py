"""The rate of pictures is measured fairly: all ways show as many, in turns."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from antiparallel.benchmarks.data.cache_writer import write_cache
from antiparallel.benchmarks.data.layouts import find_splits
from antiparallel.benchmarks.data.rate import Work, main, measure, ours, summary, torchvision_s
from antiparallel.spec import SpecError


def test_every_way_shows_the_same_number_of_pictures(shared_tree: Path):
    work = Work(batches=3, batch_size=5, size=16, workers=0)
    with ExitStack() as stack:
        ways = [ours(shared_tree, work, stack), torchvision_s(shared_tree, work)]
        assert [way(0) for way in ways] == [15, 15]


def test_ways_take_turns_in_either_order_and_the_first_round_does_not_count():
    shown: list[tuple[str, int]] = []

    def way(name: str):
        return lambda number: shown.append((name, number)) or 7

    rates = measure({"a": way("a"), "b": way("b")}, 2)
    assert shown == [("b", 0), ("a", 0), ("a", 1), ("b", 1), ("b", 2), ("a", 2)]
    assert [len(found) for found in rates.values()] == [2, 2]


def test_median_and_quartiles_are_shown():
    assert summary([1, 2, 3, 4, 5], 1) == "3.0 (2.0 to 4.0)"


def test_the_command_says_what_was_measured(
    shared_tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    write_cache(find_splits(shared_tree), tmp_path, size=20)
    main(shared_tree, tmp_path, workers=0, rounds=2, batches=2, batch_size=4, size=16)
    output = capsys.readouterr().out
    for shown in ("cores", "pillow", "libjpeg-turbo", "2 rounds", "x torchvision"):
        assert shown in output
    for name in ("ours", "torchvision", "cache"):
        assert f"{name:>12} " in output


def test_more_pictures_than_there_are_cannot_be_shown(shared_tree: Path):
    with ExitStack() as stack, pytest.raises(SpecError, match=r"at least 20 .*Received: 18"):
        ours(shared_tree, Work(batches=4, batch_size=5, size=16, workers=0), stack)
