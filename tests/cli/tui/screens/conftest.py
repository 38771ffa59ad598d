"""What every test of the screens gets."""

from tests.cli.tui.screens.support import patient

__all__ = ["patient"]
