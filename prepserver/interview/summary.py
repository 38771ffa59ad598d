"""Text of the final message: facts from the transcript, and one sentence written by the model."""

import re

from prepserver.interview.dialogue.grounding import keep_supported
from prepserver.interview.prompts.context import PromptContext
from prepserver.interview.prompts.wording import bare_question
from prepserver.wire.protocol import MessageKind

__all__ = ["summary_text"]

MAX_QUOTE_LENGTH = 120
"""Maximum length of a quotation from an answer, in characters."""


def summary_text(context: PromptContext, sentence: str) -> str:
    """Return the summary as Markdown. The model wrote only `sentence`; the other lines are
    facts.

    Sentences of the model that name what no answer names are dropped.
    """
    asked = "\n".join(context.asked_questions)
    topics = [each.topic for each in context.main_questions if each.text in asked]
    sentence = keep_supported(sentence, [*context.answers, *topics], context.skills)
    words = [len(answer.split()) for answer in context.answers]
    lines = [
        "## Summary",
        "",
        *([sentence, ""] if sentence else []),
        f"- Questions answered: {len(words)} of {context.spec.questions}",
    ]
    if words:
        lines.append(f"- Average words per answer: {sum(words) // len(words)}")
    if context.skills:
        lines.append(f"- Skills in focus: {', '.join(context.skills)}")
    question = ""
    for message in context.messages:
        if message.kind is MessageKind.QUESTION:
            question = bare_question(message.text)
        elif message.kind is MessageKind.ANSWER:
            lines += ["", f"**{question}**", "", f"> {_excerpt(message.text)}"]
    return "\n".join(lines)


def _excerpt(text: str) -> str:
    """Return `text` on one line, cut between words if it exceeds `MAX_QUOTE_LENGTH`."""
    line = re.sub(r"\s+", " ", text).strip()
    if len(line) <= MAX_QUOTE_LENGTH:
        return line
    return line[:MAX_QUOTE_LENGTH].rsplit(" ", 1)[0] + " …"
