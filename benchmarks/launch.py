"""Start the processes of one run on this machine, as torchrun does."""

import logging
import os
import sys
import uuid
from collections.abc import Sequence
from tempfile import TemporaryDirectory


def launch(processes: int, arguments: Sequence[str]) -> int:
    """Run the command in several processes, and return the exit code that they agreed on.

    Of a process that was killed it is a shell's: 128 and the signal. SIGINT and SIGTERM are passed
    on to them; they then have two minutes to save (half a minute with a torch that does not read
    the variable below).

    Args:
        processes: How many.
        arguments: The command's.
    """
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # The processes say themselves how they end.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "120")
    with TemporaryDirectory() as logs:  # torch would leave one behind
        here = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            logs_specs=DefaultLogsSpecs(logs),
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=0,
        )
        try:
            elastic_launch(here, sys.executable)("-m", "antiparallel.benchmarks.cli", *arguments)
        except ChildFailedError as error:
            code: int = error.get_first_failure()[1].exitcode
            return code if code >= 0 else 128 - code
        except SignalException as error:
            return 128 + error.sigval
    return 0
