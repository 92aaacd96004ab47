"""Keras's weight layers with a feedback rule.

Each is the ``keras.layers`` layer of the same name, with its signature and the keyword arguments
``rule``, ``scale``, ``seed``, ``keep_feedback`` and ``error_dtype`` of ``convert``. Forward results
are Keras's own; only the error that the layer sends to its input is computed with B.
"""

import inspect
from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from typing import Any, cast

from keras import layers, ops
from keras.backend import standardize_dtype
from keras.saving import register_keras_serializable

from antiparallel.keras import functional
from antiparallel.keras.attachment import (
    Attachment,
    FeedbackState,
    Seed,
    attachment,
    floating,
    state_name,
    stream_of,
)
from antiparallel.keras.engines import engine
from antiparallel.keras.feedback import Feedback, Redrawn, matrix_of, rounded_scale
from antiparallel.keras.layout import WeightLayer, kernels
from antiparallel.spec import (
    Backprop,
    Rule,
    Scale,
    SignSymmetry,
    SpecError,
    UnsupportedError,
    as_rule,
    feedback_scale,
)
from antiparallel.spec import (
    Dense as DenseGeometry,
)


class FeedbackLayer(layers.Layer):
    """A weight layer with a feedback rule.

    Attributes:
        rule: The rule.
        scale: What lambda is, as it was asked for.
        stream: The seed and the index that draws are keyed by; a second kernel has the next index.
        feedback_scale: lambda of each kernel, by the kernel's name; known once built.
        keep_feedback: Whether the rule keeps numbers that never change.
        error_dtype: What errors are rounded to on their way through B.
        feedback_state: What the rule keeps and draws, None for ``bp`` and ``ss``.
    """

    rule: Rule
    scale: Scale
    stream: tuple[int, int]
    feedback_scale: Mapping[str, float]
    keep_feedback: bool
    error_dtype: str | None
    feedback_state: FeedbackState | None

    def __init__(
        self,
        *args: Any,
        rule: Rule | str = "ss",
        scale: Scale = "paper",
        seed: Seed = None,
        keep_feedback: bool = True,
        error_dtype: str | None = None,
        **kwargs: Any,
    ) -> None:
        rule = as_rule(rule)
        feedback_scale(DenseGeometry(1, 1), scale)  # refuses what is none
        stream = stream_of(rule, seed)
        error_dtype = floating(error_dtype)
        super().__init__(*args, **kwargs)
        self.rule, self.scale, self.stream = rule, scale, stream
        self.keep_feedback, self.error_dtype = keep_feedback, error_dtype
        self.feedback_state = None

    def build(self, input_shape: Any) -> None:
        """Make Keras's variables and what the rule keeps."""
        super().build(input_shape)
        self.built = True
        layer = cast(WeightLayer, self)
        chosen = (self.rule, self.scale, self.stream, self.keep_feedback, self.error_dtype)
        self.attach(attachment(layer, *chosen))

    def attach(self, attachment: Attachment) -> None:
        """Set the rule and what belongs to it."""
        self.rule = attachment.rule
        self.scale = attachment.scale
        self.stream = attachment.stream
        self.feedback_scale = dict(attachment.feedback_scale)
        self.keep_feedback = attachment.keep_feedback
        self.error_dtype = attachment.error_dtype
        locked = self._tracker.locked  # a built layer takes no new state, as under enable_lora
        self._tracker.unlock()
        try:
            stateful = state_name(attachment.rule, attachment.keep_feedback)
            self.feedback_state = FeedbackState(self, attachment) if stateful else None
        finally:
            if locked:
                self._tracker.lock()
        draws = self.feedback_state is not None and self.feedback_state.draws
        if draws and "draws under jit" in engine.LACKS:
            self.supports_jit = False

    def detach_rule(self) -> None:
        """Remove the rule and what belongs to it, for the way back to the plain layer."""
        if self.feedback_state is not None:
            self._tracker.untrack(self.feedback_state)
            self.supports_jit = True
        for name in (*(field.name for field in fields(Attachment)), "feedback_state"):
            delattr(self, name)

    def feedback_matrix(self, kernel: str = "kernel") -> Any:
        """Return B, in the layout of a kernel, as the next backward pass will use it.

        Args:
            kernel: Its name; separable ones have ``depthwise_kernel``, ``pointwise_kernel``.

        Raises:
            SpecError: The layer has no such kernel.
            UnsupportedError: The layer is not built.
        """
        if kernel not in (names := [found.name for found in kernels(cast(WeightLayer, self))]):
            raise SpecError(f"Expected one of the kernels {names}. Received: kernel={kernel!r}")
        weight = engine.as_tensor(getattr(self, kernel))
        if isinstance(self.rule, Backprop):
            return weight
        matrix, magnitude, _ = self._feedback(kernel, weight)
        if callable(magnitude):
            assert self.feedback_state is not None
            magnitude = engine.as_tensor(self.feedback_state.magnitude(kernel))
        return matrix_of(Feedback(matrix, magnitude))

    def get_config(self) -> dict[str, Any]:
        """Return Keras's own configuration and the rule's."""
        return super().get_config() | {
            "rule": self.rule.name,
            "scale": self.scale,
            "seed": list(self.stream),
            "keep_feedback": self.keep_feedback,
            "error_dtype": self.error_dtype,
        }

    def quantized_call(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse: quantised weights have no feedback rule.

        Raises:
            UnsupportedError: Always.
        """
        raise UnsupportedError(
            "Expected weights in floating point: quantised ones cannot follow a rule. "
            f"Received: layer={self.name!r}"
        )

    def _feedback(self, name: str, weight: Any) -> Feedback:
        """Return how errors go back; weight is W as this forward pass uses it."""
        return self._matrix(name, weight)._replace(error_dtype=self.error_dtype)

    def _matrix(self, name: str, weight: Any) -> Feedback:
        """Return what B is made of."""
        state, scale = self.feedback_state, self.feedback_scale[name]
        if state is None:
            return Feedback(weight, scale)
        if state.entry == "feedback_stream":
            return Feedback(weight, partial(state.next_magnitude, name))
        magnitudes = isinstance(self.rule, SignSymmetry)
        if state.draws:
            return Feedback(weight, Redrawn(partial(state.fixed, name), magnitudes))
        kept = engine.as_tensor(state.matrices[name])
        if magnitudes:
            return Feedback(weight, kept)
        if self.keep_feedback:
            return Feedback(kept)
        dtype = standardize_dtype(weight.dtype)
        return Feedback(kept, ops.convert_to_tensor(rounded_scale(scale, dtype), dtype=dtype))

    def _activated(self, y: Any) -> Any:
        activation = cast(Any, self).activation
        return y if activation is None else activation(y)


@register_keras_serializable(package="antiparallel")
class Dense(FeedbackLayer, layers.Dense):
    """``keras.layers.Dense`` with a feedback rule."""

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Return ``f(x W + b)``; the error goes back through B."""
        if isinstance(self.rule, Backprop):
            return super().call(inputs, training=training)
        kernel = engine.as_tensor(self.kernel)
        feedback = self._feedback("kernel", kernel)
        return self._activated(functional.dense(inputs, kernel, feedback, self.bias))


@register_keras_serializable(package="antiparallel")
class EinsumDense(FeedbackLayer, layers.EinsumDense):
    """``keras.layers.EinsumDense`` with a feedback rule.

    The kernel counts as one matrix: its axes that the output has are outputs, the others inputs,
    each in the order of the kernel. An axis that is of both input and output is not supported.
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Return ``f(einsum(equation, x, W) + b)``; the error goes back through B."""
        if isinstance(self.rule, Backprop):
            return super().call(inputs, training=training)
        kernel = engine.as_tensor(self.kernel)
        feedback = self._feedback("kernel", kernel)
        y = functional.einsum_dense(self.equation, inputs, kernel, feedback, self.bias)
        return self._activated(y)


class _Convolution(FeedbackLayer):
    """What the three convolutions share."""

    def call(self, inputs: Any) -> Any:
        """Return the convolution; the error goes back through B."""
        if isinstance(self.rule, Backprop):
            return super().call(inputs)
        layer: Any = self
        padding = layer.padding
        if padding == "causal":
            # The error passes through this padding by its own derivative.
            inputs, padding = ops.pad(inputs, layer._compute_causal_padding()), "valid"
        kernel = engine.as_tensor(layer.kernel)
        y = functional.conv(
            inputs,
            kernel,
            self._feedback("kernel", kernel),
            layer.bias,
            strides=layer.strides,
            padding=padding,
            data_format=layer.data_format,
            dilation_rate=layer.dilation_rate,
        )
        return self._activated(y)


@register_keras_serializable(package="antiparallel")
class Conv1D(_Convolution, layers.Conv1D):
    """``keras.layers.Conv1D`` with a feedback rule."""


@register_keras_serializable(package="antiparallel")
class Conv2D(_Convolution, layers.Conv2D):
    """``keras.layers.Conv2D`` with a feedback rule."""


@register_keras_serializable(package="antiparallel")
class Conv3D(_Convolution, layers.Conv3D):
    """``keras.layers.Conv3D`` with a feedback rule."""


class _DepthwiseConvolution(FeedbackLayer):
    """What the two depthwise convolutions share."""

    def call(self, inputs: Any) -> Any:
        """Return the convolution; the error goes back through B."""
        if isinstance(self.rule, Backprop):
            return super().call(inputs)
        layer: Any = self
        kernel = engine.as_tensor(layer.kernel)
        y = functional.depthwise_conv(
            inputs,
            kernel,
            self._feedback("kernel", kernel),
            layer.bias,
            strides=layer.strides,
            padding=layer.padding,
            data_format=layer.data_format,
            dilation_rate=layer.dilation_rate,
        )
        return self._activated(y)


@register_keras_serializable(package="antiparallel")
class DepthwiseConv1D(_DepthwiseConvolution, layers.DepthwiseConv1D):
    """``keras.layers.DepthwiseConv1D`` with a feedback rule."""


@register_keras_serializable(package="antiparallel")
class DepthwiseConv2D(_DepthwiseConvolution, layers.DepthwiseConv2D):
    """``keras.layers.DepthwiseConv2D`` with a feedback rule."""


class _SeparableConvolution(FeedbackLayer):
    """What the two separable convolutions share: two kernels, with a B each."""

    def call(self, inputs: Any) -> Any:
        """Return the convolution; the error goes back through the Bs of both kernels."""
        if isinstance(self.rule, Backprop):
            return super().call(inputs)
        layer: Any = self
        depthwise = engine.as_tensor(layer.depthwise_kernel)
        pointwise = engine.as_tensor(layer.pointwise_kernel)
        y = functional.separable_conv(
            inputs,
            depthwise,
            pointwise,
            self._feedback("depthwise_kernel", depthwise),
            self._feedback("pointwise_kernel", pointwise),
            layer.bias,
            strides=layer.strides,
            padding=layer.padding,
            data_format=layer.data_format,
            dilation_rate=layer.dilation_rate,
        )
        return self._activated(y)


@register_keras_serializable(package="antiparallel")
class SeparableConv1D(_SeparableConvolution, layers.SeparableConv1D):
    """``keras.layers.SeparableConv1D`` with a feedback rule."""


@register_keras_serializable(package="antiparallel")
class SeparableConv2D(_SeparableConvolution, layers.SeparableConv2D):
    """``keras.layers.SeparableConv2D`` with a feedback rule."""


class _TransposedConvolution(FeedbackLayer):
    """What the three transposed convolutions share."""

    def call(self, inputs: Any) -> Any:
        """Return the transposed convolution; the error goes back through B."""
        if isinstance(self.rule, Backprop):
            return super().call(inputs)
        layer: Any = self
        kernel = engine.as_tensor(layer.kernel)
        y = functional.conv_transpose(
            inputs,
            kernel,
            self._feedback("kernel", kernel),
            layer.bias,
            strides=layer.strides,
            padding=layer.padding,
            output_padding=layer.output_padding,
            data_format=layer.data_format,
            dilation_rate=layer.dilation_rate,
        )
        return self._activated(y)


@register_keras_serializable(package="antiparallel")
class Conv1DTranspose(_TransposedConvolution, layers.Conv1DTranspose):
    """``keras.layers.Conv1DTranspose`` with a feedback rule."""


@register_keras_serializable(package="antiparallel")
class Conv2DTranspose(_TransposedConvolution, layers.Conv2DTranspose):
    """``keras.layers.Conv2DTranspose`` with a feedback rule."""


@register_keras_serializable(package="antiparallel")
class Conv3DTranspose(_TransposedConvolution, layers.Conv3DTranspose):
    """``keras.layers.Conv3DTranspose`` with a feedback rule."""


FEEDBACK_LAYERS: dict[type[layers.Layer], type[FeedbackLayer]] = {
    getattr(layers, layer.__name__): layer
    for layer in (
        Dense,
        EinsumDense,
        Conv1D,
        Conv2D,
        Conv3D,
        DepthwiseConv1D,
        DepthwiseConv2D,
        SeparableConv1D,
        SeparableConv2D,
        Conv1DTranspose,
        Conv2DTranspose,
        Conv3DTranspose,
    )
}
"""The layer with a rule for each plain one."""


def _with_rule_arguments(plain: type[layers.Layer]) -> inspect.Signature:
    rule_arguments = [
        parameter
        for parameter in inspect.signature(FeedbackLayer.__init__).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    *own, rest = inspect.signature(plain).parameters.values()
    return inspect.Signature([*own, *rule_arguments, rest])


for _plain, _layer in FEEDBACK_LAYERS.items():
    # Keras's own signature in help() and editors, whatever the installed Keras makes of it
    _layer.__signature__ = _with_rule_arguments(_plain)
