"""What Keras's engines do each in their own way; everything else goes through ``keras.ops``.

``engine`` is the module of the engine that Keras runs on. All have the same functions:
``send_back``, ``convolve``, ``convolution_input_gradient``, ``rows_of_a_block``, ``as_tensor``,
``signed``, ``draw_on_host`` and ``pullback``.
"""

import importlib
import os
from types import ModuleType

from antiparallel.spec import UnsupportedError

_MODULES = {
    "tensorflow": "antiparallel.keras.engines.tensorflow_engine",
    "jax": "antiparallel.keras.engines.jax_engine",
    "torch": "antiparallel.keras.engines.torch_engine",
}


def _engine() -> ModuleType:
    try:
        keras = importlib.import_module("keras")
    except (ImportError, ValueError) as error:  # the second for a name that Keras does not know
        asked = os.environ.get("KERAS_BACKEND")
        raise ImportError(
            "Expected Keras 3 and the engine that KERAS_BACKEND or Keras's configuration file "
            f"names ({', '.join(_MODULES)}), both installed. "
            f"Received: KERAS_BACKEND={asked!r} ({error})"
        ) from error
    name = keras.config.backend()
    if name not in _MODULES:
        raise UnsupportedError(
            f"Expected an engine that computes gradients: {', '.join(_MODULES)}. Set KERAS_BACKEND "
            f"before Keras is imported. Received: engine={name!r}"
        )
    return importlib.import_module(_MODULES[name])


engine = _engine()
