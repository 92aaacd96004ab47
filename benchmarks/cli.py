"""The entry point of the ``antiparallel`` command."""

import sys


def main() -> None:
    """Run the command, or say in one line what is not installed."""
    try:
        from antiparallel.benchmarks.commands import run

        run()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("antiparallel"):
            raise
        print(
            f"antiparallel: Expected {error.name} to be installed: "
            "pip install 'antiparallel[torch,conformance,benchmarks]'",
            file=sys.stderr,
        )
        sys.exit(2)
