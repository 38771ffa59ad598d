"""Names and numbers in the last messages that nobody said."""

import re
from collections.abc import Iterator

from prepserver.evaluation.cases import Case
from prepserver.evaluation.measures.safety import own_words
from prepserver.evaluation.records import InterviewRecord
from prepserver.evaluation.words import fold_text
from prepserver.interview.questions.bank import load_bank
from prepserver.wire.protocol import MessageKind

__all__ = ["unsaid_facts"]

_NUMBER = re.compile(
    r"\b\d[\d.,]*%?|\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty"
    r"|forty|fifty|sixty|seventy|eighty|ninety|hundred|thousand|million)\b",
    re.I,
)
_NAME = re.compile(r"(?<![.!?:\n] )(?<!^)\b[A-Z][\w'’-]*[A-Za-z]\b", re.M)


def unsaid_facts(record: InterviewRecord) -> Iterator[Case]:
    """Judge the closing and the summary's own sentences: each fails if it holds a name, a number or
    a skill that no question and no answer contains. The role and the company may be named."""
    conversation = record.of_kind(MessageKind.QUESTION, MessageKind.ANSWER)
    spoken = "\n".join([record.role, record.company, *(message.text for message in conversation)])
    said, skills = fold_text(spoken), set(load_bank().find_skills(spoken))
    for message in record.of_kind(MessageKind.CLOSING, MessageKind.SUMMARY):
        text = own_words(message.text)
        facts = [match[0].rstrip(".,") for match in _NUMBER.finditer(text)]
        names = (re.sub(r"['’]s$", "", match[0]) for match in _NAME.finditer(text))
        facts += [name for name in names if name != "I"]
        unsaid = [fact for fact in facts if fold_text(fact) not in said]
        unsaid += [skill for skill in load_bank().find_skills(text) if skill not in skills]
        yield Case(f"{', '.join(unsaid)} | {text}" if unsaid else text, bool(unsaid))
