"""Networks of the benchmarks that no model library has, described apart from any framework."""

from antiparallel.benchmarks.models.convnet import ConvNet

__all__ = ["ConvNet"]
