"""An interview as text: lines for a terminal, Markdown for a file."""

import re
from collections.abc import Sequence

from prepserver.wire.protocol import Interview, Message, MessageKind, Role
from prepserver.wire.rest import SpokenAnswer

__all__ = ["markdown", "printable", "speaker_name", "spoken_answer_lines"]

# C0 and C1 controls but for tab and line feed: what a model or a server says must not move the
# cursor, set the title or clear the screen of whoever reads it.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """The text without what a terminal would obey."""
    return _CONTROLS.sub("", text.replace("\r\n", "\n"))


def speaker_name(kind: MessageKind, role: Role) -> str:
    """Who says a message, as a transcript names them."""
    match kind:
        case MessageKind.HINT:
            return "Hint"
        case MessageKind.SUMMARY:
            return "Summary"
    return "You" if role is Role.CANDIDATE else "Interviewer"


def spoken_answer_lines(message: Message, speech: SpokenAnswer) -> str:
    """A spoken answer by its segments, in the order of the recording; what was set aside says
    why."""
    lines = [f"{speaker_name(message.kind, message.role)} ({speech.seconds:.1f} s):"]
    for each in sorted((*speech.segments, *speech.dropped), key=lambda segment: segment.start):
        why = f"set aside, {each.drop_reason}: " if each.drop_reason else ""
        lines.append(f"  {each.start:6.1f}-{each.end:.1f}  {why}{each.text or '(no words)'}")
    return printable("\n".join(lines)) + "\n"


def markdown(interview: Interview, messages: Sequence[Message]) -> str:
    """A whole interview as a Markdown document."""
    about = f"{interview.type}, {interview.level}, {interview.answered} of {interview.questions}"
    lines = [f"# {interview.title}", "", f"{interview.role}: {about} answered, {interview.status}"]
    if interview.skills:
        lines += ["", f"Skills: {', '.join(interview.skills)}"]
    for message in messages:
        if not message.text.startswith("#"):  # it has a title of its own
            edited = " (corrected)" if message.edited else ""
            lines += ["", f"**{speaker_name(message.kind, message.role)}{edited}:**"]
        lines += ["", message.text]
    return printable("\n".join(lines)) + "\n"
