"""The ``antiparallel`` command: what a user can ask for, and the exit codes.

0: done. 1: a check of the conformance suite failed. 2: wrong arguments, one message on stderr.
3: a run diverged. 4: a file or folder could not be read or written. 130 and 143: stopped by SIGINT
or SIGTERM after saving; the same command, for ``train`` with ``--resume``, goes on.
"""

import importlib.metadata
import sys
from typing import Annotated, NoReturn

import typer
from rich.text import Text

from antiparallel.benchmarks.commands.cache import cache
from antiparallel.benchmarks.commands.compare import compare
from antiparallel.benchmarks.commands.conformance import conformance
from antiparallel.benchmarks.commands.options import UNWRITABLE
from antiparallel.benchmarks.commands.recipes import recipes
from antiparallel.benchmarks.commands.report import report
from antiparallel.benchmarks.commands.reproduce import reproduce
from antiparallel.benchmarks.commands.search import search_lr
from antiparallel.benchmarks.commands.speed import speed
from antiparallel.benchmarks.commands.startup import startup
from antiparallel.benchmarks.commands.train import train
from antiparallel.benchmarks.terminal import console, errors
from antiparallel.spec import SPEC_VERSION, SpecError

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)
for command in (
    *(reproduce, train, search_lr, report, compare, cache),
    *(speed, startup, conformance, recipes),
):
    app.command()(command)


def run() -> None:
    """Run the command; an error that the user can mend is one message and an exit code."""
    try:
        app()
    except SpecError as error:
        _fail(str(error), 2)
    except OSError as error:
        _fail(f"Expected files that can be read and written. Received: {error}", UNWRITABLE)


def _fail(message: str, code: int) -> NoReturn:
    text = Text(f"antiparallel: {message}", style="red")
    errors.print(text, soft_wrap=True, highlight=False)
    sys.exit(code)


def _print_version(wanted: bool) -> None:
    if wanted:
        version = importlib.metadata.version("antiparallel")
        console.print(f"antiparallel {version}, specification {SPEC_VERSION}", highlight=False)
        raise typer.Exit


@app.callback()
def antiparallel(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show versions and exit."
        ),
    ] = False,
) -> None:
    """Train networks by backprop, sign-symmetry and feedback alignment, and compare them.

    Start with: **antiparallel reproduce digits** (about a minute on two CPU cores, no download).

    Exit codes: 0 done; 1 a conformance check failed; 2 a wrong argument; 3 a run diverged; 4
    a file or folder could not be read or written; 130 and 143 stopped by Ctrl-C or SIGTERM after
    saving.
    """
