"""The stepper on PyTorch."""

import copy
from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import antiparallel.torch as ap
from antiparallel.benchmarks.data import Batch, Dataset
from antiparallel.benchmarks.models.pytorch import build as build_model
from antiparallel.benchmarks.models.pytorch import start
from antiparallel.benchmarks.processes import ALONE, Processes
from antiparallel.benchmarks.recipes import Recipe
from antiparallel.benchmarks.stepper import (
    Evaluation,
    Losses,
    State,
    Trained,
    combined,
    process_memory,
)
from antiparallel.benchmarks.steppers.pytorch_processes import (
    TorchProcesses,
    gathered,
    joined,
    spread_like,
    unwrapped,
    whole,
)
from antiparallel.benchmarks.tasks.pytorch import (
    Outputs,
    in_float32,
    targets_of,
    task_of,
    tensors,
)
from antiparallel.spec import SpecError
from antiparallel.spec.contract import Diagnostics

__all__ = ["PyTorchStepper", "build", "find_device", "joined"]


class PyTorchStepper:
    """A converted torch model and the specification's SGD.

    Args:
        recipe: What it is built from.
        model: The model, converted and initialised; ``Processes.spread`` may have wrapped it.
        optimizer: Its optimizer.
        dataset: Its pictures, for their mean and deviation.
        processes: The processes that train it together.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: nn.Module,
        optimizer: ap.SGD,
        dataset: Dataset,
        processes: Processes = ALONE,
    ) -> None:
        self._model: nn.Module = unwrapped(model)
        self._network = torch.compile(model) if recipe.compiled else model
        self._running = [b for b in self._model.buffers() if b.is_floating_point()]
        self._precision = recipe.precision
        self._processes = processes
        self._settled = not isinstance(model, DistributedDataParallel)
        self._device = next(model.parameters()).device
        self._optimizer = optimizer
        self._task = task_of(recipe, self._model)
        self._mean = torch.tensor(dataset.mean, device=self._device)
        self._deviation = torch.tensor(dataset.deviation, device=self._device)

    def train(self, batches: Iterable[Batch], lr: float, sums: Mapping[str, float]) -> Trained:
        """Make one update per batch; see ``Stepper``."""
        self._model.train()
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        names = ("examples", *self._task.metrics)
        totals = dict.fromkeys(names, 0.0) | dict(sums)
        losses: Losses = {name: [] for name in self._task.losses}
        for batch in batches:
            images, targets = self._images(batch), targets_of(batch, self._device)
            if not self._settled:
                self._settle(images)
            seen = self._task.judge(self._outputs(images), targets)
            self._optimizer.zero_grad()
            torch.autograd.backward(seen.loss)
            counted = self._processes.combine([len(images), *seen.sums], self._running)
            found = dict(zip(names, counted, strict=True))
            for name, number in found.items():
                totals[name] += number
            for name, kept in losses.items():
                kept.append(found[name] / found["examples"])
            if not isfinite(losses["loss"][-1]):
                break
            self._optimizer.step()
        return Trained(totals, losses)

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> Evaluation:
        """Return mean losses and errors, and answers; see ``Stepper``."""
        self._model.eval()
        totals = dict.fromkeys(self._task.metrics, 0.0)
        answers: list[list[Any]] = []
        for batch in batches:
            images = self._images(batch)
            if not len(images):  # another process has the rest, and shards that meet at each layer
                self._outputs(images.new_zeros(1, *images.shape[1:]))
                answers.append([])
                continue
            outputs = self._outputs(images)
            seen = self._task.judge(outputs, targets_of(batch, self._device))
            for name, number in zip(totals, seen.sums, strict=True):
                totals[name] += number
            answers.append(self._task.answers(outputs))
        return combined(totals, answers, self._processes)

    def state(self) -> State:
        """Return parameters, buffers, feedback and momentum; see ``Stepper``."""
        tensors = {f"model.{name}": value for name, value in self._model.state_dict().items()}
        for index, slots in self._optimizer.state_dict()["state"].items():
            tensors |= {
                f"optimizer.{index}.{name}": slot
                for name, slot in slots.items()
                if slot is not None
            }
        # In one order, since processes that hold shards of them have to meet for each.
        return {name: whole(tensors[name]).cpu().numpy().copy() for name in sorted(tensors)}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore what ``state`` returned; see ``Stepper``."""
        likes = self._model.state_dict()
        parameters = list(self._model.parameters())
        model: dict[str, Tensor] = {}
        slots: dict[int, dict[str, Tensor]] = {}
        for name, array in state.items():
            part, _, rest = name.partition(".")
            tensor = torch.from_numpy(array.copy())
            if part == "model":
                model[rest] = spread_like(tensor, likes[rest]) if rest in likes else tensor
            else:
                index, _, slot = rest.partition(".")
                like = parameters[int(index)]
                slots.setdefault(int(index), {})[slot] = spread_like(tensor, like)
        self._model.load_state_dict(model, strict=True)
        self._optimizer.load_state_dict(self._optimizer.state_dict() | {"state": slots})

    def diagnostics(self) -> dict[str, Diagnostics]:
        """Return the diagnostics of each weight layer; see ``Stepper``."""
        with gathered(self._model):
            return ap.diagnostics(self._model)

    def describe(self) -> dict[str, str]:
        """Return versions, device and threads; see ``Stepper``."""
        on_gpu = self._device.type == "cuda"
        device = torch.cuda.get_device_name(self._device) if on_gpu else str(self._device)
        threads = str(torch.get_num_threads())
        return {
            "torch": torch.__version__,
            "device": device,
            "threads": threads,
            **self._processes.describe(),
        }

    def memory(self) -> int:
        """Return the most memory used so far; see ``Stepper``."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        return process_memory()

    def _settle(self, images: Tensor) -> None:
        """Let DistributedDataParallel arrange its messages, as it does after a backward pass.

        Sums over three processes and more depend on the arrangement: a resumed run would else
        begin with other bits than the run that went on. Nothing but the arrangement remains.
        """
        before = copy.deepcopy(self._model.state_dict())
        outputs = tensors(self._outputs(images))
        torch.autograd.backward([output.sum() for output in outputs])
        self._model.load_state_dict(before)
        self._settled = True

    def _outputs(self, images: Tensor) -> Outputs:
        mixed = self._precision != "float32"
        with torch.autocast(self._device.type, getattr(torch, self._precision), enabled=mixed):
            outputs: Outputs = self._network(images)
        return in_float32(outputs) if mixed else outputs

    def _images(self, batch: Batch) -> Tensor:
        """Return a batch's pictures, standardised, as torch has them: channels first."""
        images = torch.from_numpy(batch.images).to(self._device)
        return ((images.float() - self._mean) / self._deviation).permute(0, 3, 1, 2)


def build(
    recipe: Recipe, seed: int, dataset: Dataset, processes: Processes = ALONE
) -> PyTorchStepper:
    """Build the recipe's model, converted and initialised by the specification."""
    torch.set_num_threads(recipe.threads)
    device = (
        processes.device if isinstance(processes, TorchProcesses) else find_device(recipe.device)
    )
    model = build_model(recipe, len(dataset.mean), dataset.classes)
    ap.convert(
        model,
        rule=recipe.rule,
        overrides=recipe.overrides,
        scale=recipe.scale,
        seed=seed,
        error_dtype=None if recipe.error_dtype is None else getattr(torch, recipe.error_dtype),
    )
    start(model, recipe, seed)
    model.to(device).to(memory_format=torch.channels_last)  # pictures' own order, and faster
    model = processes.spread(model)
    optimizer = ap.SGD(
        model.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        batch_manhattan=recipe.batch_manhattan,
        keep_signs=recipe.keep_signs,
    )
    return PyTorchStepper(recipe, model, optimizer, dataset, processes)


def find_device(name: str) -> torch.device:
    """Return a device by its name, or raise SpecError where torch cannot use it."""
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise SpecError(
            f"Expected a device that torch can use ({reason}). Received: device={name!r}"
        ) from error
