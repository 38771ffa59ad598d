"""Upper limits of the wire, which forms and the command line check before the server does.

Lengths of text are in Unicode code points.
"""

__all__ = [
    "MAX_ANSWER",
    "MAX_BINARY_FRAME",
    "MAX_COMPANY",
    "MAX_DOCUMENT",
    "MAX_ID",
    "MAX_QUESTIONS",
    "MAX_ROLE",
    "MAX_TEXT_FRAME",
    "MAX_TITLE",
]

MAX_ROLE = 200
"""Code points of the role that an interview is about."""

MAX_COMPANY = 200
"""Code points of a company's name."""

MAX_TITLE = 200
"""Code points of an interview's title."""

MAX_QUESTIONS = 30
"""Questions of one interview."""

MAX_ANSWER = 16_000
"""Code points of one typed answer."""

MAX_DOCUMENT = 32_000
"""Code points of a job description or a resume."""

MAX_ID = 64
"""Characters of an id that a client makes."""

MAX_TEXT_FRAME = 64 * 1024
"""Bytes of one text frame; the server answers a larger one with an error and closes with 1009."""

MAX_BINARY_FRAME = 4 * 1024 * 1024
"""Bytes of one binary frame: a whole recording of about two minutes."""
