"""The pictures, in an order that is a pure function of (seed, epoch)."""

from collections.abc import Callable

from antiparallel.benchmarks.data.batches import Batch, Dataset
from antiparallel.benchmarks.data.digits import digits
from antiparallel.benchmarks.data.order import order

__all__ = ["DATASETS", "Batch", "Dataset", "digits", "order"]

DATASETS: dict[str, Callable[[], Dataset]] = {"digits": digits}
"""What loads each tier's pictures."""
