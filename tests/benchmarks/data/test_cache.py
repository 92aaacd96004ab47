"""A cache shows the same pixels as its originals, and is whole, or refused by name."""

import fcntl
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from antiparallel.benchmarks.data import cache_writer
from antiparallel.benchmarks.data.batches import Batch
from antiparallel.benchmarks.data.cache import Index, check_cache
from antiparallel.benchmarks.data.cache_writer import write_cache
from antiparallel.benchmarks.data.images import open_images
from antiparallel.benchmarks.data.layouts import find_splits
from antiparallel.benchmarks.data.splits import unwatched, without_bad_pictures
from antiparallel.benchmarks.data.transforms import Preprocessing, resized
from antiparallel.spec import SpecError

from .conftest import encoded, photograph, replaced, write_tree, zipped

SIZE = 20
SHARDS = ["train-00000", "train-00002", "train-00003", "val-00000", "val-00001"]


def written(tree: Path, out: Path, size: int = SIZE, workers: int = 0) -> Path:
    """Write a cache with shards of 5, 5, 5 and 3, and of 5 and 3 pictures."""
    write_cache(find_splits(tree), out, size=size, workers=workers, per_shard=5)
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def shown(root: Path, preprocessing: Preprocessing, workers: int = 0) -> list[Batch]:
    images = open_images(root, preprocessing, workers=workers)
    batches = list(images.train_batches(seed=3, epoch=1, start=0, stop=4, batch_size=5))
    batches += list(images.validation_batches(3))
    images.close()
    return batches


def same(ours: list[Batch], theirs: list[Batch]) -> bool:
    return len(ours) == len(theirs) and all(
        np.array_equal(one.images, other.images) and np.array_equal(one.labels, other.labels)
        for one, other in zip(ours, theirs, strict=True)
    )


@pytest.fixture
def cache(shared_tree: Path, tmp_path: Path) -> Path:
    return written(shared_tree, tmp_path / "cache")


@pytest.mark.parametrize("augmentation", ["random-crop", "padded-crop"])
@pytest.mark.parametrize("workers", [0, 2])
def test_crops_of_the_resized_picture_are_the_same_bit_for_bit(
    shared_tree: Path, cache: Path, augmentation, workers: int
):
    preprocessing = Preprocessing(16, SIZE, augmentation)
    assert same(shown(cache, preprocessing, workers), shown(shared_tree, preprocessing))


@pytest.mark.parametrize("augmentation", ["random-crop", "random-resized-crop"])
def test_pictures_that_are_not_larger_are_the_same_bit_for_bit(
    shared_tree: Path, tmp_path: Path, augmentation
):
    preprocessing = Preprocessing(16, SIZE, augmentation)
    cache = written(shared_tree, tmp_path / "cache", size=50)
    assert same(shown(cache, preprocessing), shown(shared_tree, preprocessing))


def test_random_resized_crops_are_taken_from_the_smaller_copy(shared_tree: Path, cache: Path):
    preprocessing = Preprocessing(16, SIZE, "random-resized-crop")
    originals, copies = find_splits(shared_tree).train, find_splits(cache).train
    for index in range(18):
        small = resized(originals.picture(index), SIZE)
        assert (np.asarray(copies.picture(index)) == np.asarray(small)).all()
    ours, theirs = shown(cache, preprocessing), shown(shared_tree, preprocessing)
    assert same(ours[4:], theirs[4:])  # validation
    assert not same(ours[:4], theirs[:4])


def test_names_classes_and_left_out_pictures_are_kept_and_the_record_says_what_it_is(
    tree: Path, tmp_path: Path
):
    replaced(tree, b"")
    originals = without_bad_pictures(find_splits(tree), 1, unwatched)
    write_cache(originals, tmp_path / "cache", size=SIZE, per_shard=5)
    images = open_images(tmp_path / "cache", Preprocessing(16, SIZE, "random-crop"))
    copies = find_splits(tmp_path / "cache")
    assert copies.classes == originals.classes
    for ours, theirs in (
        (copies.train, originals.train),
        (copies.validation, originals.validation),
    ):
        assert ours.names == theirs.names
        assert ours.labels.tolist() == theirs.labels.tolist()
    described = images.describe()
    assert described["train"] == "17 pictures"
    assert described["skipped"] == "train/flower/003.JPEG: empty file"
    expected = f"shorter sides of 20 at most, of the pictures {originals.fingerprint()}"
    assert described["cache"] == expected


@pytest.mark.parametrize("workers", [1, 3])
def test_any_number_of_workers_writes_the_same_bytes(
    shared_tree: Path, cache: Path, tmp_path: Path, workers: int
):
    assert contents(written(shared_tree, tmp_path / "other", workers=workers)) == contents(cache)


def test_a_zip_file_gives_the_same_cache_as_its_folder(tree: Path, cache: Path, tmp_path: Path):
    zipped(tree)
    assert contents(written(tree, tmp_path / "other")) == contents(cache)


PROGRAM = """
import os, signal, sys
from pathlib import Path
from antiparallel.benchmarks.data.cache_writer import write_cache
from antiparallel.benchmarks.data.layouts import find_splits

*folders, left = *sys.argv[1:3], int(sys.argv[3])

def watch(event, arguments):
    global left
    if event in ("open", "os.rename") and str(arguments[0]).startswith(tuple(folders)):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
write_cache(find_splits(Path(folders[0])), Path(folders[1]), size=20, per_shard=5)
"""


def test_killed_at_any_file_it_goes_on_to_the_same_bytes(
    shared_tree: Path, cache: Path, tmp_path: Path
):
    out = tmp_path / "killed"
    for files in (3, 10, 17, 24, 36):
        command = [sys.executable, "-c", PROGRAM, shared_tree, out, str(files)]
        assert subprocess.run(command).returncode == -9
        with pytest.raises(SpecError, match=r"Expected a whole cache|Expected one of train"):
            find_splits(out)
    told: list[tuple[int, int]] = []
    splits = find_splits(shared_tree)
    write_cache(splits, out, size=SIZE, per_shard=5, watch=lambda *done: told.append(done))
    assert told[0] > (0, 26)  # so it went on
    assert told[-1] == (26, 26)
    assert contents(out) == contents(cache)


def test_stopped_after_a_shard_it_goes_on(shared_tree: Path, cache: Path, tmp_path: Path):
    splits, out = find_splits(shared_tree), tmp_path / "stopped"
    for shards in range(1, 4):
        write_cache(splits, out, size=SIZE, per_shard=5, stop=lambda: True)
        assert len(list(out.glob("*.rgb"))) == shards
    written(shared_tree, out)
    assert contents(out) == contents(cache)


@pytest.mark.parametrize("file", ["cache", *SHARDS])
def test_a_changed_byte_of_an_index_is_found_at_opening(cache: Path, file: str):
    path = cache / f"{file}.json"
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(SpecError, match=rf"Received: {path.name}"):
            find_splits(cache)


@pytest.mark.parametrize("file", SHARDS)
def test_a_changed_pixel_is_found_by_the_checksum_and_written_anew(
    shared_tree: Path, cache: Path, file: str
):
    told: list[tuple[int, int]] = []
    check_cache(cache, lambda *done: told.append(done))
    assert told[-1] == (26, 26)
    path, before = cache / f"{file}.rgb", contents(cache)
    path.write_bytes(bytes([before[path.name][0] ^ 1]) + before[path.name][1:])
    assert find_splits(cache)
    with pytest.raises(SpecError, match=rf"Received: others in {file}.rgb$"):
        check_cache(cache, unwatched)
    path.unlink()
    written(shared_tree, cache)
    assert contents(cache) == before


@pytest.mark.parametrize(
    "file",
    ["cache.json", *(f"{shard}{suffix}" for shard in SHARDS for suffix in (".json", ".rgb"))],
)
def test_a_file_that_is_missing_or_cut_short_is_named(cache: Path, file: str):
    path = cache / file
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SpecError, match=rf"Received: {file}$"):
        find_splits(cache)
    path.unlink()
    with pytest.raises(SpecError, match="Received: .*cache" if path.stem == "cache" else file):
        find_splits(cache)


def test_a_file_that_is_cut_short_while_it_is_read_is_an_error_with_a_name(cache: Path):
    images = open_images(cache, Preprocessing(16, SIZE, "random-crop"))
    os.truncate(cache / "train-00001.rgb", 100)
    asked = images.train_batches(seed=0, epoch=0, start=0, stop=18, batch_size=1)
    with pytest.raises(SpecError, match=r"train-00001.rgb has become shorter"):
        list(asked)


@pytest.mark.parametrize(
    ("changes", "received"),
    [
        ({"widths": [65_535] * 5, "heights": [65_535] * 5}, r"not 64422\d+ bytes.*00000.rgb"),
        ({"widths": [2**70] * 5}, "widths.0: .*00000.json"),
        ({"heights": [0] * 5}, "heights.0: .*00000.json"),
        ({"labels": [7] * 5}, "train: labels of more than 2 classes"),
        ({"labels": [-1] * 5}, "labels.0: "),
        ({"names": ["one"]}, "not 5 pictures"),
        ({"command": "rm"}, "command: "),
    ],
)
def test_numbers_that_do_not_fit_are_refused_though_their_checksum_does(
    cache: Path, changes: dict, received: str
):
    lie(cache / "train-00000.json", changes)
    with pytest.raises(SpecError, match=received):
        find_splits(cache)


def lie(path: Path, changes: dict) -> None:
    """Change an index, its checksum too."""
    lies = json.loads(path.read_bytes()) | changes
    del lies["checksum"]
    text = json.dumps(lies, separators=(",", ":"))
    checksum = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(json.dumps(lies | {"checksum": checksum}))


def test_a_picture_that_only_claims_gigabytes_is_refused(cache: Path):
    lie(cache / "train-00000.json", {"widths": [20_000] * 5, "heights": [20_000] * 5})
    os.truncate(cache / "train-00000.rgb", 5 * 3 * 20_000**2)  # sparse
    with pytest.raises(SpecError, match=r"a picture of more than 270000000 bytes.*00000.rgb"):
        find_splits(cache)


def test_an_index_that_claims_a_billion_shards_costs_nothing(cache: Path):
    index = Index.read(cache / "cache.json")
    index.model_copy(update={"train": 10**9, "per_shard": 1}).write(cache / "cache.json")
    with pytest.raises(SpecError, match=r"not 1 pictures\)\. Received: train-00000.json"):
        find_splits(cache)
    with (cache / "train-00000.json").open("ab") as file:
        file.truncate(2**36)  # sparse
    with pytest.raises(SpecError, match=r"larger than \d+ bytes.*train-00000.json"):
        find_splits(cache)
    (cache / "train-00000.json").unlink()
    os.mkfifo(cache / "train-00000.json")  # to read it would last for ever
    with pytest.raises(SpecError, match=r"no regular file.*train-00000.json"):
        find_splits(cache)


def test_a_full_disk_names_the_file(shared_tree: Path, cache: Path):
    (cache / "val-00001.rgb").unlink()
    (cache / ".val-00001.rgb.draft").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left on device: '.*val-00001.rgb'"):
        written(shared_tree, cache)


def test_other_pictures_sizes_and_folders_are_refused_and_left_as_they_were(
    shared_tree: Path, cache: Path, tmp_path: Path
):
    before = contents(cache)
    with pytest.raises(SpecError, match="a cache of these pictures with size=21"):
        written(shared_tree, cache, size=21)
    other = write_tree(tmp_path / "other", train=8)
    with pytest.raises(SpecError, match="a cache of these pictures"):
        written(other, cache)
    assert contents(cache) == before
    with pytest.raises(SpecError, match="Expected a new or empty folder"):
        written(shared_tree, other)
    assert {path.name for path in other.iterdir()} == {"train", "val"}
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(SpecError, match="Expected a new or empty folder"):
        written(shared_tree, tmp_path / "file")


def test_a_cache_that_another_process_begins_meanwhile_is_not_mixed_with_ours(
    shared_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    lock = cache_writer._lock

    def late(folder: int, out: Path) -> None:
        monkeypatch.setattr(cache_writer, "_lock", lock)
        written(shared_tree, out, size=21)
        lock(folder, out)

    monkeypatch.setattr(cache_writer, "_lock", late)
    with pytest.raises(SpecError, match="a cache of these pictures with size=20"):
        written(shared_tree, tmp_path / "cache")


def test_two_processes_do_not_write_one_cache(shared_tree: Path, cache: Path):
    held = os.open(cache, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    with pytest.raises(SpecError, match="no other process writes to"):
        written(shared_tree, cache)
    os.close(held)
    written(shared_tree, cache)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_whose_pixels_are_broken_stops_the_copy_by_name(
    tree: Path, tmp_path: Path, workers: int
):
    broken = bytearray(encoded(photograph(1, 3), "PNG"))
    middle = len(broken) // 2
    broken[middle : middle + 40] = b"x" * 40
    replaced(tree, bytes(broken), "val/flower/001.JPEG")
    with pytest.raises(SpecError, match=r"can be decoded .*Received: val/flower/001.JPEG"):
        written(tree, tmp_path / "cache", workers=workers)
    assert len(list((tmp_path / "cache").glob("train-*.rgb"))) == 4
    assert not list((tmp_path / "cache").glob("val-00000*"))
