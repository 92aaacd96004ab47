"""Sins against chapter M: the diagnostics."""

import numpy as np

from antiparallel.spec import SpecError
from antiparallel.spec.reference import ReferenceBackend
from mutants import caught_by


@caught_by("check_alignment_angle", "in degrees")
class MeasuresAnglesInRadians(ReferenceBackend):
    def diagnostics(self, weight, feedback):
        found = super().diagnostics(weight, feedback)
        return found._replace(angle=float(np.radians(found.angle)))


@caught_by("check_excess_kurtosis", "m4 / m2^2 - 3")
class ForgetsTheExcess(ReferenceBackend):
    def diagnostics(self, weight, feedback):
        found = super().diagnostics(weight, feedback)
        return found._replace(kurtosis=found.kurtosis + 3)


@caught_by("check_excess_kurtosis", "NaN")
class CallsAConstantNormal(ReferenceBackend):
    def diagnostics(self, weight, feedback):
        found = super().diagnostics(weight, feedback)
        return found._replace(kurtosis=float(np.nan_to_num(found.kurtosis)))


@caught_by("check_mean_magnitude", "mean absolute weight")
class TakesTheMeanWithItsSign(ReferenceBackend):
    def diagnostics(self, weight, feedback):
        found = super().diagnostics(weight, feedback)
        return found._replace(magnitude=float(weight.astype(np.float64).mean()))


@caught_by("check_diagnostics_of_any_magnitude", "as at magnitude 1")
class OverflowsOnTheWay(ReferenceBackend):
    def diagnostics(self, weight, feedback):
        found = super().diagnostics(weight, feedback)
        w, b = (array.astype(np.float64).ravel() for array in (weight, feedback))
        with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
            cosine = w @ b / np.sqrt((w @ w) * (b @ b))
            return found._replace(angle=float(np.degrees(np.arccos(np.clip(cosine, -1, 1)))))


@caught_by("check_diagnostics_of_unlike_shapes", "no error")
class BroadcastsDiagnostics(ReferenceBackend):
    def diagnostics(self, weight, feedback):
        try:
            return super().diagnostics(weight, feedback)
        except SpecError:
            return super().diagnostics(weight, feedback.reshape(weight.shape))
