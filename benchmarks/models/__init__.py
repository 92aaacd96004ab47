"""The benchmarks' networks: model libraries' where they have them, else described here."""

from antiparallel.benchmarks.models.networks import AlexNet, ConvNet

__all__ = ["AlexNet", "ConvNet"]
