"""Transcripts of evaluated interviews, for readers."""

from prepserver.evaluation.records import Evaluation
from prepserver.wire.protocol import Role

__all__ = ["format_transcripts"]


def format_transcripts(evaluation: Evaluation) -> str:
    """Return all interviews as Markdown, unedited."""
    lines = [f"# Interviews of {evaluation.system.name}"]
    for number, record in enumerate(evaluation.interviews, 1):
        lines += [
            "",
            f"## {number}. {record.role}, {record.type}, {record.level}: {record.candidate}",
        ]
        for message in record.messages:
            name = "Interviewer" if message.role is Role.INTERVIEWER else "Candidate"
            head, text = f"**{name}** ({message.kind}):", message.text
            lines += ["", f"{head} {text}"] if "\n" not in text else ["", head, "", _quote(text)]
        if record.failed:
            lines += ["", f"The interview ended early: {record.failed}"]
    return "\n".join(lines) + "\n"


def _quote(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines())
