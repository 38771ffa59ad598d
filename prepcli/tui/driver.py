"""Driver of the screen, which draws on standard output."""

import sys
from typing import Any

from textual.app import App
from textual.drivers.linux_driver import LinuxDriver

__all__ = ["StandardOutputDriver"]


class StandardOutputDriver(LinuxDriver):
    """Driver that draws on standard output. Textual's own draws on standard error, which people
    redirect to a file."""

    def __init__(self, app: App[Any], **options: Any) -> None:
        super().__init__(app, **options)
        self._file = sys.__stdout__
