"""The paper's Figure 3 for a torch model: how well W and B align, layer by layer."""

from torch import nn

from antiparallel.spec import Backprop, SpecError
from antiparallel.spec.contract import Diagnostics
from antiparallel.spec.diagnostics import diagnose
from antiparallel.torch.inventory import weight_layers
from antiparallel.torch.layers import FeedbackLayer
from antiparallel.torch.layout import weight_of


def diagnostics(model: nn.Module) -> dict[str, Diagnostics]:
    """Return angle, kurtosis and magnitude of every weight layer, by name.

    For a layer that learns by backprop, under rule ``bp`` or unconverted, the angle is the one
    between W and sign(W), as in the paper.

    Args:
        model: The model; stays as it is.

    Returns:
        For each layer: the angle between W and B in degrees, the excess kurtosis of W, and the
        mean absolute value of W, computed in float64.

    Raises:
        SpecError: The model has no weight layer.

    References:
        Xiao et al. (2019), Figure 3.
    """
    layers = weight_layers(model)
    if not layers:
        raise SpecError(f"Expected a model with weight layers. Received: {type(model).__name__}")
    results = {}
    for found in layers:
        layer = found.module
        weight = weight_of(layer)
        feedback = weight.sign()
        if isinstance(layer, FeedbackLayer) and not found.obstacle and layer.rule != Backprop():
            feedback = layer.feedback_matrix()
        results[found.name] = diagnose(
            weight.double().cpu().numpy(), feedback.double().cpu().numpy()
        )
    return results
