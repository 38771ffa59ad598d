"""Types of command-line arguments that both commands use."""

import os
import re

import click

__all__ = ["TEXT"]

_SURROGATE = re.compile("[\ud800-\udfff]")


class _Text(click.ParamType[str]):
    """Parameter type for text that is not blank, in the encoding of the locale or in UTF-8. Python
    decodes other bytes to surrogates, which neither JSON nor a database accepts."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            if _SURROGATE.search(value):
                value = os.fsencode(value).decode()
        except UnicodeError:
            self.fail("The text is not in the encoding of your locale. Type it again.", param, ctx)
        if not value.strip():
            self.fail("The text is empty. Give it, or leave out the argument.", param, ctx)
        return value


TEXT = _Text()
