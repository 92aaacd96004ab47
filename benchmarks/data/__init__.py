"""The pictures, in an order that is a pure function of (seed, epoch)."""

from antiparallel.benchmarks.data.batches import WHOLE, Batch, Dataset, Part, Scored
from antiparallel.benchmarks.data.digits import digits
from antiparallel.benchmarks.data.order import order

__all__ = ["WHOLE", "Batch", "Dataset", "Part", "Scored", "digits", "order"]
