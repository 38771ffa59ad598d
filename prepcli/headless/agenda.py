"""Agenda as text."""

from prepcli.client.agenda import reason_text
from prepcli.terminal_text import one_line
from prepserver.wire.agenda import Agenda

__all__ = ["agenda_text"]


def agenda_text(agenda: Agenda) -> str:
    """Format an agenda as numbered lines with the minutes of each topic and the reason for it."""
    lines = ["Agenda:"]
    for number, topic in enumerate(agenda.topics, 1):
        reason = one_line(reason_text(topic))
        about = f"{topic.minutes} min, {reason}" if reason else f"{topic.minutes} min"
        lines.append(f"  {number}. {one_line(topic.question)} ({about})")
    return "\n".join(lines) + "\n"
