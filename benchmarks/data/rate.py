"""How many pictures a second are made ready, beside torchvision's reference recipe.

    python -m antiparallel.benchmarks.data.rate DIR --cache CACHE --workers 2

A round shows the same number of training pictures by each way in turn: ours, torchvision's
(``ImageFolder``, ``v2.RandomResizedCrop``, ``v2.RandomHorizontalFlip``, ``DataLoader``) and, if
there is one, ours from a cache. All end in batches of uint8 in memory, from workers that are
started already. Every other round turns the order around. A ratio is that of two rates of one
round.
"""

import importlib.metadata
import os
import statistics
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Annotated, NamedTuple, TypeAlias

import typer
from PIL import features

from antiparallel.benchmarks.data.images import open_images
from antiparallel.benchmarks.data.transforms import Preprocessing
from antiparallel.benchmarks.record import describe_machine
from antiparallel.spec import SpecError

Epoch: TypeAlias = Callable[[int], int]
"""Shows the pictures of an epoch, and returns how many."""


class Work(NamedTuple):
    """What a round asks for.

    Args:
        batches: The number of batches.
        batch_size: Pictures of each.
        size: Height and width of the crops.
        workers: Processes that decode; 0 for none but this one.
    """

    batches: int
    batch_size: int
    size: int
    workers: int


def ours(root: Path, work: Work, stack: ExitStack) -> Epoch:
    """Return this package's way to show pictures."""
    preprocessing = Preprocessing(work.size, work.size, "random-resized-crop")
    images = stack.enter_context(closing(open_images(root, preprocessing, workers=work.workers)))
    if images.train_size < work.batches * work.batch_size:
        raise SpecError(
            f"Expected at least {work.batches * work.batch_size} training pictures. "
            f"Received: {images.train_size}"
        )

    def epoch(number: int) -> int:
        shown = images.train_batches(
            seed=0, epoch=number, start=0, stop=work.batches, batch_size=work.batch_size
        )
        return sum(len(batch.images) for batch in shown)

    return epoch


def torchvision_s(root: Path, work: Work) -> Epoch:
    """Return torchvision's way to show pictures."""
    from torch.utils.data import DataLoader, RandomSampler
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    steps = [v2.RandomResizedCrop(work.size, antialias=True), v2.RandomHorizontalFlip()]
    pictures = ImageFolder(root / "train", v2.Compose([*steps, v2.PILToTensor()]))
    chosen = RandomSampler(pictures, num_samples=work.batches * work.batch_size)
    loader = DataLoader(
        pictures,
        work.batch_size,
        sampler=chosen,
        num_workers=work.workers,
        persistent_workers=work.workers > 0,
        multiprocessing_context="spawn" if work.workers else None,
    )
    return lambda _: sum(len(images) for images, _ in loader)


def measure(ways: dict[str, Epoch], rounds: int) -> dict[str, list[float]]:
    """Return each way's pictures a second in every round; one more comes before, to warm up."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name in list(ways)[:: 1 if number % 2 else -1]:
            began = time.perf_counter()
            pictures = ways[name](number)
            if number:
                rates[name].append(pictures / (time.perf_counter() - began))
    return rates


def summary(values: Iterable[float], digits: int) -> str:
    """Return median and quartiles in words."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)


@app.command()
def main(
    root: Annotated[Path, typer.Argument(metavar="DIR", help="Folders train and val.")],
    cache: Annotated[Path | None, typer.Option(help="A cache of the same pictures.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that decode.")] = 2,
    rounds: Annotated[int, typer.Option(min=2, help="Rounds that count.")] = 10,
    batches: Annotated[int, typer.Option(min=1, help="Batches of a round.")] = 8,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures of a batch.")] = 256,
    size: Annotated[int, typer.Option(min=1, help="Height and width of the crops.")] = 224,
) -> None:
    """Measure how many pictures a second are made ready."""
    work = Work(batches, batch_size, size, workers)
    with ExitStack() as stack:
        ways = {"ours": ours(root, work, stack), "torchvision": torchvision_s(root, work)}
        if cache is not None:
            ways["cache"] = ours(cache, work, stack)
        loads = [os.getloadavg()[0]]
        rates = measure(ways, rounds)
        loads.append(os.getloadavg()[0])
    typer.echo(f"{describe_machine()}; load {loads[0]:.1f} before, {loads[1]:.1f} after")
    versions = (f"{name} {importlib.metadata.version(name)}" for name in ("pillow", "torchvision"))
    typer.echo(f"{', '.join(versions)}, libjpeg-turbo {features.version('libjpeg_turbo')}")
    typer.echo(f"{work}; median (quartiles) of {rounds} rounds")
    for name, found in rates.items():
        ratios = [a / b for a, b in zip(found, rates["torchvision"], strict=True)]
        typer.echo(f"{name:>12} {summary(found, 0)} pictures/s, {summary(ratios, 3)} x torchvision")


if __name__ == "__main__":
    app()
