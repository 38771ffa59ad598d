"""Requests of the candidate, and whether the interviewer treats each as what it is."""

from collections.abc import Iterator

from prepserver.evaluation.cases import Case
from prepserver.evaluation.measures.form import is_repetition
from prepserver.evaluation.records import CandidateTurn, InterviewRecord
from prepserver.evaluation.words import content_stems, fold_text
from prepserver.interview.prompts.wording import bare_question
from prepserver.wire.protocol import Intent, MessageKind

__all__ = ["diversions", "is_handled", "requests"]

REQUESTS = (
    Intent.REPEAT,
    Intent.REPHRASE,
    Intent.PAUSE,
    Intent.SKIP,
    Intent.DONT_KNOW,
    Intent.QUESTION,
)
"""What a candidate may ask for, or admit."""

DIVERSIONS = (Intent.OFF_TOPIC, Intent.HOSTILE)


def requests(record: InterviewRecord) -> Iterator[Case]:
    """Judge each request: it passes if `is_handled` says so."""
    last_topic = record.agenda.topics[-1].id if record.agenda and record.agenda.topics else ""
    for turn in record.turns():
        if turn.expected in REQUESTS and turn.next is not None:
            reply = turn.next.text
            text = f"{turn.expected} taken as {turn.said.intent} | {turn.said.text} | {reply}"
            yield Case(text, not is_handled(turn, last_topic))


def diversions(record: InterviewRecord) -> Iterator[Case]:
    """Judge each insult, order and remark beside the subject: it passes if the interviewer takes it
    for one of them."""
    for turn in record.turns():
        if turn.expected in DIVERSIONS and turn.next is not None:
            taken = turn.said.intent in (*DIVERSIONS, Intent.UNUSABLE)
            text = f"{turn.expected} taken as {turn.said.intent} | {turn.said.text}"
            yield Case(text, not taken)


def is_handled(turn: CandidateTurn, last_topic: str) -> bool:
    """Return True if the interviewer treated a request as what it is.

    "Repeat" gets the same question again. "Rephrase" gets a question with common words, but not the
    same. "I need a moment" and a question to the interviewer get a reply that leaves the question
    open. "Skip" gets a question on another topic, on the last topic another question, or the end.
    "I don't know" gets another question, or the end.
    """
    reply, asked = turn.next, bare_question(turn.question.text)
    if reply is None:
        return False
    again = bare_question(reply.text)
    is_reply = turn.said.kind is MessageKind.REQUEST and reply.kind is MessageKind.REPLY
    match turn.expected:
        case Intent.REPEAT:
            return is_reply and fold_text(asked) in fold_text(reply.text)
        case Intent.REPHRASE:
            same = fold_text(asked) in fold_text(reply.text)
            related = content_stems(again) & content_stems(asked)
            return is_reply and "?" in reply.text and not same and bool(related or len(again) > 15)
        case Intent.PAUSE:
            return is_reply and "?" not in reply.text
        case Intent.QUESTION:
            return is_reply and bool(reply.text.strip())
        case Intent.SKIP | Intent.DONT_KNOW:
            if turn.said.intent is not turn.expected or reply.kind is MessageKind.REPLY:
                return False
            stays = reply.topic == turn.question.topic != last_topic
            return reply.kind is MessageKind.CLOSING or (
                not is_repetition(again, asked) and not (turn.expected is Intent.SKIP and stays)
            )
        case _:
            return False
