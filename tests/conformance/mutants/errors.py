"""Sins against chapter E: what does not raise, raises too late, or raises without saying so."""

from typing import ClassVar

import numpy as np

from antiparallel.spec import Conv, SpecError, UnsupportedError
from antiparallel.spec.reference import ReferenceBackend
from mutants import caught_by
from mutants.sinful import SinfulBackend, SinfulLayer


@caught_by("check_capabilities_work_or_are_refused", "declares groups unsupported")
class ComputesWhatItCannot(ReferenceBackend):
    unsupported: ClassVar = {"groups": "The kernels for it are not written."}


@caught_by("check_capabilities_work_or_are_refused", "it declares none of")
class RefusesWithoutSayingSo(SinfulBackend):
    class Layer(SinfulLayer):
        def __init__(self, geometry, *arguments, **options):
            if isinstance(geometry, Conv) and max(geometry.dilations) > 1:
                raise UnsupportedError("Expected dilation 1.")
            super().__init__(geometry, *arguments, **options)


@caught_by("check_unsupported_are_capabilities", "'speed'")
class DeclaresNonsense(ReferenceBackend):
    unsupported: ClassVar = {"speed": "It is slow."}


@caught_by("check_unknown_rule", "no error")
class FallsBackToBackpropagation(SinfulBackend):
    def layer(self, geometry, weight, bias, rule, **options):
        try:
            return super().layer(geometry, weight, bias, rule, **options)
        except SpecError as error:
            if "a rule" not in str(error):
                raise
            return super().layer(geometry, weight, bias, "bp", **options)


@caught_by("check_unknown_rule", "KeyError")
class RaisesWhatItLikes(SinfulBackend):
    def layer(self, geometry, weight, bias, rule, **options):
        try:
            return super().layer(geometry, weight, bias, rule, **options)
        except SpecError as error:
            raise KeyError(rule) from error


@caught_by("check_unknown_rule", "ends in 'Received: '")
class DoesNotSayWhatItReceived(SinfulBackend):
    def layer(self, geometry, weight, bias, rule, **options):
        try:
            return super().layer(geometry, weight, bias, rule, **options)
        except SpecError as error:
            raise SpecError("That was wrong.") from error


@caught_by("check_bad_scale", "no error")
class AcceptsAnyScale(SinfulBackend):
    def layer(self, geometry, weight, bias, rule, *, scale="paper", **options):
        known = scale == "reference-code" or (type(scale) is float and 0 < scale < np.inf)
        chosen = scale if known else "paper"
        return super().layer(geometry, weight, bias, rule, scale=chosen, **options)


@caught_by("check_bad_scale_of_initial_weights", "no error")
class InitialisesWithAnyScale(ReferenceBackend):
    def initial_weight(self, geometry, dtype, *, scale="paper", seed=0, index=0):
        return super().initial_weight(geometry, dtype, seed=seed, index=index)


@caught_by("check_bad_seed", "no error")
class WrapsSeeds(SinfulBackend):
    def layer(self, geometry, weight, bias, rule, *, seed=0, index=0, **options):
        whole = isinstance(seed, int) and isinstance(index, int)
        words = {"seed": seed % 2**64, "index": index % 2**64} if whole else {}
        return super().layer(geometry, weight, bias, rule, **words, **options)


@caught_by("check_wrong_parameters", "no error")
class CastsParameters(SinfulBackend):
    def layer(self, geometry, weight, bias, rule, **options):
        if weight.dtype not in (np.float32, np.float64):
            weight = weight.astype(np.float32)
        return super().layer(geometry, weight, bias, rule, **options)


@caught_by("check_wrong_inputs_and_errors", "no error")
class CastsInputs(SinfulBackend):
    class Layer(SinfulLayer):
        def forward(self, x):
            return super().forward(x.astype(self.first.dtype))


@caught_by("check_input_too_small", "no error")
class AnswersSmallInputsWithZeros(SinfulBackend):
    class Layer(SinfulLayer):
        def forward(self, x):
            try:
                return super().forward(x)
            except SpecError:
                places = (1,) * (x.ndim - 2)
                return np.zeros((len(x), self.geometry.n_out, *places), x.dtype)


@caught_by("check_wrong_new_weights", "as before")
class SetsBeforeItChecks(SinfulBackend):
    class Layer(SinfulLayer):
        def set_weight(self, weight):
            fitting = weight.astype(self.first.dtype).ravel()[: self.first.size]
            super().set_weight(fitting.reshape(self.first.shape))
            if weight.shape != self.first.shape or weight.dtype != self.first.dtype:
                raise SpecError(f"Expected weights that fit. Received: shape={weight.shape}")


@caught_by("check_wrong_state", "no error")
class AcceptsAnyState(SinfulBackend):
    class Layer(SinfulLayer):
        def load_state(self, state):
            try:
                super().load_state(state)
            except SpecError:
                return
