"""What stands at the end: facts counted from the transcript, and the model's one sentence."""

import re

from prepserver.interview.prompts.context import PromptContext
from prepserver.wire.protocol import MessageKind

__all__ = ["summary_text"]

MAX_QUOTE_LENGTH = 120
"""Characters of each answer that are quoted."""


def summary_text(context: PromptContext, sentence: str) -> str:
    """Markdown. Everything but `sentence` is counted or quoted, never generated."""
    words = [len(answer.split()) for answer in context.answers]
    lines = [
        "## Summary",
        "",
        sentence,
        "",
        f"- Questions answered: {len(words)} of {context.spec.questions}",
    ]
    if words:
        lines.append(f"- Words in an answer: {sum(words) // len(words)} on average")
    if context.skills:
        lines.append(f"- Skills in focus: {', '.join(context.skills)}")
    question = ""
    for message in context.messages:
        if message.kind is MessageKind.QUESTION:
            question = _last_sentence(message.text)
        elif message.kind is MessageKind.ANSWER:
            lines += ["", f"**{question}**", "", f"> {_opening(message.text)}"]
    return "\n".join(lines)


def _last_sentence(text: str) -> str:
    return re.split(r"(?<=[.!])\s+", text.strip())[-1]


def _opening(text: str) -> str:
    line = re.sub(r"\s+", " ", text).strip()
    return (
        line if len(line) <= MAX_QUOTE_LENGTH else line[:MAX_QUOTE_LENGTH].rsplit(" ", 1)[0] + " …"
    )
