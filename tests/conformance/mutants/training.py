"""Sins against chapter T: whole training runs."""

from dataclasses import replace

import numpy as np

from antiparallel.spec import SpecError
from antiparallel.spec.reference import ReferenceBackend
from mutants import caught_by


@caught_by("check_training_in_float64", "loss[")
class TrainsInFloat32(ReferenceBackend):
    def train(self, network, batches, config, *, seed=0):
        narrow = [(x.astype(np.float32), labels) for x, labels in batches]
        losses, weights, biases = super().train(network, narrow, config, seed=seed)
        wide = [tuple(array.astype(batches[0][0].dtype) for array in a) for a in (weights, biases)]
        return type(super().train(network, batches[:1], config))(losses, *wide)


@caught_by("check_training_in_float32", "loss[")
class SkipsWeightDecay(ReferenceBackend):
    def train(self, network, batches, config, *, seed=0):
        return super().train(network, batches, replace(config, weight_decay=0.0), seed=seed)


@caught_by("check_training_in_float32", "loss[")
class TrainsEveryRuleByBackpropagation(ReferenceBackend):
    def train(self, network, batches, config, *, seed=0):
        from antiparallel.spec.rules import Backprop

        plain = [
            layer if isinstance(layer, str) else replace(layer, rule=Backprop())
            for layer in network.layers
        ]
        return super().train(replace(network, layers=tuple(plain)), batches, config, seed=seed)


@caught_by("check_training_starts_from_initial_weights", "the initial weights of index 0")
class UsesAnotherSeed(ReferenceBackend):
    def train(self, network, batches, config, *, seed=0):
        return super().train(network, batches, config, seed=seed + 1)


@caught_by("check_biases_start_at_zero", "zero at the start")
class StartsBiasesAboveZero(ReferenceBackend):
    def train(self, network, batches, config, *, seed=0):
        found = super().train(network, batches, config, seed=seed)
        return found._replace(biases=tuple(b + b.dtype.type(0.01) for b in found.biases))


@caught_by("check_loss_is_softmax_cross_entropy", "log softmax")
class SumsTheLoss(ReferenceBackend):
    def train(self, network, batches, config, *, seed=0):
        found = super().train(network, batches, config, seed=seed)
        return found._replace(losses=found.losses * [len(x) for x, _ in batches])


@caught_by("check_relu_has_no_derivative_at_zero", "no error came")
class SendsErrorsThroughZero(ReferenceBackend):
    def train(self, network, batches, config, *, seed=0):
        # A number too small to matter, except to whether a unit is above zero.
        lifted = [(np.where(x == 0, x.dtype.type(1e-30), x), labels) for x, labels in batches]
        return super().train(network, lifted, config, seed=seed)


@caught_by("check_flatten_is_in_c_order", "flattened in C order")
class FlattensTheOtherWayRound(ReferenceBackend):
    def train(self, network, batches, config, *, seed=0):
        # A 1 x 1 convolution does not see the order of places; what follows flattening does.
        turned = [(np.moveaxis(x, -1, 2), labels) for x, labels in batches]
        return super().train(network, turned, config, seed=seed)


@caught_by("check_wrong_batches", "no error")
class ClipsLabels(ReferenceBackend):
    def train(self, network, batches, config, *, seed=0):
        try:
            return super().train(network, batches, config, seed=seed)
        except SpecError:
            clipped = [(x, np.clip(labels, 0, 2)) for x, labels in batches]
            return super().train(network, clipped, config, seed=seed)
