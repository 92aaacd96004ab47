"""What ``torch.compile`` leaves alone.

Imported where it is needed: it brings torch's compiler, whose import takes as long as torch's own.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch


# Drawing needs NumPy: torch.compile breaks the graph here, or says why it cannot.
@torch.compiler.disable(  # type: ignore[no-untyped-call,untyped-decorator]  # torch's
    reason="ss-batch, and fa and ss-fixed that are not kept, draw outside the compiled graph"
)
def drawn(draw: Callable[[], np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """Return what a function draws."""
    return draw()
