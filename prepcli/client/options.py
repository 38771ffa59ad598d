"""Parsed options of `prep interview`."""

from msgspec import Struct

from prepserver.wire.protocol import InterviewSpec

__all__ = ["SessionOptions"]


class SessionOptions(Struct, frozen=True, kw_only=True):
    """Parsed options of `prep interview`."""

    server: str | None = None
    """URL of the server; None for the local server."""
    spec: InterviewSpec = InterviewSpec()
    """Specification of the new interview, or the initial content of the form for a new
    interview."""
    start_new: bool = False
    """True to create an interview from `spec` immediately."""
    interview_id: str | None = None
    """Id of the interview to resume."""
    resume_last: bool = False
    """True to resume the most recently updated active interview."""
