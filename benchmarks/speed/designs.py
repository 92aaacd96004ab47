"""What other ways to send an error through B = +-lambda take, beside the one in use.

    python -m antiparallel.benchmarks.speed.designs --rounds 30 --out FOLDER

Every round runs each design of a question once, in random order. One that gives other numbers than
the first says so. Where B needs no multiplication and one bit a weight, this is what that could
give with the operations that PyTorch has, on the processor it runs on.
"""

import os
import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
import typer
from torch import Tensor

from antiparallel.benchmarks.files import write_atomically
from antiparallel.benchmarks.record import Origin, describe_process
from antiparallel.benchmarks.speed.measure import Ratio
from antiparallel.benchmarks.speed.summary import in_words
from antiparallel.benchmarks.terminal import console, print_written, progress_bars
from antiparallel.spec import Conv
from antiparallel.spec.draws import Purpose, draw
from antiparallel.torch.feedback import dense_in_blocks, signed

WARM_UP = 3
"""Rounds before those that count."""

LAMBDA = 0.02


class Design(NamedTuple):
    """One way to compute something.

    Args:
        name: What it is.
        act: Computes it.
        differs: In what its numbers differ from the first design's; nothing if only in rounding.
    """

    name: str
    act: Callable[[], Tensor]
    differs: str = ""


class Question(NamedTuple):
    """Several ways to compute one thing.

    Args:
        title: The thing, with its size.
        designs: The ways; the first is what others are compared with.
    """

    title: str
    designs: list[Design]


def forming(n: int) -> Question:
    """Return ways to form B for n filters of 3 by 3 on n channels."""
    weight = torch.randn(n, n, 3, 3)
    largest, one = 2.0**127, weight.new_full((), 2.0**127)

    def three_passes() -> Tensor:
        return F.hardtanh_(weight.mul(largest).mul_(largest), -LAMBDA, LAMBDA)

    def in_blocks() -> Tensor:
        formed = torch.empty_like(weight)
        blocks = (torch.split(tensor.view(-1), 1 << 16) for tensor in (weight, formed))
        for source, target in zip(*blocks, strict=True):
            torch.addcmul(source, source, one, value=largest, out=target)
            F.hardtanh_(target, -LAMBDA, LAMBDA)
        return formed

    lost = "NaN becomes 0"
    return Question(
        f"Form B of {weight.numel():,} weights",
        [
            Design("two passes: scale up, clip (in use)", lambda: signed(weight, LAMBDA)),
            Design("three passes: scale up twice, clip", three_passes),
            Design("two passes, block by block in the cache", in_blocks),
            Design("sign, then times lambda", lambda: weight.sign().mul_(LAMBDA), lost),
            Design("sign alone, lambda on the error", weight.sign, f"no lambda; {lost}"),
            Design(
                "copysign",
                lambda: torch.copysign(weight.new_full((), LAMBDA), weight),
                "0 and NaN become +-lambda",
            ),
        ],
    )


def dense(batch: int, n: int) -> Question:
    """Return ways to send the error of a dense layer with n inputs and n outputs back."""
    weight, error = torch.randn(n, n), torch.randn(batch, n)
    signs = signed(weight, 1.0)
    narrow, byte = signs.bfloat16(), signs.to(torch.int8)
    step = error.abs().amax() / 127

    def in_bytes() -> Tensor:
        rounded = (error / step).round().to(torch.int8)
        return torch._int_mm(rounded, byte).float() * (step * LAMBDA)

    designs = [
        Design("B known (as W is to backprop)", partial(torch.matmul, error, signs * LAMBDA)),
        Design("B formed whole", lambda: error @ signed(weight, LAMBDA)),
        Design("B formed in blocks (in use)", lambda: dense_in_blocks(error, weight, LAMBDA)),
        Design("signs kept in int8, as float32", lambda: (error @ byte.float()).mul_(LAMBDA)),
        Design(
            "signs kept in bfloat16",
            lambda: (error.bfloat16() @ narrow).float().mul_(LAMBDA),
            "error in bfloat16",
        ),
    ]
    if batch > 16:  # what torch's product of integers takes
        designs.append(Design("signs kept in int8", in_bytes, "error in int8"))
    return Question(f"Dense layer of {n} x {n}, batch {batch}", designs)


def convolution(batch: int, n: int, size: int) -> Question:
    """Return ways to send the error of a 3 by 3 convolution back, and to learn its weights."""
    weight = torch.randn(n, n, 3, 3)
    x, error = torch.randn(2, batch, n, size, size)

    def gradients(sent: Tensor, weights: Tensor, *mask: bool) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
            sent, x, weights, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [*mask, False]
        )
        return found

    def send(sent: Tensor, matrix: Tensor) -> Tensor:
        gradients(error, weight, False, True)
        return F.conv_transpose2d(sent, matrix, padding=1).float()

    known = signed(weight, LAMBDA)
    return Question(
        f"Both gradients of a convolution of {n} x {n} x 3 x 3, {batch} maps of {size} x {size}",
        [
            Design(
                "one call, B known (as W is to backprop)",
                lambda: gradients(error, known, True, True)[0],
            ),
            Design("two calls, B known", lambda: send(error, known)),
            Design(
                "one call, B formed",
                lambda: gradients(error, signed(weight, LAMBDA), True, True)[0],
            ),
            Design("two calls, B formed (in use)", lambda: send(error, signed(weight, LAMBDA))),
            Design(
                "two calls, B formed, error_dtype=bfloat16",
                lambda: send(error.bfloat16(), signed(weight, LAMBDA).bfloat16()),
                "error and lambda in bfloat16",
            ),
        ],
    )


def drawing(n: int) -> Question:
    """Return ways to draw the magnitudes of ``ss-batch`` for n filters on n channels."""
    geometry = Conv(n_in=n, n_out=n, kernel=(3, 3))
    size = n * n * 9
    purpose = Purpose.BATCH_MAGNITUDE

    def words() -> np.ndarray:
        key = np.array([0, 0], dtype=np.uint64)
        counter = np.array([0, 0, purpose, 0], dtype=np.uint64)
        return np.random.Philox(key=key, counter=counter).random_raw(size)

    def by_numpy() -> Tensor:
        units = (words() >> np.uint64(11)) * 2.0**-53
        radius, angle = np.sqrt(-2 * np.log(1 - units[0::2])), 2 * np.pi * units[1::2]
        pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
        return torch.from_numpy((pairs * LAMBDA).reshape(n, n, 3, 3))

    def by_torch() -> Tensor:
        units = torch.from_numpy((words() >> np.uint64(11)).view(np.int64)).double().mul_(2.0**-53)
        radius = torch.log1p(-units[0::2]).mul_(-2).sqrt_()
        angle = units[1::2] * (2 * torch.pi)
        pairs = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
        return pairs.mul_(LAMBDA).view(n, n, 3, 3)

    return Question(
        f"Draw {size:,} normal numbers",
        [
            Design(
                "sine and cosine from known ones nearby, by every core (in use)",
                lambda: torch.from_numpy(draw(geometry, LAMBDA, seed=0, index=0, purpose=purpose)),
            ),
            Design("NumPy's own sine and cosine, one core", by_numpy),
            Design("words by NumPy, one core; the rest by torch", by_torch),
            Design(
                "words alone, one core",
                lambda: torch.from_numpy(words().view(np.int64)),
                "no numbers yet",
            ),
            Design(
                "torch's own generator",
                lambda: torch.randn(n, n, 3, 3).mul_(LAMBDA),
                "other numbers; others again on a GPU",
            ),
        ],
    )


def questions() -> Iterator[Question]:
    """Return all questions, at sizes of ResNet-18 and AlexNet."""
    yield forming(512)
    for batch in (1, 32, 128):
        yield dense(batch, 4096)
    yield convolution(2, 512, 7)
    yield convolution(32, 256, 14)
    yield drawing(512)


def answer(question: Question, rounds: int, seed: int) -> dict[str, list[float]]:
    """Return the seconds of every design in every round."""
    order = random.Random(seed)
    seconds: dict[str, list[float]] = {design.name: [] for design in question.designs}
    for number in range(-WARM_UP, rounds):
        for design in order.sample(question.designs, len(question.designs)):
            began = time.perf_counter()
            design.act()
            ended = time.perf_counter()
            if number >= 0:
                seconds[design.name].append(ended - began)
    return seconds


def table_of(question: Question, seconds: dict[str, list[float]]) -> str:
    """Return a question's answer in Markdown."""
    first = seconds[question.designs[0].name]
    rows = [
        f"| {design.name} | {1e3 * float(np.median(taken)):.3g} | "
        f"{'1' if taken is first else in_words(Ratio.of(taken, first))} | {design.differs} |"
        for design in question.designs
        for taken in [seconds[design.name]]
    ]
    head = ["| design | ms | over the first | its numbers differ |", "| --- | ---: | ---: | --- |"]
    return "\n".join([f"## {question.title}", "", *head, *rows])


def page_of(tables: list[str], origin: Origin, loads: tuple[float, float], rounds: int) -> str:
    """Return the page of all answers, with where its numbers come from."""
    versions = ", ".join(f"{name} {number}" for name, number in origin.versions.items())
    parts = [
        "# Designs that were tried",
        f"Median of {rounds} rounds, in each of which every design of a table ran once, in random "
        "order, and the median of the ratios within rounds with its 95 % interval.",
        *tables,
        "## Where the numbers come from",
        f"`{origin.command}`; n = {rounds} rounds; {origin.host}, load {loads[0]:.1f} before and "
        f"{loads[1]:.1f} after; began {origin.started}; {versions}; "
        f"commit {origin.commit or 'none'}.",
    ]
    return "\n\n".join(parts) + "\n"


app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)


@app.command()
def main(
    rounds: Annotated[int, typer.Option(min=1, help="Rounds that count.")] = 30,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Seed of numbers and order.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder of the page.")] = Path("runs/speed"),
) -> None:
    """Measure designs."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    origin = describe_process({"torch": version("torch"), "threads": str(threads)})
    command = f"python -m {__spec__.name} --rounds {rounds} --threads {threads} --seed {seed}"
    before = os.getloadavg()[0]
    tables = []
    with progress_bars(by_itself=False) as bars:
        for question in bars.track(list(questions()), description="designs"):
            tables.append(table_of(question, answer(question, rounds, seed)))
    loads = (before, os.getloadavg()[0])
    page = page_of(tables, origin.model_copy(update={"command": command}), loads, rounds)
    out.mkdir(parents=True, exist_ok=True)
    path = out / "designs.md"
    write_atomically(path, page.encode())
    console.print(page, highlight=False, markup=False)
    print_written("Written:", [path])


if __name__ == "__main__":
    app()
