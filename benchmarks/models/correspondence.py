"""One network in two libraries: weights and feedback by torchvision's names and by KerasHub's.

Mappings are between arrays by name, so that neither framework is needed: on one side torchvision's
``state_dict`` names and canonical layouts, on the other names ``layer/variable`` with Keras's
layouts. Feedback matrices of converted models are mapped too. They must be, under ``fa`` and
``ss-fixed``: where the libraries list layers in other orders, the draws of the two by index change
places.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antiparallel.spec import Scale, SpecError

Arrays = dict[str, NDArray[Any]]

_NORMALIZATION = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
_LAYER = {"weight": "kernel", "bias": "bias", "feedback": "feedback", "magnitude": "magnitude"}


@dataclass(frozen=True)
class Correspondence:
    """Names of the same layers in both libraries.

    Args:
        network: What it is called in errors.
        layers: KerasHub's names of the weight layers by torchvision's, in torchvision's order. In
            a model's path ``outer/inner/layer`` they are the end.
        normalizations: The same of the batch normalisations.
    """

    network: str
    layers: Mapping[str, str]
    normalizations: Mapping[str, str]

    def torch_to_keras(self, state: Mapping[str, NDArray[Any]]) -> Arrays:
        """Return arrays by torchvision's names as KerasHub's.

        Args:
            state: Arrays by the names of torchvision's ``state_dict``, plain or converted;
                ``num_batches_tracked`` is left out.

        Returns:
            Arrays by KerasHub's names, ``layer/variable``, in Keras's layouts.

        Raises:
            SpecError: A name is not the network's.
        """
        names = self._names()
        counted = {name: array for name, array in state.items() if not name.endswith("_tracked")}
        self._require_known(counted, names)
        return {names[name]: _to_keras(array) for name, array in counted.items()}

    def keras_to_torch(self, state: Mapping[str, NDArray[Any]]) -> Arrays:
        """Return arrays by KerasHub's names as torchvision's; the inverse of ``torch_to_keras``.

        Raises:
            SpecError: A name is not the network's.
        """
        names = {keras: torch for torch, keras in self._names().items()}
        self._require_known(state, names)
        return {names[name]: _to_torch(array) for name, array in state.items()}

    def read_keras(self, model: Any) -> Arrays:
        """Return a KerasHub model's variables by the names of ``torch_to_keras``."""
        import keras

        return {
            name: np.array(keras.ops.convert_to_numpy(variable))
            for name, variable in self.keras_variables(model)
        }

    def write_keras(self, model: Any, state: Mapping[str, NDArray[Any]]) -> None:
        """Assign arrays by the names of ``torch_to_keras`` to a KerasHub model.

        Raises:
            SpecError: Names or shapes are not the model's. Nothing is changed then.
        """
        variables = dict(self.keras_variables(model))
        shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
        found = {name: array.shape for name, array in state.items()}
        if shapes != found:
            wrong = sorted(n for n in shapes.keys() | found.keys() if shapes.get(n) != found.get(n))
            raise SpecError(f"Expected the model's names and shapes. Received: {', '.join(wrong)}")
        for name, array in state.items():
            variables[name].assign(array)

    def keras_variables(self, model: Any) -> Iterator[tuple[str, Any]]:
        """Yield a KerasHub model's variables with their names, feedback included."""
        from antiparallel.keras.inventory import named_layers

        seen: set[int] = set()
        for path, layer in named_layers(model):
            name = self.keras_name(path)
            if name is None or id(layer) in seen:
                continue
            seen.add(id(layer))
            feedback = getattr(layer, "feedback_state", None)
            kept = [] if feedback is None else list(feedback.weights)
            for variable in layer.weights:
                if not any(variable is matrix for matrix in kept):
                    yield f"{name}/{variable.name}", variable
            for matrix in kept:
                yield f"{name}/{matrix.name.removeprefix('kernel_')}", matrix

    def layer_names(self) -> dict[str, str]:
        """Return torchvision's names of the weight layers, in its order, by KerasHub's."""
        return {keras: torch for torch, keras in self.layers.items()}

    def recorded_name(self, path: str) -> str:
        """Return torchvision's name of the weight layer at a path in a KerasHub model."""
        name = self.keras_name(path)
        assert name is not None
        return self.layer_names()[name]

    def keras_name(self, path: str) -> str | None:
        """Return the layer's name that a path in a KerasHub model ends in, None for others."""
        ends = [path.split("/", depth)[-1] for depth in range(path.count("/") + 1)]
        known = {*self.layers.values(), *self.normalizations.values()}
        return next((end for end in ends if end in known), None)

    def number_as_torchvision(self, model: Any, scale: Scale, seed: int) -> None:
        """Draw weights and feedback of a converted model anew where its layers have other numbers.

        Layers are numbered in the order of their model, which the libraries do not share.

        Args:
            model: KerasHub's model, converted and initialised.
            scale: lambda's convention.
            seed: The seed.
        """
        from antiparallel.benchmarks.models.keras3 import draw_anew
        from antiparallel.keras.inventory import weight_layers

        order = list(self.layers.values())
        for found in weight_layers(model):
            name = self.keras_name(found.name)
            assert name is not None
            if (index := order.index(name)) != found.index:
                draw_anew(found.module, scale, (seed, index))

    def _names(self) -> dict[str, str]:
        """Return torchvision's names and KerasHub's for the same variables."""
        return {
            f"{torch}.{theirs}": f"{keras}/{ours}"
            for layers, variables in (
                (self.layers, _LAYER),
                (self.normalizations, _NORMALIZATION),
            )
            for torch, keras in layers.items()
            for theirs, ours in variables.items()
        }

    def _require_known(self, state: Mapping[str, Any], names: Mapping[str, str]) -> None:
        if unknown := sorted(set(state) - set(names)):
            raise SpecError(f"Expected names of a {self.network}. Received: {', '.join(unknown)}")


def _to_keras(array: NDArray[Any]) -> NDArray[Any]:
    order = {2: (1, 0), 4: (2, 3, 1, 0)}.get(array.ndim)
    return array.copy() if order is None else np.ascontiguousarray(array.transpose(order))


def _to_torch(array: NDArray[Any]) -> NDArray[Any]:
    order = {2: (1, 0), 4: (3, 2, 0, 1)}.get(array.ndim)
    return array.copy() if order is None else np.ascontiguousarray(array.transpose(order))
