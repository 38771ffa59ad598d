"""Interviews as text: Markdown documents, and details of spoken answers."""

from collections.abc import Sequence

from prepcli.terminal_text import printable
from prepserver.wire.protocol import Interview, Message, MessageKind, Role, Source
from prepserver.wire.rest import SpokenAnswer

__all__ = ["markdown", "speaker_name", "spoken_answer_lines"]


def speaker_name(kind: MessageKind, role: Role) -> str:
    """Return the label that a transcript shows before a message, such as `You` or `Hint`."""
    match kind:
        case MessageKind.HINT:
            return "Hint"
        case MessageKind.SUMMARY:
            return "Summary"
    return "You" if role is Role.CANDIDATE else "Interviewer"


def spoken_answer_lines(message: Message, answer: SpokenAnswer) -> str:
    """Format the segments of a spoken answer in order of time. A dropped segment is shown with the
    reason why it was dropped."""
    lines = [f"{speaker_name(message.kind, message.role)} ({answer.seconds:.1f} s):"]
    segments = sorted((*answer.segments, *answer.dropped), key=lambda segment: segment.start)
    for segment in segments:
        dropped = f"dropped, {segment.drop_reason}: " if segment.drop_reason else ""
        text = segment.text or "(no words)"
        lines.append(f"  {segment.start:6.1f}-{segment.end:.1f}  {dropped}{text}")
    return printable("\n".join(lines)) + "\n"


def markdown(interview: Interview, messages: Sequence[Message]) -> str:
    """Format an interview as a Markdown document, in which unsafe characters are replaced."""
    about = f"{interview.type}, {interview.level}, {interview.answered} of {interview.questions}"
    lines = [f"# {interview.title}", "", f"{interview.role}: {about} answered, {interview.status}"]
    if interview.skills:
        lines += ["", f"Skills: {', '.join(interview.skills)}"]
    for message in messages:
        if not message.text.startswith("#"):  # the text has its own heading
            notes = " (translated)" if message.source is Source.TRANSLATION else ""
            notes += " (corrected)" if message.edited else ""
            lines += ["", f"**{speaker_name(message.kind, message.role)}{notes}:**"]
        lines += ["", message.text]
    return printable("\n".join(lines)) + "\n"
