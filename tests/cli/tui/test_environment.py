import pytest

from prepcli.tui.environment import remove_textual_settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TEXTUAL_THEME", "galaxy"),
        ("TEXTUAL_DRIVER", "other.module:Driver"),
        ("TEXTUAL_COLOR_SYSTEM", "bogus"),
        ("TEXTUAL_FILTERS", "bogus"),
        ("TEXTUAL_PRESS", "q,q"),
        ("TEXTUAL_SCREENSHOT", "1"),
        ("TEXTUAL_LOG", "/nowhere/log"),
    ],
)
def test_settings_of_other_programs_are_removed(name: str, value: str) -> None:
    """Textual's settings for other programs and for development are removed."""
    environment = {name: value, "TERM": "xterm", "TEXTUAL_ANIMATIONS": "none"}
    remove_textual_settings(environment)
    assert environment == {"TERM": "xterm", "TEXTUAL_ANIMATIONS": "none"}
