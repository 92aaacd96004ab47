"""The same ResNet-18 in torchvision and in KerasHub: weights and feedback, mapped both ways.

Mappings are between arrays by name, so that neither framework is needed: on one side torchvision's
``state_dict`` names and canonical layouts, on the other names ``layer/variable`` with Keras's
layouts. Feedback matrices of converted models are mapped too. They must be, under ``fa`` and
``ss-fixed``: in a block that halves the picture torchvision lists the shortcut after both other
convolutions, KerasHub between them, so the draws of the two by index change places.

KerasHub's own model keeps the biased running variance, torch's the unbiased one, which evaluation
uses; ``models.keras3.resnet18`` keeps the unbiased one too.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antiparallel.spec import Scale, SpecError, feedback_scale
from antiparallel.spec.draws import Purpose

Arrays = dict[str, NDArray[Any]]

KERAS_HUB_RESNET18: dict[str, Any] = {
    "input_conv_filters": [64],
    "input_conv_kernel_sizes": [7],
    "stackwise_num_filters": [64, 128, 256, 512],
    "stackwise_num_blocks": [2, 2, 2, 2],
    "stackwise_num_strides": [1, 2, 2, 2],
    "block_type": "basic_block",
    "use_pre_activation": False,
}
"""The arguments with which ``keras_hub.models.ResNetBackbone`` is ``resnet_18_imagenet``."""

_NORMALIZATION = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
_WEIGHTS = {"weight": "kernel", "feedback": "feedback", "magnitude": "magnitude"}


def torch_to_keras(state: Mapping[str, NDArray[Any]]) -> Arrays:
    """Return torchvision's ResNet-18 as KerasHub's.

    Args:
        state: Arrays by the names of torchvision's ``state_dict``, plain or converted;
            ``num_batches_tracked`` is left out.

    Returns:
        Arrays by KerasHub's names, ``layer/variable``, in Keras's layouts.

    Raises:
        SpecError: A name is not ResNet-18's.
    """
    names = _names()
    counted = {name: array for name, array in state.items() if not name.endswith("_tracked")}
    _require_known(counted, names)
    return {names[name]: _to_keras(array) for name, array in counted.items()}


def keras_to_torch(state: Mapping[str, NDArray[Any]]) -> Arrays:
    """Return KerasHub's ResNet-18 as torchvision's; the inverse of ``torch_to_keras``.

    Raises:
        SpecError: A name is not ResNet-18's.
    """
    names = {keras: torch for torch, keras in _names().items()}
    _require_known(state, names)
    return {names[name]: _to_torch(array) for name, array in state.items()}


def read_keras(model: Any) -> Arrays:
    """Return a KerasHub ResNet-18's variables by the names of ``torch_to_keras``."""
    import keras

    return {
        name: np.array(keras.ops.convert_to_numpy(variable))
        for name, variable in keras_variables(model)
    }


def write_keras(model: Any, state: Mapping[str, NDArray[Any]]) -> None:
    """Assign arrays by the names of ``torch_to_keras`` to a KerasHub ResNet-18.

    Raises:
        SpecError: Names or shapes are not the model's. Nothing is changed then.
    """
    variables = dict(keras_variables(model))
    shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
    found = {name: array.shape for name, array in state.items()}
    if shapes != found:
        wrong = sorted(n for n in shapes.keys() | found.keys() if shapes.get(n) != found.get(n))
        raise SpecError(f"Expected the model's names and shapes. Received: {', '.join(wrong)}")
    for name, array in state.items():
        variables[name].assign(array)


def keras_variables(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield a KerasHub ResNet-18's variables with their names, feedback included."""
    for layer in (*model.backbone.layers, model.get_layer("predictions")):
        feedback = getattr(layer, "feedback_state", None)
        kept = [] if feedback is None else list(feedback.weights)
        for variable in layer.weights:
            if not any(variable is matrix for matrix in kept):
                yield f"{layer.name}/{variable.name}", variable
        for matrix in kept:
            yield f"{layer.name}/{matrix.name.removeprefix('kernel_')}", matrix


def layer_names() -> dict[str, str]:
    """Return torchvision's names of the weight layers, in its order, by KerasHub's."""
    return {f"{keras}_conv": torch for torch, keras in _layers()} | {"predictions": "fc"}


def number_as_torchvision(model: Any, scale: Scale, seed: int) -> None:
    """Draw weights and feedback of a converted model anew where its layers have other numbers.

    Layers are numbered in the order of their model; in three blocks the orders of KerasHub and
    torchvision differ.

    Args:
        model: KerasHub's ResNet-18, converted and initialised.
        scale: lambda's convention.
        seed: The seed.
    """
    from antiparallel.keras.attachment import attachment
    from antiparallel.keras.inventory import weight_layers
    from antiparallel.keras.layout import draw_like, kernels

    order = list(layer_names())
    for found in weight_layers(model):
        layer = found.module
        index = order.index(layer.name)
        if index == found.index:
            continue
        (kernel,) = kernels(layer)
        lam = feedback_scale(kernel.geometry, scale)
        dtype = layer.kernel.dtype
        layer.kernel.assign(
            draw_like(kernel, dtype, lam, seed=seed, index=index, purpose=Purpose.WEIGHT)
        )
        if hasattr(layer, "rule"):
            renumbered = attachment(layer, layer.rule, layer.scale, (seed, index))
            layer.detach_rule()
            layer.attach(renumbered)


def _names() -> dict[str, str]:
    """Return torchvision's names and KerasHub's for the same variables."""
    names: dict[str, str] = {}
    for torch, keras in _layers():
        names |= {f"{torch}.{theirs}": f"{keras}_conv/{ours}" for theirs, ours in _WEIGHTS.items()}
        norm = torch.replace("conv", "bn").replace("downsample.0", "downsample.1")
        names |= {
            f"{norm}.{theirs}": f"{keras}_bn/{ours}" for theirs, ours in _NORMALIZATION.items()
        }
    names |= {f"fc.{theirs}": f"predictions/{ours}" for theirs, ours in _WEIGHTS.items()}
    return names | {"fc.bias": "predictions/bias"}


def _layers() -> Iterator[tuple[str, str]]:
    yield "conv1", "conv1"
    for stack in range(4):
        for block in range(2):
            theirs, ours = f"layer{stack + 1}.{block}", f"stack{stack}_block{block}"
            yield f"{theirs}.conv1", f"{ours}_1"
            yield f"{theirs}.conv2", f"{ours}_2"
            if stack and not block:
                yield f"{theirs}.downsample.0", f"{ours}_0"


def _to_keras(array: NDArray[Any]) -> NDArray[Any]:
    order = {2: (1, 0), 4: (2, 3, 1, 0)}.get(array.ndim)
    return array.copy() if order is None else np.ascontiguousarray(array.transpose(order))


def _to_torch(array: NDArray[Any]) -> NDArray[Any]:
    order = {2: (1, 0), 4: (3, 2, 0, 1)}.get(array.ndim)
    return array.copy() if order is None else np.ascontiguousarray(array.transpose(order))


def _require_known(state: Mapping[str, Any], names: Mapping[str, str]) -> None:
    if unknown := sorted(set(state) - set(names)):
        raise SpecError(f"Expected names of a ResNet-18. Received: {', '.join(unknown)}")
