"""How every figure looks: colours, dashes and markers of the settings, fonts, grids."""

from typing import Any, NamedTuple


class Look(NamedTuple):
    """A line's colour, dashes and marker."""

    color: str
    dashes: str
    marker: str


_LOOKS: dict[str, Look] = {
    "bp": Look("#222222", "-", "o"),
    "ss": Look("#0072B2", "-", "s"),
    "ss-lastbp": Look("#56B4E9", "--", "s"),
    "fa": Look("#D55E00", "-", "^"),
    "fa-lastbp": Look("#E69F00", "--", "^"),
}
"""Okabe and Ito's colours, which the colour-blind can tell apart; dashed: last layer by BP."""

GRID = "#e4e4e4"
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "figure.dpi": 150,
    "savefig.facecolor": "white",
    "svg.hashsalt": "antiparallel",  # the same figure gives the same file
}


def look(setting: str) -> Look:
    """Return a setting's look; all settings of the user's own share one."""
    return _LOOKS.get(setting, Look("#009E73", ":", "D"))
