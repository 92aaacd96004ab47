"""Torch's weight layers with a feedback rule.

Each is the ``torch.nn`` layer of the same name, with its signature and the keyword arguments
``rule``, ``scale``, ``seed``, ``keep_feedback`` and ``error_dtype`` of ``convert``. Forward results
are torch's own; only the error that the layer sends to its input is computed with B.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from antiparallel.spec import (
    Backprop,
    FeedbackAlignment,
    Rule,
    Scale,
    SignSymmetry,
    SpecError,
)
from antiparallel.spec.draws import Purpose
from antiparallel.torch import functional
from antiparallel.torch.attachment import (
    Attachment,
    Seed,
    attachment,
    fixed_feedback,
    state_name,
)
from antiparallel.torch.feedback import Feedback, Redrawn, matrix_of, signed
from antiparallel.torch.layout import WeightLayer, draw_like, output_padding, weight_of


class FeedbackLayer(nn.Module):
    """A weight layer with a feedback rule.

    Fixed feedback is a plain tensor attribute: as a buffer it would be broadcast by
    ``DistributedDataParallel`` at every forward, as a parameter it would be sharded and trained.
    It moves and is saved with the layer all the same.

    Attributes:
        rule: The rule.
        feedback_scale: lambda.
        stream: The seed and the layer index that draws are keyed by.
        keep_feedback: Whether the rule keeps numbers that never change.
        error_dtype: What errors are rounded to on their way through B.
        feedback: What it keeps: B for feedback alignment, M for ``ss-fixed``, otherwise None.
            Without ``keep_feedback`` the signs of B, in int8, for ``fa-sign``, otherwise None.
        backward_count: For ``ss-batch``, how many backward passes drew magnitudes.
    """

    rule: Rule
    feedback_scale: float
    stream: tuple[int, int]
    keep_feedback: bool
    error_dtype: torch.dtype | None
    feedback: Tensor | None
    backward_count: int

    def __init__(
        self,
        *args: Any,
        rule: Rule | str = "ss",
        scale: Scale = "paper",
        seed: Seed = None,
        keep_feedback: bool = True,
        error_dtype: torch.dtype | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        layer = cast(WeightLayer, self)
        self.attach(attachment(layer, rule, scale, seed, keep_feedback, error_dtype))

    def attach(self, attachment: Attachment) -> None:
        """Set the rule and what belongs to it."""
        self.rule = attachment.rule
        self.feedback_scale = attachment.feedback_scale
        self.stream = attachment.stream
        self.keep_feedback = attachment.keep_feedback
        self.error_dtype = attachment.error_dtype
        self.feedback = attachment.feedback
        self.backward_count = 0

    def detach_rule(self) -> None:
        """Remove the rule and what belongs to it, for the way back to the plain layer."""
        for name in (*(field.name for field in fields(Attachment)), "backward_count"):
            delattr(self, name)

    def feedback_matrix(self) -> Tensor:
        """Return B, in the layout of the weights, as the next backward pass will use it."""
        weight = weight_of(cast(WeightLayer, self))
        if isinstance(self.rule, Backprop):
            return weight
        matrix, magnitude, _ = self._feedback(weight)
        if callable(magnitude):
            magnitude = self._drawn_magnitude()
        return matrix_of(Feedback(matrix, magnitude))

    def extra_repr(self) -> str:
        """Return torch's own text and the rule."""
        not_kept = "" if self.keep_feedback else ", keep_feedback=False"
        narrowed = "" if self.error_dtype is None else f", error_dtype={self.error_dtype}"
        return f"{super().extra_repr()}, rule={self.rule.name}{not_kept}{narrowed}"

    def _feedback(self, weight: Tensor) -> Feedback:
        """Return how errors go back; weight is W as this forward pass uses it."""
        return self._matrix(weight)._replace(error_dtype=self.error_dtype)

    def _matrix(self, weight: Tensor) -> Feedback:
        """Return what B is made of."""
        if isinstance(self.rule, SignSymmetry):
            if self.rule.magnitude == "uniform":
                return Feedback(weight.detach(), self.feedback_scale)
            if self.rule.magnitude == "batch":
                return Feedback(weight.detach(), self._next_magnitude)
            if self.keep_feedback:
                return Feedback(weight.detach(), self._known_feedback())
            return Feedback(weight.detach(), Redrawn(self._redrawn, magnitudes=True))
        if self.keep_feedback:
            return Feedback(self._known_feedback())
        if self.rule == FeedbackAlignment(start="sign"):
            one = torch.ones((), dtype=weight.dtype)
            return Feedback(self._known_feedback(), signed(one, self.feedback_scale))
        return Feedback(weight.detach(), Redrawn(self._redrawn, magnitudes=False))

    def _known_feedback(self) -> Tensor:
        if self.feedback is None:
            raise SpecError(
                "Expected fa-sign feedback: it was made of weights on the meta device, which have "
                "no values. Load a checkpoint that holds it, or call initialize. Received: "
                f"layer={self}"
            )
        return self.feedback

    def _redrawn(self, weight: Tensor) -> Tensor:
        from antiparallel.torch.uncompiled import drawn

        numbers: Tensor = drawn(lambda: self._fixed_feedback(weight))
        return numbers

    def _fixed_feedback(self, weight: Tensor) -> Tensor | None:
        layer = cast(WeightLayer, self)
        return fixed_feedback(layer, weight, self.rule, self.feedback_scale, self.stream)

    def _next_magnitude(self) -> Tensor:
        from antiparallel.torch.uncompiled import drawn

        magnitude: Tensor = drawn(self._drawn_magnitude)
        self.backward_count += 1
        return magnitude

    def _drawn_magnitude(self) -> Tensor:
        layer = cast(WeightLayer, self)
        seed, index = self.stream
        return draw_like(
            layer,
            weight_of(layer),
            self.feedback_scale,
            seed=seed,
            index=index,
            purpose=Purpose.BATCH_MAGNITUDE,
            count=self.backward_count,
        ).abs_()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "FeedbackLayer":
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch's
        if self.feedback is not None:
            was_meta = self.feedback.is_meta
            self.feedback = fn(self.feedback)
            if was_meta:
                self._redraw_from_meta()
        return self

    def _redraw_from_meta(self) -> None:
        """Give feedback made on the meta device its numbers, once the weights left that device."""
        layer = cast(WeightLayer, self)
        weight = weight_of(layer)
        if self.feedback is None or weight.is_meta:
            return
        if self.rule == FeedbackAlignment(start="sign"):
            self.feedback = None
        else:
            self.feedback = self._fixed_feedback(weight)

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        name = state_name(self.rule, self.keep_feedback)
        if name == "feedback_stream":
            destination[prefix + name] = torch.tensor(
                [*self.stream, self.backward_count], dtype=torch.uint64
            )
        elif name.endswith("_seed"):
            destination[prefix + name] = torch.tensor(self.stream, dtype=torch.uint64)
        elif name and self.feedback is not None:
            destination[prefix + name] = self.feedback if keep_vars else self.feedback.detach()

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        name = state_name(self.rule, self.keep_feedback)
        other = prefix + state_name(self.rule, not self.keep_feedback)
        key = prefix + name
        state = state_dict.get(key) if name else None
        if other != key and other in state_dict:
            error_msgs.append(
                "Expected the checkpoint of a layer with the same keep_feedback, which is "
                f"{self.keep_feedback}. Received: {other}"
            )
            return
        if state is not None and (problem := self._problem_with(state)):
            error_msgs.append(f"{problem} Received: {key}={_described(state)}")
            return
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        if state is not None:
            if key in unexpected_keys:
                unexpected_keys.remove(key)
            self._take_state(state, assign=local_metadata.get("assign_to_params_buffers", False))
        if self.feedback is not None and self.feedback.is_meta:
            self._redraw_from_meta()

    def _problem_with(self, state: object) -> str:
        weight = weight_of(cast(WeightLayer, self))
        if not isinstance(state, Tensor):
            return "Expected a tensor."
        name = state_name(self.rule, self.keep_feedback)
        if name == "feedback_stream":
            fits = state.shape == (3,) and state.dtype == torch.uint64
            return "" if fits else "Expected three uint64: seed, index and count."
        if name.endswith("_seed"):
            fits = state.shape == (2,) and state.dtype == torch.uint64
            return "" if fits else "Expected two uint64: seed and index."
        if name.endswith("_signs"):
            fits = state.shape == weight.shape and state.dtype == torch.int8
            return "" if fits else f"Expected signs in int8 of shape {tuple(weight.shape)}."
        if state.shape != weight.shape or not state.is_floating_point():
            return f"Expected floating-point feedback of shape {tuple(weight.shape)}."
        return ""

    def _take_state(self, state: Tensor, assign: bool) -> None:
        if state.dtype == torch.uint64:
            seed, index, *counts = state.tolist()
            self.stream = (seed, index)
            (self.backward_count,) = counts or (0,)
        elif assign:
            self.feedback = state.detach()
        elif self.feedback is None:
            weight = weight_of(cast(WeightLayer, self))
            dtype = weight.dtype if state.is_floating_point() else state.dtype
            self.feedback = torch.empty_like(weight, dtype=dtype).copy_(state)
        else:
            with torch.no_grad():
                self.feedback.copy_(state)


class Linear(FeedbackLayer, nn.Linear):
    """``torch.nn.Linear`` with a feedback rule."""

    def forward(self, input: Tensor) -> Tensor:
        """Return ``x W^T + b``; the error goes back through B."""
        if isinstance(self.rule, Backprop):
            return super().forward(input)
        weight = self.weight  # read once: a parametrization computes it anew at every reading
        return functional.linear(input, weight, self._feedback(weight), self.bias)


class _Convolution(FeedbackLayer, nn.modules.conv._ConvNd):
    """What the three convolutions share: torch's forward calls ``_conv_forward``."""

    _function: ClassVar[Callable[..., Tensor]]

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if isinstance(self.rule, Backprop):
            return super()._conv_forward(input, weight, bias)
        padding = self.padding
        if self.padding_mode != "zeros":
            # The error passes through this padding by its own derivative.
            input = F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
            padding = (0,)
        return self._function(
            input,
            weight,
            self._feedback(weight),
            bias,
            self.stride,
            padding,
            self.dilation,
            self.groups,
        )


class Conv1d(_Convolution, nn.Conv1d):
    """``torch.nn.Conv1d`` with a feedback rule."""

    _function = staticmethod(functional.conv1d)


class Conv2d(_Convolution, nn.Conv2d):
    """``torch.nn.Conv2d`` with a feedback rule."""

    _function = staticmethod(functional.conv2d)


class Conv3d(_Convolution, nn.Conv3d):
    """``torch.nn.Conv3d`` with a feedback rule."""

    _function = staticmethod(functional.conv3d)


class _TransposedConvolution(FeedbackLayer, nn.modules.conv._ConvTransposeNd):
    """What the three transposed convolutions share."""

    _function: ClassVar[Callable[..., Tensor]]

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return the transposed convolution; the error goes back through B."""
        if isinstance(self.rule, Backprop):
            y: Tensor = super().forward(input, output_size)
            return y
        weight = self.weight
        return self._function(
            input,
            weight,
            self._feedback(weight),
            self.bias,
            self.stride,
            self.padding,
            output_padding(cast(WeightLayer, self), input, output_size),
            self.groups,
            self.dilation,
        )


class ConvTranspose1d(_TransposedConvolution, nn.ConvTranspose1d):
    """``torch.nn.ConvTranspose1d`` with a feedback rule."""

    _function = staticmethod(functional.conv_transpose1d)


class ConvTranspose2d(_TransposedConvolution, nn.ConvTranspose2d):
    """``torch.nn.ConvTranspose2d`` with a feedback rule."""

    _function = staticmethod(functional.conv_transpose2d)


class ConvTranspose3d(_TransposedConvolution, nn.ConvTranspose3d):
    """``torch.nn.ConvTranspose3d`` with a feedback rule."""

    _function = staticmethod(functional.conv_transpose3d)


FEEDBACK_LAYERS: dict[type[nn.Module], type[FeedbackLayer]] = {
    nn.Linear: Linear,
    nn.Conv1d: Conv1d,
    nn.Conv2d: Conv2d,
    nn.Conv3d: Conv3d,
    nn.ConvTranspose1d: ConvTranspose1d,
    nn.ConvTranspose2d: ConvTranspose2d,
    nn.ConvTranspose3d: ConvTranspose3d,
}
"""The layer with a rule for each plain one."""


def _described(state: object) -> str:
    if isinstance(state, Tensor):
        return f"shape {tuple(state.shape)}, {state.dtype}"
    return type(state).__name__


def _with_rule_arguments(plain: type[nn.Module]) -> inspect.Signature:
    rule_arguments = [
        parameter
        for parameter in inspect.signature(FeedbackLayer.__init__).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    signature = inspect.signature(plain)
    return signature.replace(parameters=[*signature.parameters.values(), *rule_arguments])


for _plain, _layer in FEEDBACK_LAYERS.items():
    # torch's own signature in help() and editors, whatever the installed torch makes of it
    _layer.__signature__ = _with_rule_arguments(_plain)  # type: ignore[attr-defined]
