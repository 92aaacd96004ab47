"""Parts of Keras's training step, each compiled as the engine compiles the whole."""

from collections.abc import Callable
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import keras

from antiparallel.benchmarks.steppers.keras3_devices import ENGINE


class Passes(NamedTuple):
    """A model's training step and the parts of it; they return when the device has computed them.

    What is computed is returned, lest compilers leave it out.

    Args:
        forward: Returns the loss of pictures and what they show, as in training.
        gradients: Returns the loss, and the gradients of all trainable variables.
        step: Updates the model, by Keras's own step, and returns the loss.
        update: Gives the optimizer gradients of all trainable variables.
    """

    forward: Callable[[Any, Any], Any]
    gradients: Callable[[Any, Any], tuple[Any, list[Any]]]
    step: Callable[[Any, Any], Any]
    update: Callable[[list[Any]], None]


def passes_of(model: keras.Model) -> Passes:
    """Return the training step of a compiled model, and the parts of it."""
    return {"tensorflow": _on_tensorflow, "jax": _on_jax, "torch": _on_torch}[ENGINE](model)


def state_of(model: keras.Model) -> list[list[Any]]:
    """Return the values that JAX's training step takes and returns, in its order."""
    kept = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )
    return [[variable.value for variable in variables] for variables in kept]


def _loss(model: keras.Model, x: Any, y: Any) -> Any:
    return model.compute_loss(x=x, y=y, y_pred=model(x, training=True), training=True)


def _step(model: keras.Model, x: Any, y: Any) -> Any:
    return model.train_on_batch(x, y, return_dict=True)["loss"]


def _on_tensorflow(model: keras.Model) -> Passes:
    import tensorflow as tf

    def compiled(part: Callable[..., Any]) -> Callable[..., Any]:
        graph = tf.function(part, jit_compile=model.jit_compile, autograph=False)
        return _waiting(graph, tf.test.experimental.sync_devices)

    def gradients(x: Any, y: Any) -> tuple[Any, list[Any]]:
        with tf.GradientTape() as tape:
            loss = _loss(model, x, y)
        return loss, tape.gradient(loss, model.trainable_weights)

    def update(gradients: list[Any]) -> None:
        model.optimizer.apply(gradients, model.trainable_weights)

    step = _waiting(partial(_step, model), tf.test.experimental.sync_devices)
    return Passes(compiled(partial(_loss, model)), compiled(gradients), step, compiled(update))


def _on_jax(model: keras.Model) -> Passes:
    import jax

    # The function that Keras differentiates in its own step, with the arguments of that.
    def loss(*state: Any) -> Any:
        trained, others, optimizer, metrics, x, y = state
        found, (_, _, running, _) = model.compute_loss_and_updates(
            trained, others, metrics, x, y, None, training=True, optimizer_variables=optimizer
        )
        return found, running

    forward_part = jax.jit(loss)
    gradients_part = jax.jit(jax.value_and_grad(loss, has_aux=True))
    update_part = jax.jit(model.optimizer.stateless_apply, donate_argnums=(0, 2))

    def forward(x: Any, y: Any) -> Any:
        found, _ = jax.block_until_ready(forward_part(*state_of(model), x, y))
        return found

    def gradients(x: Any, y: Any) -> tuple[Any, list[Any]]:
        (found, _), sent = jax.block_until_ready(gradients_part(*state_of(model), x, y))
        return found, sent

    def step(x: Any, y: Any) -> Any:
        loss = _step(model, x, y)
        jax.block_until_ready(state_of(model))
        return loss

    def update(gradients: list[Any]) -> None:
        trained, _, kept, _ = state_of(model)
        values = jax.block_until_ready(update_part(kept, gradients, trained))
        variables = [*model.trainable_variables, *model.optimizer.variables]
        for variable, value in zip(variables, chain(*values), strict=True):
            variable.assign(value)

    return Passes(forward, gradients, step, update)


def _on_torch(model: keras.Model) -> Passes:
    import torch

    def compiled(part: Callable[..., Any]) -> Callable[..., Any]:
        return _waiting(torch.compile(part) if model.jit_compile else part, finish)

    def forward(x: Any, y: Any) -> Any:
        return _loss(model, x, y).detach()

    def gradients(x: Any, y: Any) -> tuple[Any, list[Any]]:
        loss = _loss(model, x, y)
        model.zero_grad()
        loss.backward()
        return loss.detach(), [variable.value.grad for variable in model.trainable_weights]

    def update(gradients: list[Any]) -> None:
        with torch.no_grad():
            model.optimizer.apply(gradients, model.trainable_weights)

    def finish() -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    step = _waiting(partial(_step, model), finish)
    return Passes(compiled(forward), compiled(gradients), step, compiled(update))


def _waiting(part: Callable[..., Any], finish: Callable[[], None]) -> Callable[..., Any]:
    """Return a part of a step that returns when the device has computed all of it."""

    def waited(*arguments: Any) -> Any:
        found = part(*arguments)
        finish()
        return found

    return waited
