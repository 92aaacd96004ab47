"""What mutants are made of: the reference, with a seam for each kind of sin."""

from collections.abc import Mapping
from typing import Any, ClassVar

from antiparallel.spec import Geometry, Rule, Scale, as_rule, feedback_scale, layers
from antiparallel.spec.contract import Array, Gradients
from antiparallel.spec.draws import Purpose, draw
from antiparallel.spec.reference import ReferenceBackend, ReferenceLayer


class SinfulLayer:
    """A layer that behaves like the reference's until a method is overridden."""

    def __init__(
        self,
        geometry: Geometry,
        weight: Array,
        bias: Array | None,
        rule: Rule | str,
        *,
        scale: Scale = "paper",
        seed: int = 0,
        index: int = 0,
    ) -> None:
        self.inner = ReferenceLayer(
            geometry, weight, bias, rule, scale=scale, seed=seed, index=index
        )
        self.geometry, self.rule, self.scale = geometry, as_rule(rule).name, scale
        self.seed, self.index, self.count = seed, index, 0
        self.first, self.weight, self.bias = weight.copy(), weight.copy(), bias

    def matrix(self) -> Array:
        return self.inner.feedback()

    def feedback(self) -> Array:
        return self.matrix()

    def forward(self, x: Array) -> Array:
        return self.inner.forward(x)

    def backward(self, x: Array, error: Array) -> Gradients:
        feedback = self.matrix()
        gradients = self.inner.backward(x, error)
        self.count += 1
        return gradients._replace(input=self.send_back(x, error, feedback))

    def send_back(self, x: Array, error: Array, feedback: Array) -> Array:
        return layers.backward(self.geometry, x, error, feedback).input

    def set_weight(self, weight: Array) -> None:
        self.inner.set_weight(weight)
        self.weight = weight.copy()

    def state(self) -> Mapping[str, Any]:
        return self.inner.state()

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.inner.load_state(state)

    def drawn(self, purpose: Purpose, count: int = 0, **changes: Any) -> Array:
        """Return a draw of this layer, in its dtype; ``changes`` replace arguments of draw."""
        arguments = {"seed": self.seed, "index": self.index, "count": count} | changes
        scale = arguments.pop("scale", feedback_scale(self.geometry, self.scale))
        values = draw(self.geometry, scale, purpose=purpose, **arguments)
        return values.astype(self.first.dtype)


class SinfulBackend(ReferenceBackend):
    """The reference, with layers of another class."""

    Layer: ClassVar[type[SinfulLayer]] = SinfulLayer

    def layer(self, geometry, weight, bias, rule, **options):  # type: ignore[no-untyped-def]
        return self.Layer(geometry, weight, bias, rule, **options)
