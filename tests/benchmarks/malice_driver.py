"""Gives files to whatever reads them, in a process of its own whose memory can be looked at.

Used by test_malice.py, as ``python malice_driver.py GOOD CASES_JSON``: a run that is as it should
be, and pairs of a reader's name and a path. Prints how each reader answered, and how much the most
memory used has grown, in bytes.
"""

import json
import resource
import sys
from collections.abc import Callable
from pathlib import Path

from antiparallel.benchmarks.compare import compare_runs
from antiparallel.benchmarks.data.cifar10 import read_cifar10
from antiparallel.benchmarks.data.images import open_images
from antiparallel.benchmarks.data.transforms import Preprocessing
from antiparallel.benchmarks.report.runs import find_runs
from antiparallel.benchmarks.reproduce import plan
from antiparallel.benchmarks.run_folder import RunFolder
from antiparallel.benchmarks.train import NO_DATA
from antiparallel.spec import SpecError

GOOD = Path(sys.argv[1])
READERS: dict[str, Callable[[Path], object]] = {
    "resume": lambda path: RunFolder(path).load(),
    "resume from the one before": lambda path: RunFolder(path, previous_checkpoint=True).load(),
    "record": lambda path: RunFolder(path).read_record(),
    "report": lambda path: find_runs([path]),
    "compare": lambda path: (compare_runs(GOOD, path), RunFolder(path).read_losses()),
    "reproduce": lambda path: plan(
        "digits", backends=["torch"], seeds=1, out=path, data=NO_DATA, overrides={}
    ),
    "pictures": lambda path: open_images(path, Preprocessing(16, 20, "random-crop")),
    "cifar10": read_cifar10,
}


def answer(reader: str, path: str) -> str:
    try:
        READERS[reader](Path(path))
    except (SpecError, OSError) as error:
        return f"refused: {error}"
    return "taken"


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    for reader in ("resume", "record", "report", "compare"):
        assert answer(reader, str(GOOD)) == "taken"
    before = peak()
    answers = [answer(*case) for case in json.loads(sys.argv[2])]
    print(json.dumps({"answers": answers, "growth": peak() - before}))


if __name__ == "__main__":
    main()
