"""What only one engine can do, and what must not be imported without need; each in a process."""

import os
import subprocess
import sys

import pytest

import antiparallel.keras as ap


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own."""
    variables = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"} | environment
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )


MODEL = """
import keras, numpy as np
import antiparallel.keras as ap
keras.utils.set_random_seed(0)
def model(rule):
    made = keras.Sequential([keras.Input((6, 6, 2)), keras.layers.Conv2D(4, 3), keras.layers.ReLU(),
        keras.layers.Conv2D(4, 3, name="second"), keras.layers.Flatten(), keras.layers.Dense(3)])
    return ap.initialize(ap.convert(made, rule, seed=1), seed=2)
def values(variables):
    return [variable.value for variable in variables]
def trained(made):
    made.compile(ap.SGD(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    made.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    return [keras.ops.convert_to_numpy(w) for w in made.weights]
x = np.random.default_rng(0).standard_normal((16, 6, 6, 2)).astype("float32")
y = np.arange(16) % 3
"""


def test_importing_the_backend_imports_no_other_framework() -> None:
    others = "torch" if ap.ENGINE != "torch" else "jax"
    code = (
        "import sys, keras\n"
        "before = set(sys.modules)\n"
        "import antiparallel.keras\n"
        f"assert {others!r} not in set(sys.modules) - before\n"
        "assert 'antiparallel.torch' not in sys.modules"
    )
    result = run(code, KERAS_BACKEND=ap.ENGINE)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", ["nonsense", "numpy"])
def test_an_engine_that_cannot_be_used_is_named(name: str) -> None:
    result = run("import antiparallel.keras", KERAS_BACKEND=name)
    assert result.returncode != 0
    last = result.stderr.strip().splitlines()[-1]
    assert "Expected" in last
    assert name in last


def test_an_engine_that_is_not_installed_is_named() -> None:
    code = f"import sys\nsys.modules[{ap.ENGINE!r}] = None\nimport antiparallel.keras"
    result = run(code, KERAS_BACKEND=ap.ENGINE)
    assert result.returncode != 0
    last = result.stderr.strip().splitlines()[-1]
    assert f"KERAS_BACKEND={ap.ENGINE!r}" in last


@pytest.mark.skipif(ap.ENGINE != "jax", reason="JAX only")
@pytest.mark.parametrize("rule", ["ss", "ss-fixed", "fa"])
def test_data_parallel_over_two_devices_gives_the_same_weights(rule: str) -> None:
    code = (
        MODEL
        + f"""
alone = trained(model({rule!r}))
keras.distribution.set_distribution(keras.distribution.DataParallel(devices=["cpu:0", "cpu:1"]))
for a, b in zip(alone, trained(model({rule!r})), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
"""
    )
    flags = "--xla_force_host_platform_device_count=2"
    result = run(code, KERAS_BACKEND="jax", XLA_FLAGS=flags)
    assert result.returncode == 0, result.stderr


@pytest.mark.skipif(ap.ENGINE != "jax", reason="JAX only")
def test_stateless_use_under_grad_and_jit_sends_the_error_through_b() -> None:
    code = (
        MODEL
        + """
import jax
made = model("ss")
layer = made.get_layer("second")
trainable, fixed = values(made.trainable_variables), values(made.non_trainable_variables)
def loss(trainable, x):
    return (made.stateless_call(trainable, fixed, x)[0] ** 2).sum()
plain = jax.grad(loss)(trainable, x)
compiled = jax.jit(jax.grad(loss))(trainable, x)
ap.revert(made)
ordinary = jax.jit(jax.grad(loss))(trainable, x)
for a, b in zip(plain, compiled, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
np.testing.assert_allclose(plain[-2], ordinary[-2], rtol=1e-4, atol=1e-4)  # the last layer's own
assert abs(np.asarray(plain[0]) - np.asarray(ordinary[0])).max() > 1e-2  # below B
"""
    )
    result = run(code, KERAS_BACKEND="jax")
    assert result.returncode == 0, result.stderr


@pytest.mark.skipif(ap.ENGINE != "jax", reason="JAX only")
def test_a_compiled_jax_step_runs_as_many_convolutions_as_backprop() -> None:
    code = (
        MODEL
        + """
import jax
def convolutions(made):
    trainable, fixed = values(made.trainable_variables), values(made.non_trainable_variables)
    loss = lambda trainable, x: (made.stateless_call(trainable, fixed, x)[0] ** 2).sum()
    text = jax.jit(jax.grad(loss)).lower(trainable, x).compile().as_text()
    return sum(line.count(" convolution(") for line in text.splitlines())
counts = {rule: convolutions(model(rule)) for rule in ("bp", "ss", "fa", "ss-fixed")}
assert len(set(counts.values())) == 1 and counts["bp"] == 5, counts
"""
    )
    result = run(code, KERAS_BACKEND="jax")
    assert result.returncode == 0, result.stderr


@pytest.mark.skipif(ap.ENGINE != "tensorflow", reason="TensorFlow only")
def test_a_tensorflow_graph_runs_as_many_convolutions_as_backprop() -> None:
    code = (
        MODEL
        + """
import tensorflow as tf
from tensorflow.python.framework import convert_to_constants
frozen = convert_to_constants.convert_variables_to_constants_v2
def convolutions(made):
    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(made(x) ** 2)
        return tape.gradient(loss, [v.value for v in made.trainable_variables])
    graph = frozen(step.get_concrete_function(tf.TensorSpec((8, 6, 6, 2)))).graph
    return sum("Conv2D" in operation.type for operation in graph.get_operations())
counts = {rule: convolutions(model(rule)) for rule in ("bp", "ss", "fa", "ss-fixed")}
assert len(set(counts.values())) == 1 and counts["bp"] == 5, counts
"""
    )
    result = run(code, KERAS_BACKEND="tensorflow")
    assert result.returncode == 0, result.stderr


@pytest.mark.skipif(ap.ENGINE != "tensorflow", reason="TensorFlow only")
@pytest.mark.parametrize("rule", ["ss", "ss-fixed", "fa"])
def test_mirrored_strategy_over_two_devices_gives_the_same_weights(rule: str) -> None:
    code = (
        MODEL
        + f"""
import tensorflow as tf
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
alone = trained(model({rule!r}))
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2
with strategy.scope():
    made = model({rule!r})
for a, b in zip(alone, trained(made), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
"""
    )
    result = run(code, KERAS_BACKEND="tensorflow")
    assert result.returncode == 0, result.stderr
