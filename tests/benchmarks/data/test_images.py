"""The same pixels in the same order, whoever decodes them."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from antiparallel.benchmarks.data.batches import Batch, Part
from antiparallel.benchmarks.data.digits import digits
from antiparallel.benchmarks.data.images import Images, open_images
from antiparallel.benchmarks.data.pictures import decode
from antiparallel.benchmarks.data.transforms import Preprocessing
from antiparallel.spec import SpecError

from .conftest import CLASSES

SMALL = Preprocessing(16, 20, "random-resized-crop")


def batches(tree: Path, workers: int = 0, start: int = 0, stop: int = 4) -> list[Batch]:
    images = open_images(tree, SMALL, workers=workers)
    shown = list(images.train_batches(seed=3, epoch=1, start=start, stop=stop, batch_size=4))
    shown += list(images.validation_batches(3))
    images.close()
    return shown


def same(ours: list[Batch], theirs: list[Batch]) -> bool:
    return len(ours) == len(theirs) and all(
        (one.images == other.images).all() and (one.labels == other.labels).all()
        for one, other in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize("workers", [1, 4])
def test_any_number_of_workers_gives_the_same_batches(shared_tree: Path, workers: int):
    whole = batches(shared_tree)
    assert [len(batch.labels) for batch in whole] == [4] * 4 + [3, 3, 2]
    assert all(batch.images.dtype == np.uint8 for batch in whole)
    assert same(batches(shared_tree, workers), whole)


@pytest.mark.parametrize("workers", [0, 2])
def test_beginning_in_the_middle_of_an_epoch_gives_the_same_batches(
    shared_tree: Path, workers: int
):
    assert same(batches(shared_tree, workers, start=2), batches(shared_tree)[2:])


def test_epochs_that_are_shown_at_once_or_left_early_do_not_disturb_each_other(
    shared_tree: Path,
):
    alone, images = open_images(shared_tree, SMALL), open_images(shared_tree, SMALL, workers=2)

    def epoch(data: Images, number: int) -> Iterator[Batch]:
        return data.train_batches(seed=0, epoch=number, start=0, stop=18, batch_size=1)

    for number in range(3):
        next(epoch(images, number))  # others are being decoded
        pairs = zip(epoch(images, number), epoch(images, number + 1), strict=True)
        ours = list(chain.from_iterable(pairs))
        pairs = zip(epoch(alone, number), epoch(alone, number + 1), strict=True)
        assert same(ours, list(chain.from_iterable(pairs)))
    images.close()


def test_batches_of_more_pieces_than_workers_are_whole(
    shared_tree: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = batches(shared_tree)
    monkeypatch.setattr("antiparallel.benchmarks.data.images._PIECE", 1)
    assert same(batches(shared_tree, workers=2), whole)


def test_pictures_come_with_the_label_of_their_folder(shared_tree: Path):
    (batch,) = open_images(shared_tree, SMALL).validation_batches(8)
    files = [path for name in CLASSES for path in sorted((shared_tree / "val" / name).iterdir())]
    assert batch.labels.tolist() == [CLASSES.index(path.parent.name) for path in files]
    for pixels, path in zip(batch.images, files, strict=True):
        assert (pixels == SMALL.validation(decode(path.read_bytes()))).all()


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("batch_size", [1, 4, 7, 400])
def test_parts_show_every_validation_picture_once(shared_tree: Path, world: int, batch_size: int):
    for data in (open_images(shared_tree, SMALL), digits()):
        whole = list(data.validation_batches(batch_size))
        parts = [list(data.validation_batches(batch_size, Part(r, world))) for r in range(world)]
        for number, batch in enumerate(whole):
            joined = np.concatenate([part[number].images for part in parts])
            assert (joined == batch.images).all()
        assert sum(len(batch.labels) for part in parts for batch in part) == sum(
            len(batch.labels) for batch in whole
        )


def test_parts_of_a_training_batch_are_the_batch(shared_tree: Path):
    for data in (open_images(shared_tree, SMALL), digits()):
        asked = {"seed": 0, "epoch": 0, "start": 1, "stop": 3, "batch_size": 6}
        whole = list(data.train_batches(**asked))
        parts = [list(data.train_batches(**asked, part=Part(rank, 3))) for rank in range(3)]
        for number, batch in enumerate(whole):
            assert (np.concatenate([p[number].images for p in parts]) == batch.images).all()
            assert (np.concatenate([p[number].labels for p in parts]) == batch.labels).all()
            assert [len(part[number].labels) for part in parts] == [2, 2, 2]


def test_a_broken_picture_is_named_from_a_worker_too(tree: Path):
    images = open_images(tree, SMALL, workers=2)
    (tree / "train" / "temple" / "005.JPEG").write_bytes(b"gone")
    with pytest.raises(SpecError, match=r"Received: train/temple/005.JPEG"):
        list(images.train_batches(seed=0, epoch=0, start=0, stop=6, batch_size=3))
    images.close()


PROGRAM = """
import sys, time
from pathlib import Path
from antiparallel.benchmarks.data.images import open_images
from antiparallel.benchmarks.data.transforms import Preprocessing

if __name__ == "__main__":
    images = open_images(Path(sys.argv[1]), Preprocessing(16, 20, "random-crop"), workers=2)
    # More than are decoded ahead, so that some are left when the workers end.
    batches = images.train_batches(seed=0, epoch=0, start=0, stop=18, batch_size=1)
    next(batches)
    workers = images._workers._started()._processes
    print(*workers, flush=True)
    {then}
"""


def begin(tmp_path: Path, tree: Path, then: str) -> tuple[subprocess.Popen[str], list[int]]:
    """Start a program whose workers decode, and return it with the workers' numbers."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.replace("{then}", then))
    process = subprocess.Popen(
        [sys.executable, program, tree], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, [int(number) for number in process.stdout.readline().split()]


def gone(number: int) -> bool:
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_the_process_that_they_work_for(
    tmp_path: Path, shared_tree: Path, number: signal.Signals
):
    process, workers = begin(tmp_path, shared_tree, "time.sleep(60)")
    assert len(workers) == 2
    process.send_signal(number)
    process.communicate()
    deadline = time.monotonic() + 20
    while not all(map(gone, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert all(map(gone, workers))


@pytest.mark.parametrize("which", ["[:]", "[:1]"])
def test_a_worker_that_is_killed_is_an_error_and_no_hang(
    tmp_path: Path, shared_tree: Path, which: str
):
    then = f"import os; [os.kill(n, 9) for n in list(workers){which}]; list(batches)"
    process, _ = begin(tmp_path, shared_tree, then)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "A worker that decodes pictures was killed" in complaint


def test_a_negative_number_of_workers_is_refused(shared_tree: Path):
    with pytest.raises(SpecError, match="Received: workers=-1"):
        open_images(shared_tree, SMALL, workers=-1)


SLOW = """
import time
import numpy as np
from antiparallel.benchmarks.data.workers import Workers

def work(shared, task):
    time.sleep(task[0])
    return np.full(4, task[1], np.uint8)

if __name__ == "__main__":
    workers = Workers(2, None, largest=4)
    next(workers.arrays(work, [(0, 1)] + [(0.5, 2)] * 9))
    arrays = workers.arrays(work, [(0, 3)] * 12)
    next(arrays)
    time.sleep(1)  # what was left above would end now
    print({int(value) for array in arrays for value in array})
    workers.close()
"""


def test_work_that_nobody_waits_for_any_more_is_not_put_in_the_place_of_other_work(
    tmp_path: Path,
):
    (tmp_path / "program.py").write_text(SLOW)
    command = [sys.executable, tmp_path / "program.py"]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "{3}\n"
