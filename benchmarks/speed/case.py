"""What is measured: one network, one batch, one way of training it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Model = Literal["resnet18", "resnet50", "alexnet", "vit", "retinanet", "convnet"]
Precision = Literal["float32", "bfloat16"]
Way = Literal["alone", "accumulated", "checkpointed", "ddp", "fsdp2", "devices"]

PROCESSES: tuple[Way, ...] = ("ddp", "fsdp2")
"""Ways of training in several processes."""

TOGETHER: tuple[Way, ...] = (*PROCESSES, "devices")
"""Ways whose parts speak to each other."""


class Case(BaseModel):
    """One network, one batch, one way of training it, on one machine.

    Args:
        model: The network. ``resnet50`` and ``vit`` (ViT-B/16) are the libraries' own, with 1,000
            classes; ``retinanet`` is the benchmarks' with a ResNet-18; ``convnet`` the digits'.
        batch: Pictures in a step, over all parts.
        pixels: Height and width of the pictures.
        compiled: ``torch.compile`` of the network, or Keras's ``jit_compile``.
        precision: What is computed in: see ``Recipe``.
        error_dtype: What errors are rounded to on their way through B, if to anything.
        channels_last: Torch's memory format; Keras's pictures have their channels last always.
        way: ``"accumulated"``: gradients of ``parts`` small batches are added up before the
            update; ``"checkpointed"``: activations are computed again in the backward pass;
            ``"ddp"`` and ``"fsdp2"``: ``parts`` processes; ``"devices"``: Keras's data-parallel
            distribution over ``parts`` devices.
        parts: How many parts of a batch.
        threads: CPU threads of a process.
        device: Where it is computed, ``"cpu"`` or ``"cuda"``.
        seed: Seed of weights, feedback, pictures and the order of measurements.
        width: Channels of a ``convnet``'s layers.
        depth: Number of a ``convnet``'s layers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Model = "resnet18"
    batch: int = Field(default=32, ge=1)
    pixels: int = Field(default=224, ge=1)
    compiled: bool = False
    precision: Precision = "float32"
    error_dtype: Precision | None = None
    channels_last: bool = False
    way: Way = "alone"
    parts: int = Field(default=1, ge=1)
    threads: int = Field(default=2, ge=1)
    device: str = "cpu"
    seed: int = Field(default=0, ge=0)
    width: int = Field(default=32, ge=1)
    depth: int = Field(default=8, ge=1)

    @property
    def remarks(self) -> list[str]:
        """All but network, batch and pictures that differs from the defaults, in words."""
        usual = Case()
        remarks = {
            "compiled": self.compiled,
            self.precision: self.precision != usual.precision,
            f"{self.error_dtype}-errors": self.error_dtype != usual.error_dtype,
            "channels-last": self.channels_last,
            self.way: self.way != usual.way,
            _counted(self.parts, "part"): self.parts != usual.parts,
            _counted(self.threads, "thread"): self.threads != usual.threads,
            self.device.replace(":", ""): self.device != usual.device,
            f"seed-{self.seed}": self.seed != usual.seed,
        }
        return [remark for remark, differs in remarks.items() if differs]

    @property
    def name(self) -> str:
        """The case in a word, as in files' names."""
        size = f"-w{self.width}-d{self.depth}" if self.model == "convnet" else ""
        return "-".join([f"{self.model}{size}", f"{self.batch}x{self.pixels}", *self.remarks])


def _counted(number: int, thing: str) -> str:
    return f"{number}-{thing}" if number == 1 else f"{number}-{thing}s"
