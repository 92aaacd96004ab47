"""Sins against chapters L, I and D: lambda, initial weights, random numbers."""

import numpy as np

from antiparallel.spec import Conv, ConvTranspose, Dense, as_rule, feedback_scale
from antiparallel.spec.draws import Purpose, draw
from antiparallel.spec.reference import ReferenceBackend
from mutants import caught_by
from mutants.sinful import SinfulBackend, SinfulLayer

_GLOBAL = np.random.default_rng(0)


class OwnLambda(SinfulLayer):
    """A layer under ss with its own idea of lambda."""

    def own_lambda(self):
        raise NotImplementedError

    def matrix(self):
        if self.rule != "ss":
            return super().matrix()
        return self.weight.dtype.type(self.own_lambda()) * np.sign(self.weight)


@caught_by("check_lambda_of_convolutions", "lambda = ")
class DropsLambda(SinfulBackend):
    class Layer(OwnLambda):
        def own_lambda(self):
            return 1.0


@caught_by("check_lambda_of_dense_layers", "1 / sqrt(n_out)")
class TakesLambdaFromTheInputs(SinfulBackend):
    class Layer(OwnLambda):
        def own_lambda(self):
            scale = "reference-code" if self.scale == "paper" else self.scale
            return feedback_scale(self.geometry, scale)


@caught_by("check_lambda_of_convolutions", "n_out / groups")
class IgnoresGroupsInLambda(SinfulBackend):
    class Layer(OwnLambda):
        def own_lambda(self):
            grouped = isinstance(self.geometry, Conv) and isinstance(self.scale, str)
            groups = self.geometry.groups if grouped else 1
            return feedback_scale(self.geometry, self.scale) / groups**0.5


@caught_by("check_lambda_of_transposed_convolutions", "n_out / groups")
class TakesTransposedLambdaFromTheInputs(SinfulBackend):
    class Layer(OwnLambda):
        def own_lambda(self):
            scale = feedback_scale(self.geometry, self.scale)
            if isinstance(self.geometry, ConvTranspose) and isinstance(self.scale, str):
                return scale * (self.geometry.n_out / self.geometry.n_in) ** 0.5
            return scale


@caught_by("check_lambda_of_the_reference_code", "1 / sqrt(n_in)")
class KnowsOneConvention(SinfulBackend):
    class Layer(OwnLambda):
        def own_lambda(self):
            scale = "paper" if isinstance(self.scale, str) else self.scale
            return feedback_scale(self.geometry, scale)


@caught_by("check_lambda_by_number", "the number given")
class MultipliesByTheNumberGiven(SinfulBackend):
    class Layer(OwnLambda):
        def own_lambda(self):
            scale = feedback_scale(self.geometry, self.scale)
            return scale if isinstance(self.scale, str) else scale * feedback_scale(self.geometry)


class OwnDraw(SinfulLayer):
    """A layer under fa with its own idea of the draw."""

    def own_draw(self):
        raise NotImplementedError

    def matrix(self):
        return self.own_draw() if self.rule == "fa" else super().matrix()


@caught_by("check_lambda_sizes_drawn_feedback", "lambda times the draw")
class DrawsAtThePapersLambda(SinfulBackend):
    class Layer(OwnDraw):
        def own_draw(self):
            return self.drawn(Purpose.FEEDBACK, scale=feedback_scale(self.geometry))


@caught_by("check_draws_of_dense_layers", "rounded once")
class RoundsTwice(SinfulBackend):
    class Layer(OwnDraw):
        def own_draw(self):
            scale = feedback_scale(self.geometry, self.scale)
            return self.drawn(Purpose.FEEDBACK, scale=1.0) * self.first.dtype.type(scale)


@caught_by("check_draws_of_convolutions", "the specification's draw")
class DrawsUniformlyForConvolutions(SinfulBackend):
    class Layer(OwnDraw):
        def own_draw(self):
            shape = self.geometry.weight_shape
            flat = Dense(int(np.prod(shape[1:])), shape[0])
            scale = feedback_scale(self.geometry, self.scale)
            values = draw(flat, scale, seed=self.seed, index=self.index, purpose=Purpose.FEEDBACK)
            return values.reshape(shape).astype(self.first.dtype)


@caught_by("check_draws_fill_the_canonical_layout", "the specification's draw")
class FillsInFortranOrder(SinfulBackend):
    class Layer(OwnDraw):
        def own_draw(self):
            drawn = self.drawn(Purpose.FEEDBACK)
            return drawn.ravel().reshape(drawn.shape, order="F")


@caught_by("check_draws_of_large_layers", "the specification's draw")
class StartsOverAfterManyNumbers(SinfulBackend):
    class Layer(OwnDraw):
        def own_draw(self):
            drawn = self.drawn(Purpose.FEEDBACK)
            period = 1 << 18
            flat = drawn.ravel().copy()
            flat[period:] = flat[: max(flat.size - period, 0)]
            return flat.reshape(drawn.shape)


@caught_by("check_large_seeds", "the specification's draw")
class TruncatesSeeds(SinfulBackend):
    class Layer(OwnDraw):
        def own_draw(self):
            return self.drawn(Purpose.FEEDBACK, seed=self.seed % 2**32)


@caught_by("check_draws_repeat", "a layer built alike")
class UsesAGlobalGenerator(SinfulBackend):
    class Layer(OwnDraw):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self.own = _GLOBAL.standard_normal(self.first.shape).astype(self.first.dtype)

        def own_draw(self):
            return self.own


@caught_by("check_seed_and_index_key_the_draws", "other feedback than for")
class AddsSeedAndIndex(SinfulBackend):
    class Layer(OwnDraw):
        def own_draw(self):
            return self.drawn(Purpose.FEEDBACK, seed=(self.seed + self.index) % 2**64, index=0)


@caught_by("check_initial_weights", "the specification's draw")
class InitialisesWithTheFeedback(ReferenceBackend):
    def initial_weight(self, geometry, dtype, *, scale="paper", seed=0, index=0):
        options = {"scale": scale, "seed": seed, "index": index}
        zeros = np.zeros(geometry.weight_shape, dtype)
        return self.layer(geometry, zeros, None, as_rule("fa"), **options).feedback()


@caught_by("check_initial_weights", "the specification's draw")
class InitialisesAtThePapersLambda(ReferenceBackend):
    def initial_weight(self, geometry, dtype, *, scale="paper", seed=0, index=0):
        return super().initial_weight(geometry, dtype, seed=seed, index=index)
