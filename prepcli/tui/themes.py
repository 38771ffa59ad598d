"""The two themes of prep, and the choice between them."""

from collections.abc import Mapping

from textual.theme import Theme

DARK = Theme(
    name="prep-dark",
    dark=True,
    primary="#6ea8d8",
    secondary="#8a93b8",
    accent="#86c2ad",
    warning="#dcab5e",
    error="#e07a74",
    success="#86b98f",
    foreground="#d9dce2",
    background="#14171c",
    surface="#1a1e25",
    panel="#232833",
)

LIGHT = Theme(
    name="prep-light",
    dark=False,
    primary="#2b6ca3",
    secondary="#5b6488",
    accent="#1f6b57",
    warning="#9a6200",
    error="#a8322c",
    success="#2f7a48",
    foreground="#23262d",
    background="#fbfaf7",
    surface="#f2f0ea",
    panel="#e6e3da",
)

_LIGHT_BACKGROUNDS = frozenset({7, *range(9, 16)})
"""Numbers of the ANSI colours that terminals use as light backgrounds."""


def default_theme(environment: Mapping[str, str]) -> str:
    """Return the name of the theme for the background colour in `COLORFGBG`, which several
    terminals set. If the background is unknown, the theme is dark."""
    background = environment.get("COLORFGBG", "").rpartition(";")[2]
    light = background.isascii() and background.isdigit() and int(background) in _LIGHT_BACKGROUNDS
    return (LIGHT if light else DARK).name
