"""Size limits of messages and REST bodies.

The server enforces them; forms and command-line options check input against them in advance.
"""

__all__ = [
    "MAX_ANSWER",
    "MAX_BINARY_FRAME",
    "MAX_COMPANY",
    "MAX_DOCUMENT",
    "MAX_ID",
    "MAX_MINUTES",
    "MAX_QUESTION",
    "MAX_QUESTIONS",
    "MAX_ROLE",
    "MAX_SKILL",
    "MAX_TEXT_FRAME",
    "MAX_TITLE",
]

MAX_ROLE = 200
"""Maximum length of the role in an interview, in code points."""

MAX_COMPANY = 200
"""Maximum length of a company's name, in code points."""

MAX_TITLE = 200
"""Maximum length of an interview's title, in code points."""

MAX_QUESTIONS = 30
"""Maximum number of questions in an interview."""

MAX_MINUTES = 240
"""Maximum length of an interview in minutes."""

MAX_QUESTION = 400
"""Maximum length of a question, in code points."""

MAX_SKILL = 80
"""Maximum length of the name of a skill, in code points."""

MAX_ANSWER = 16_000
"""Maximum length of a typed answer, in code points."""

MAX_DOCUMENT = 32_000
"""Maximum length of a job description or a resume, in code points."""

MAX_ID = 64
"""Maximum length of an id that a client generates, in characters."""

MAX_TEXT_FRAME = 64 * 1024
"""Maximum size of a text frame in bytes. The server answers a larger frame with an error and closes
the connection with code 1009."""

MAX_BINARY_FRAME = 4 * 1024 * 1024
"""Maximum size of a binary frame in bytes, enough for a recording of about two minutes."""
