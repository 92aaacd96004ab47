"""The entry point of the ``antiparallel`` command."""

import signal
import sys


def main() -> None:
    """Run the command; say in one line that it was interrupted, or what is not installed."""
    try:
        from antiparallel.benchmarks.commands.app import run

        run()
    except KeyboardInterrupt:  # before or after there was anything to save
        print("antiparallel: Interrupted.", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("antiparallel"):
            raise
        print(
            f"antiparallel: Expected {error.name} to be installed: "
            "pip install 'antiparallel[torch,conformance,benchmarks]'",
            file=sys.stderr,
        )
        sys.exit(2)


if __name__ == "__main__":  # python -m, torchrun -m
    sys.argv[0] = "antiparallel"
    main()
