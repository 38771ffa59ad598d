"""Follow-up questions: whether they take up the last answer, and whether their form makes sense."""

import functools
import re
from collections.abc import Iterator

from prepserver.evaluation.cases import Case
from prepserver.evaluation.measures.form import is_well_formed
from prepserver.evaluation.records import CandidateTurn, InterviewRecord
from prepserver.evaluation.words import content_stems, fold_text, split_words, stem
from prepserver.interview.questions.bank import load_bank
from prepserver.wire.protocol import Intent

__all__ = ["find_fault", "follow_up_questions", "takes_up"]

MIN_SUBSTANCE = 4
"""Number of stems from which an answer gives something to take up."""

_EXAMPLE = re.compile(
    r"\b(?:example|instance|concrete|case|time when|last time|occasion|step|specific|situation"
    r"|picture|first)\b",
    re.I,
)
_AGAIN = re.compile(r"\b(?:say|said|put|tell me|explain|mean by) that\b|\bin english\b", re.I)
_CUT_END = frozenset(
    "a an and because but if my nor or our than the their these whose your".split()
)
"""Words with which no question ends. Prepositions may end one: "Who did you do it with?"."""
_QUOTE = re.compile(r"[\"“]([^\"“”]+)[\"”]")
_DOUBLED = re.compile(r"\b(\w+) \1\b(?<!\bthat that)(?<!\bhad had)", re.I)
_DETERMINERS = r"(?:a|an|the|my|your|his|her|its|our|their)"
_BROKEN = re.compile(
    rf"\b{_DETERMINERS} (?:{_DETERMINERS}|did|does|do|was|were|is|are|has|have|had|can|could|will"
    r"|would|and|or|but|of|to|in|on|at|with|from|for|by|because|so|i|you|he|she|we|they|it)(?![\w-])"
    r"|\b(?:of|into) (?:did|does|was|were|had|has|would|could)\b"
    r"|\b(?:of|to|with|from|for|by|at|into|about) (?:i|we|they|he|she)\b",
    re.I,
)
_OTHER_PERSON = re.compile(r"\b(?:i|my|myself)\b", re.I)
_INTERVIEWER = re.compile(
    r"\b(?:i'd|i would|i'll|i will|may i|can i|could i|should i|i am|i'm|i mean|i wonder|i see"
    r"|i like|i want|i wanted|i understand|i ask|i asked|if i|had i|were i|do i|did i|have i|am i"
    r"|that i can)\b",
    re.I,
)


def follow_up_questions(record: InterviewRecord) -> Iterator[Case]:
    """Judge each follow-up question: it passes if it takes up the last answer and has no fault."""
    for turn in record.follow_ups():
        assert turn.next is not None
        question, answer = turn.next.text, turn.said.text
        fault = find_fault(question, answer)
        if not fault and not takes_up(turn):
            fault = "does not take up the answer"
        yield Case(f"{fault or 'ok'} | {answer[:160]} | {question}", bool(fault))


def takes_up(turn: CandidateTurn) -> bool:
    """Return True if the question after a turn takes up what the candidate said.

    After an answer with at least four stems, it has a stem of the answer. After a shorter answer,
    or "I don't know", it has a stem of the open question or asks for an example. A question that
    asks to say the answer again always takes it up.
    """
    assert turn.next is not None
    if _AGAIN.search(turn.next.text):
        return True
    asked, answered = content_stems(turn.next.text), content_stems(turn.said.text)
    intent = turn.said.intent or turn.expected
    if intent is Intent.ANSWER and len(answered) >= MIN_SUBSTANCE:
        return not asked.isdisjoint(answered)
    open_question = content_stems(turn.question.text)
    return not asked.isdisjoint(open_question | answered) or bool(_EXAMPLE.search(turn.next.text))


def find_fault(question: str, answer: str) -> str:
    """Return what is wrong with the form of a follow-up question; empty if nothing is.

    A question has a fault if it is not well-formed; repeats a word; has a determiner or a
    preposition before a word that cannot follow it, as in "your of"; ends with such a word; quotes
    words that the answer does not contain; says "I" or "my" as the candidate does, outside a
    quotation; or has a word that stands neither in the answer nor in the bank and looks like no
    form of a word there, as in "ownitance".
    """
    if not is_well_formed(question):
        return "not one well-formed question"
    for quote in _QUOTE.findall(question):
        if fold_text(quote).strip(" .,!?…") not in fold_text(answer):
            return f"quotes what was not said: {quote}"
    bare = _QUOTE.sub(" this ", question)
    if match := _DOUBLED.search(bare):
        return f"repeats a word: {match[0]}"
    if match := _BROKEN.search(bare):
        return f"is cut: {match[0]}"
    words = split_words(bare)
    if words[-1] in _CUT_END:
        return f"ends with {words[-1]}"
    if match := _OTHER_PERSON.search(_INTERVIEWER.sub(" ", bare)):
        return f"speaks as the candidate: {match[0]}"
    unknown = _unknown_words(bare, answer)
    return f"has an unknown word: {unknown[0]}" if unknown else ""


def _unknown_words(question: str, answer: str) -> list[str]:
    """Return lower-case words of a question whose beginning is a word but which are none."""
    known = _bank_stems() | {stem(word) for word in split_words(answer)}
    return [
        word
        for word in split_words(question)
        if word.isalpha() and stem(word) not in known and word.startswith(_PREFIXES)
    ]


_PREFIXES = ("own", "your", "the", "with", "that", "this", "what", "how")
"""Words to which a model that runs on attaches an ending."""


@functools.cache
def _bank_stems() -> frozenset[str]:
    texts = [
        text
        for question in load_bank().questions
        for text in (
            *(question.text, question.topic, question.easier, question.harder, question.vague),
            *question.listen_for,
        )
    ]
    return frozenset(stem(word) for text in texts for word in split_words(text))
