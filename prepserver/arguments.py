"""Types of command-line arguments that both commands use."""

import click

__all__ = ["TEXT"]


class _Text(click.ParamType[str]):
    """Parameter type for text that is not blank. Python decodes the bytes of an argument that are
    not text to surrogates, which neither JSON nor a database accepts."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            value.encode()
        except UnicodeEncodeError:
            self.fail("The text is not in the encoding of your locale. Type it again.", param, ctx)
        if not value.strip():
            self.fail("The text is empty. Give it, or leave out the argument.", param, ctx)
        return value


TEXT = _Text()
