"""Fixtures for all screen tests."""

from tests.cli.tui.screens.support import no_stall_timeout

__all__ = ["no_stall_timeout"]
