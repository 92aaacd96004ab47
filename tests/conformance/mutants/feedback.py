"""Sins against chapters F and R: what is sent back, and when B changes."""

from collections.abc import Mapping

import numpy as np

from antiparallel.spec import Conv, ConvTranspose, Dense, SpecError, feedback_scale, layers
from antiparallel.spec.draws import Purpose
from antiparallel.spec.rules import ALIASES
from mutants import caught_by
from mutants.shapes import flipped
from mutants.sinful import SinfulBackend, SinfulLayer


@caught_by("check_input_error_of_dense_layers", "carried back by B")
class UsesW(SinfulBackend):
    class Layer(SinfulLayer):
        def send_back(self, x, error, feedback):
            return super().send_back(x, error, self.weight)


@caught_by("check_input_error_of_convolutions", "carried back by B")
class TransposesBWithinGroups(SinfulBackend):
    class Layer(SinfulLayer):
        def send_back(self, x, error, feedback):
            geometry = self.geometry
            if isinstance(geometry, Conv) and geometry.n_in == geometry.n_out:
                size = geometry.n_in // geometry.groups
                blocks = feedback.reshape(geometry.groups, size, *feedback.shape[1:])
                feedback = blocks.swapaxes(1, 2).reshape(feedback.shape)
            return super().send_back(x, error, feedback)


@caught_by("check_input_error_of_convolutions", "carried back by B")
class PermutesGroups(SinfulBackend):
    class Layer(SinfulLayer):
        def send_back(self, x, error, feedback):
            groups = getattr(self.geometry, "groups", 1)
            rolled = np.roll(feedback, len(feedback) // groups, axis=0)
            return super().send_back(x, error, rolled)


@caught_by("check_input_error_of_transposed_convolutions", "carried back by B")
class FlipsTheKernelOfB(SinfulBackend):
    class Layer(SinfulLayer):
        def send_back(self, x, error, feedback):
            transposed = isinstance(self.geometry, ConvTranspose)
            return super().send_back(x, error, flipped(feedback) if transposed else feedback)


@caught_by("check_weight_gradient_is_ordinary", "ordinary gradient")
class PutsBIntoTheWeightGradient(SinfulBackend):
    class Layer(SinfulLayer):
        def backward(self, x, error):
            feedback = self.matrix()
            found = super().backward(x, error)
            return found._replace(weight=found.weight * feedback)


@caught_by("check_weight_gradient_is_ordinary", "ordinary gradient")
class TakesTheSignOfTheError(SinfulBackend):
    class Layer(SinfulLayer):
        def backward(self, x, error):
            found = super().backward(x, error)
            ordinary = layers.backward(self.geometry, x, np.sign(error), self.weight)
            return found._replace(weight=ordinary.weight)


@caught_by("check_bias_gradient_is_ordinary", "summed over batch")
class AveragesTheBiasGradient(SinfulBackend):
    class Layer(SinfulLayer):
        def backward(self, x, error):
            found = super().backward(x, error)
            places = max(error.size // self.geometry.n_out, 1)
            return found if found.bias is None else found._replace(bias=found.bias / places)


@caught_by("check_feedback_does_not_touch_the_forward_pass", "B has no part")
class ForwardsThroughB(SinfulBackend):
    class Layer(SinfulLayer):
        def forward(self, x):
            return layers.forward(self.geometry, x, self.matrix(), self.bias)


def lambda_sign(layer, weight):
    scale = weight.dtype.type(feedback_scale(layer.geometry, layer.scale))
    return scale * np.sign(weight)


@caught_by("check_bp_is_backpropagation", "backpropagation")
class BackpropagatesSigns(SinfulBackend):
    class Layer(SinfulLayer):
        def matrix(self):
            return lambda_sign(self, self.weight) if self.rule == "bp" else super().matrix()


@caught_by("check_ss_follows_the_sign_of_w", "as they are now")
class FreezesSigns(SinfulBackend):
    class Layer(SinfulLayer):
        def matrix(self):
            return lambda_sign(self, self.first) if self.rule == "ss" else super().matrix()


@caught_by("check_ss_fixed_keeps_its_magnitudes", "M drawn once")
class RedrawsFixedMagnitudes(SinfulBackend):
    class Layer(SinfulLayer):
        def matrix(self):
            if self.rule != "ss-fixed":
                return super().matrix()
            drawn = self.drawn(Purpose.FEEDBACK, self.count)
            return np.abs(drawn) * np.sign(self.weight)


@caught_by("check_ss_batch_draws_anew_at_every_backward", "backward(x, error) number 1")
class NeverRedrawsMagnitudes(SinfulBackend):
    class Layer(SinfulLayer):
        def matrix(self):
            if self.rule != "ss-batch":
                return super().matrix()
            return np.abs(self.drawn(Purpose.BATCH_MAGNITUDE)) * np.sign(self.weight)


@caught_by("check_ss_batch_draws_anew_at_every_backward", "backward(x, error) number 0")
class DrawsForTheWrongPurpose(SinfulBackend):
    class Layer(SinfulLayer):
        def matrix(self):
            if self.rule != "ss-batch":
                return super().matrix()
            return np.abs(self.drawn(Purpose.FEEDBACK, self.count)) * np.sign(self.weight)


@caught_by("check_ss_batch_advances_only_at_backward", "the number of backward passes so far")
class CountsForwardPasses(SinfulBackend):
    class Layer(SinfulLayer):
        forwards = 0

        def forward(self, x):
            self.forwards += 1
            return super().forward(x)

        def matrix(self):
            if self.rule != "ss-batch":
                return super().matrix()
            drawn = self.drawn(Purpose.BATCH_MAGNITUDE, self.forwards)
            return np.abs(drawn) * np.sign(self.weight)


@caught_by("check_feedback_alignment_never_changes_b", "B as at the start")
class RedrawsFeedback(SinfulBackend):
    class Layer(SinfulLayer):
        def matrix(self):
            fa = self.rule == "fa"
            return self.drawn(Purpose.FEEDBACK, self.count) if fa else super().matrix()


@caught_by("check_feedback_alignment_never_changes_b", "B as at the start")
class LetsFaSignFollowW(SinfulBackend):
    class Layer(SinfulLayer):
        def matrix(self):
            return lambda_sign(self, self.weight) if self.rule == "fa-sign" else super().matrix()


@caught_by("check_fa_sign_starts_from_the_sign_of_w", "lambda * sign(W_0)")
class StartsFromMinusTheSign(SinfulBackend):
    class Layer(SinfulLayer):
        def matrix(self):
            return -super().matrix() if self.rule == "fa-sign" else super().matrix()


class SignRuleLayer(SinfulLayer):
    """A layer whose own idea of the sign replaces the reference's."""

    def sign(self, weight):
        raise NotImplementedError

    def matrix(self):
        if self.rule not in ("ss", "ss-fixed", "ss-batch", "fa-sign"):
            return super().matrix()
        weight = self.first if self.rule == "fa-sign" else self.weight
        if self.rule == "ss-fixed":
            magnitude = np.abs(self.drawn(Purpose.FEEDBACK))
        elif self.rule == "ss-batch":
            magnitude = np.abs(self.drawn(Purpose.BATCH_MAGNITUDE, self.count))
        else:
            magnitude = weight.dtype.type(feedback_scale(self.geometry, self.scale))
        return (magnitude * self.sign(weight)).astype(weight.dtype)


@caught_by("check_sign_of_zero_is_zero", "sign(0) = 0")
class SignOfZeroIsOne(SinfulBackend):
    class Layer(SignRuleLayer):
        def sign(self, weight):
            return np.where(weight < 0, -1, 1)


@caught_by("check_subnormal_weights_have_signs", "however small")
class FlushesSubnormals(SinfulBackend):
    class Layer(SignRuleLayer):
        def sign(self, weight):
            normal = np.abs(weight) >= np.finfo(weight.dtype).smallest_normal
            return np.where(normal | np.isnan(weight), np.sign(weight), 0)


@caught_by("check_sign_of_nan_is_nan", "should be NaN")
class HidesNaN(SinfulBackend):
    class Layer(SignRuleLayer):
        def sign(self, weight):
            return (weight > 0).astype(weight.dtype) - (weight < 0).astype(weight.dtype)


@caught_by("check_aliases_stand_for_their_rules", "Expected no alias")
class KnowsNoAliases(SinfulBackend):
    class Layer(SinfulLayer):
        def __init__(self, geometry, weight, bias, rule, **options):
            if rule in ALIASES:
                raise SpecError(f"Expected no alias. Received: rule={rule!r}")
            super().__init__(geometry, weight, bias, rule, **options)


@caught_by("check_state_restores_a_layer", "that of the layer that was saved")
class ForgetsTheCount(SinfulBackend):
    class Layer(SinfulLayer):
        def state(self):
            state = dict(super().state())
            return state | {"count": 0} if "count" in state else state


@caught_by("check_state_restores_a_layer", "that of the layer that was saved")
class ForgetsFeedback(SinfulBackend):
    class Layer(SinfulLayer):
        def load_state(self, state):
            kept = {name: self.state()[name] for name in state if name in ("feedback", "magnitude")}
            super().load_state(dict(state) | kept)


class _Live(Mapping):
    """A view of a layer's state, as it is whenever it is read."""

    def __init__(self, layer):
        self.layer = layer

    def __getitem__(self, key):
        return self.layer.state()[key]

    def __iter__(self):
        return iter(self.layer.state())

    def __len__(self):
        return len(self.layer.state())


@caught_by("check_state_is_a_snapshot", "as when the state was taken")
class HandsOutALiveState(SinfulBackend):
    class Layer(SinfulLayer):
        def state(self):
            return _Live(self.inner)


@caught_by("check_input_error_of_dense_layers", "carried back by B")
class SaysOneBAndUsesAnother(SinfulBackend):
    class Layer(SinfulLayer):
        def feedback(self):
            dense = isinstance(self.geometry, Dense)
            return -super().feedback() if dense else super().feedback()
