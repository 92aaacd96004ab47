"""The feedback rules: which matrix B carries a layer's error back to its input."""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from antiparallel.spec.errors import SpecError

Magnitude: TypeAlias = Literal["uniform", "fixed", "batch"]
Start: TypeAlias = Literal["random", "sign"]


def _require_one_of(field: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise SpecError(f"Expected {field} to be one of {allowed}. Received: {field}={value!r}")


@dataclass(frozen=True)
class Backprop:
    """Backpropagation: ``B = W``. The control, called "sham" in the paper's code."""

    @property
    def name(self) -> str:
        """The rule's short name."""
        return "bp"


@dataclass(frozen=True)
class SignSymmetry:
    """Sign-symmetry: ``B = M * sign(W)``, following the sign of W at every step.

    Args:
        magnitude: What M is. ``"uniform"``: the scalar lambda (the paper's sign-symmetry, "uSF").
            ``"fixed"``: magnitudes drawn once ("frSF"). ``"batch"``: magnitudes drawn anew at
            every backward pass ("brSF").

    References:
        Xiao et al. (2019), section 3; Liao et al. (2016) for the random magnitudes.
    """

    magnitude: Magnitude = "uniform"

    def __post_init__(self) -> None:
        _require_one_of("magnitude", self.magnitude, get_args(Magnitude))

    @property
    def name(self) -> str:
        """The rule's short name."""
        return "ss" if self.magnitude == "uniform" else f"ss-{self.magnitude}"


@dataclass(frozen=True)
class FeedbackAlignment:
    """Feedback alignment: B is set once and never changes.

    Args:
        start: ``"random"``: drawn from the layer's initialisation distribution.
            ``"sign"``: ``lambda * sign(W_0)``, W_0 being the weights when the rule is attached.

    References:
        Lillicrap et al. (2016); Xiao et al. (2019), section 3.
    """

    start: Start = "random"

    def __post_init__(self) -> None:
        _require_one_of("start", self.start, get_args(Start))

    @property
    def name(self) -> str:
        """The rule's short name."""
        return "fa" if self.start == "random" else f"fa-{self.start}"


Rule: TypeAlias = Backprop | SignSymmetry | FeedbackAlignment

RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Backprop(),
        SignSymmetry(),
        SignSymmetry(magnitude="fixed"),
        SignSymmetry(magnitude="batch"),
        FeedbackAlignment(),
        FeedbackAlignment(start="sign"),
    )
}
"""Every rule by its short name."""

ALIASES: dict[str, str] = {"sham": "bp", "usf": "ss", "frsf": "ss-fixed", "brsf": "ss-batch"}
"""Names that the literature uses, and the short names they stand for."""


def as_rule(rule: Rule | str) -> Rule:
    """Return the rule that a short name or an alias stands for; a rule is returned as it is.

    Args:
        rule: A rule, or one of the names in ``RULES`` and ``ALIASES``.

    Raises:
        SpecError: The name is not known, or the argument is neither a rule nor a name.
    """
    if isinstance(rule, Backprop | SignSymmetry | FeedbackAlignment):
        return rule
    if isinstance(rule, str):
        name = ALIASES.get(rule, rule)
        if name in RULES:
            return RULES[name]
    names = ", ".join([*RULES, *ALIASES])
    raise SpecError(f"Expected a rule or one of the names {names}. Received: rule={rule!r}")
