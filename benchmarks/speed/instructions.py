"""Count the instructions of training steps under valgrind: what no other work on a machine changes.

Valgrind takes some fifty times as long as the steps themselves, and half a minute to begin.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from antiparallel.benchmarks.speed.case import PROCESSES, Case
from antiparallel.spec import SpecError

_WARM_UP = 2

# Valgrind knows no AVX-512. Hashes of strings would decide how often Python's tables collide.
_ENVIRONMENT = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "OMP_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
}


def require_countable(case: Case, backend: str = "torch") -> None:
    """Raise SpecError unless instructions of a case's steps can be counted here.

    Args:
        case: What is trained: on the CPU, by one thread of one process, not compiled.
        backend: On what: torch.
    """
    if backend != "torch":
        raise SpecError(f"Expected --backend torch with --instructions. Received: {backend}")
    usual = (case.device, case.threads, case.compiled) == ("cpu", 1, False)
    if not usual or case.way in PROCESSES:
        raise SpecError(f"Expected one thread on a CPU, not compiled. Received: {case}")
    if shutil.which("valgrind") is None or shutil.which("vgdb") is None:
        raise SpecError("Expected valgrind to be installed. Received: a machine without it")


def count_instructions(case: Case, rule: str, steps: int = 1) -> int:
    """Return how many instructions some training steps on PyTorch take, Python's own among them.

    Args:
        case: What is trained, see ``require_countable``.
        rule: As in ``Builder.build``.
        steps: How many steps, after two that are not counted.

    Raises:
        SpecError: The case is another, valgrind is not installed, or what ran under it failed.
    """
    require_countable(case)
    if steps < 1:
        raise SpecError(f"Expected at least one step. Received: steps={steps}")
    with TemporaryDirectory() as folder:
        counted = Path(folder) / "counted"
        valgrind = [
            "valgrind",
            "--tool=callgrind",
            "--instr-atstart=no",
            "--collect-atstart=no",
            f"--callgrind-out-file={counted}",
            f"--vgdb-prefix={folder}/vgdb",
        ]
        program = [sys.executable, "-m", __spec__.name, case.model_dump_json(), rule, str(steps)]
        answer = subprocess.run(
            [*valgrind, *program, folder],
            env=os.environ | _ENVIRONMENT,
            capture_output=True,
            text=True,
        )
        dump = counted.with_suffix(".1")
        if answer.returncode or not dump.exists():
            last = answer.stderr.rstrip().rpartition("\n")[2]
            raise SpecError(
                "Expected steps that run under valgrind. "
                f"Received: exit code {answer.returncode}, {last!r}"
            )
        found = re.findall(r"^totals: (\d+)", dump.read_text(), re.MULTILINE)
    return int(found[0])


def _take_steps(case: Case, rule: str, steps: int, folder: str) -> None:
    """Take the steps, and let the valgrind around this process count their instructions."""
    import torch

    from antiparallel.benchmarks.speed.pytorch import build

    contender = build(case, rule)
    for _ in range(_WARM_UP):
        contender.step()
    switch = subprocess.Popen(
        ["vgdb", f"--vgdb-prefix={folder}/vgdb", f"--pid={os.getpid()}", "instrumentation", "on"]
    )
    while switch.poll() is None:
        time.sleep(0.01)  # valgrind listens while the program that it runs does something
    if switch.returncode:
        raise SystemExit(f"vgdb: {switch.returncode}")
    torch._C._valgrind_toggle()
    for _ in range(steps):
        contender.step()
    torch._C._valgrind_toggle_and_dump_stats()


if __name__ == "__main__":
    _take_steps(Case.model_validate_json(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4])
