"""Sins against chapter O: the optimizer."""

import numpy as np

from antiparallel.spec.reference import ReferenceBackend
from antiparallel.spec.sgd import SGD, keep_signs
from mutants import caught_by


class SinfulSGD:
    """The specification's update, step by step, with a seam for each sin."""

    def __init__(self, config, parameters, biases):
        self.config, self.biases = config, set(biases)
        self.checked = SGD(config, parameters, biases)
        self.parameters = {name: array.copy() for name, array in parameters.items()}
        self.velocities, self.steps = {}, 0

    def step(self, gradients):
        self.checked.step(gradients)
        self.steps += 1
        for name, gradient in gradients.items():
            self.update(name, gradient)
        return {name: array.copy() for name, array in self.parameters.items()}

    def update(self, name, gradient):
        before = self.parameters[name]
        d = self.decayed(self.signed(gradient), before)
        v = self.velocity(name, d)
        after = self.moved(before, self.direction(d, v))
        self.parameters[name] = self.stopped(name, before, after).astype(before.dtype)

    def signed(self, gradient):
        return np.sign(gradient) if self.config.batch_manhattan else gradient

    def decayed(self, d, before):
        return d + self.config.weight_decay * before

    def velocity(self, name, d):
        old = self.velocities.get(name, np.zeros_like(d))
        self.velocities[name] = self.config.momentum * old + d
        return self.velocities[name]

    def direction(self, d, v):
        return d + self.config.momentum * v if self.config.nesterov else v

    def moved(self, before, d):
        return before - self.config.lr * d

    def stopped(self, name, before, after):
        stops = self.config.keep_signs and name not in self.biases
        return keep_signs(before, after) if stops else after


class SinfulOptimizer(ReferenceBackend):
    SGD = SinfulSGD

    def sgd(self, config, parameters, biases):
        return self.SGD(config, parameters, biases)


@caught_by("check_gradient_descent", "p - lr * g")
class DividesByTheNumberOfSteps(SinfulOptimizer):
    class SGD(SinfulSGD):
        def moved(self, before, d):
            return before - self.config.lr / self.steps * d


@caught_by("check_weight_decay_is_coupled", "weight_decay * p")
class DecouplesWeightDecay(SinfulOptimizer):
    class SGD(SinfulSGD):
        def decayed(self, d, before):
            return d

        def moved(self, before, d):
            return super().moved(before, d) - self.config.lr * self.config.weight_decay * before


@caught_by("check_momentum", "v = momentum * v")
class DampensMomentum(SinfulOptimizer):
    class SGD(SinfulSGD):
        def velocity(self, name, d):
            dampened = (1 - self.config.momentum) * d if name in self.velocities else d
            return super().velocity(name, dampened)


@caught_by("check_nesterov", "momentum * v")
class IgnoresNesterov(SinfulOptimizer):
    class SGD(SinfulSGD):
        def direction(self, d, v):
            return v


@caught_by("check_batch_manhattan", "sign(g)")
class TakesTheSignOfZeroForOne(SinfulOptimizer):
    class SGD(SinfulSGD):
        def signed(self, gradient):
            ones = np.where(gradient < 0, -1, 1).astype(gradient.dtype)
            return ones if self.config.batch_manhattan else gradient


@caught_by("check_batch_manhattan_comes_first", "sign(g)")
class TakesTheSignOfTheVelocity(SinfulOptimizer):
    class SGD(SinfulSGD):
        def signed(self, gradient):
            return gradient

        def direction(self, d, v):
            found = super().direction(d, v)
            return np.sign(found) if self.config.batch_manhattan else found


@caught_by("check_keep_signs", "+-1e-10")
class LetsWeightsCrossZero(SinfulOptimizer):
    class SGD(SinfulSGD):
        def stopped(self, name, before, after):
            return after


@caught_by("check_keep_signs", "+-1e-10")
class KeepsZerosAtZero(SinfulOptimizer):
    class SGD(SinfulSGD):
        def stopped(self, name, before, after):
            stopped = super().stopped(name, before, after)
            return np.where(before == 0, 0, stopped) if self.config.keep_signs else stopped


@caught_by("check_keep_signs_leaves_biases", "for a bias")
class KeepsSignsOfBiases(SinfulOptimizer):
    class SGD(SinfulSGD):
        def stopped(self, name, before, after):
            return keep_signs(before, after) if self.config.keep_signs else after


@caught_by("check_keep_signs_keeps_nan", "NaN at the first weight")
class StopsNaN(SinfulOptimizer):
    class SGD(SinfulSGD):
        def stopped(self, name, before, after):
            stopped = super().stopped(name, before, after)
            return np.nan_to_num(stopped, nan=1e-10) if self.config.keep_signs else stopped


@caught_by("check_missing_gradient_leaves_its_parameter", "which had no gradient")
class DecaysWithoutAGradient(SinfulOptimizer):
    class SGD(SinfulSGD):
        def step(self, gradients):
            zeros = {name: np.zeros_like(array) for name, array in self.parameters.items()}
            return super().step(zeros | dict(gradients))


@caught_by("check_optimizer_does_not_modify_its_arguments", "as it was given")
class UpdatesTheCallersArrays(SinfulOptimizer):
    class SGD(SinfulSGD):
        def __init__(self, config, parameters, biases):
            super().__init__(config, parameters, biases)
            self.given = parameters

        def step(self, gradients):
            found = super().step(gradients)
            for name, array in self.given.items():
                if array.flags.writeable:
                    array[...] = found[name]
            return found


@caught_by("check_unknown_biases", "no error")
class IgnoresUnknownBiases(SinfulOptimizer):
    def sgd(self, config, parameters, biases):
        return super().sgd(config, parameters, [name for name in biases if name in parameters])


@caught_by("check_wrong_gradients", "as if the refused steps had not been tried")
class UpdatesBeforeItChecks(SinfulOptimizer):
    class SGD(SinfulSGD):
        def step(self, gradients):
            for name, gradient in gradients.items():
                if name in self.parameters and gradient.shape == self.parameters[name].shape:
                    self.update(name, gradient)
            self.checked.step(gradients)
            return {name: array.copy() for name, array in self.parameters.items()}


@caught_by("check_wrong_gradients", "no error")
class IgnoresUnknownGradients(SinfulOptimizer):
    class SGD(SinfulSGD):
        def step(self, gradients):
            return super().step({n: g for n, g in gradients.items() if n in self.parameters})
