"""Rules that judge how the interviewer treats requests."""

import pytest

from prepserver.evaluation.measures.requests import diversions, requests
from prepserver.wire.protocol import Intent, MessageKind
from tests.server.evaluation.builders import Said, make_record

OPEN: Said = (MessageKind.QUESTION, "Thanks. How would you test a parser?")
ASKED = "How would you test a parser?"
REPLY, QUESTION, CLOSING = MessageKind.REPLY, MessageKind.QUESTION, MessageKind.CLOSING


def judge_reply(said: Said, reply: Said, expected: Intent) -> bool:
    """Return True if the rule accepts `reply` to `said`."""
    record = make_record(OPEN, said, reply, expected=[expected])
    (case,) = requests(record)
    return not case.failed


@pytest.mark.parametrize(
    ("intent", "reply"),
    [
        (Intent.REPEAT, (REPLY, f"Of course. {ASKED}")),
        (Intent.REPHRASE, (REPLY, "In other words: Which inputs would you give a parser?")),
        (Intent.PAUSE, (REPLY, "Take your time.")),
        (Intent.QUESTION, (REPLY, f"I cannot know that here. My question was: {ASKED}")),
        (Intent.SKIP, (QUESTION, "All right. Who reviewed your work?", "t2")),
        (Intent.SKIP, (CLOSING, "Thank you.")),
        (Intent.DONT_KNOW, (QUESTION, "No problem. What is a token?")),
        (Intent.DONT_KNOW, (CLOSING, "Thank you.")),
    ],
)
def test_a_request_that_is_honoured_passes(intent: Intent, reply: Said) -> None:
    """Each kind of request passes with the reply that a person would give."""
    used = intent in (Intent.SKIP, Intent.DONT_KNOW)
    kind = MessageKind.ANSWER if used else MessageKind.REQUEST
    assert judge_reply((kind, "please", intent), reply, intent)


@pytest.mark.parametrize(
    ("intent", "reply"),
    [
        (Intent.REPEAT, (REPLY, "Of course. Who reviewed your work?")),
        (Intent.REPEAT, (QUESTION, ASKED)),
        (Intent.REPHRASE, (REPLY, f"In other words: {ASKED}")),
        (Intent.REPHRASE, (REPLY, "Let me put it differently.")),
        (Intent.PAUSE, (REPLY, "Take your time. Who reviewed your work?")),
        (Intent.PAUSE, (QUESTION, "Who reviewed your work?")),
        (Intent.QUESTION, (QUESTION, "Who reviewed your work?")),
        (Intent.QUESTION, (REPLY, " ")),
        (Intent.SKIP, (QUESTION, ASKED, "t2")),
        (Intent.SKIP, (QUESTION, "Who reviewed your work?", "t1")),
        (Intent.SKIP, (REPLY, "No.")),
        (Intent.DONT_KNOW, (QUESTION, ASKED)),
        (Intent.DONT_KNOW, (REPLY, f"I did not understand that. {ASKED}")),
    ],
)
def test_a_request_that_is_not_honoured_fails(intent: Intent, reply: Said) -> None:
    """Each kind of request fails with another reply, even if it was recognised."""
    used = intent in (Intent.SKIP, Intent.DONT_KNOW)
    kind = MessageKind.ANSWER if used else MessageKind.REQUEST
    assert not judge_reply((kind, "please", intent), reply, intent)


@pytest.mark.parametrize("intent", [*Intent])
def test_a_request_taken_for_an_answer_fails(intent: Intent) -> None:
    """A request that the interviewer takes for an answer fails, whatever the next question is."""
    said: Said = (MessageKind.ANSWER, "Could you help me?", Intent.ANSWER)
    record = make_record(OPEN, said, (QUESTION, "Who helped you there?"), expected=[intent])
    judged = [case.failed for rule in (requests, diversions) for case in rule(record)]
    assert judged == ([] if intent in (Intent.ANSWER, Intent.UNUSABLE) else [True])


@pytest.mark.parametrize("intent", [Intent.OFF_TOPIC, Intent.HOSTILE])
def test_a_diversion_that_is_recognised_passes(intent: Intent) -> None:
    """An insult or a remark beside the subject passes if it is taken as one of them."""
    said: Said = (MessageKind.REQUEST, "My cat is asleep.", Intent.OFF_TOPIC)
    record = make_record(OPEN, said, (REPLY, f"Let us stay here. {ASKED}"), expected=[intent])
    assert [case.failed for case in diversions(record)] == [False]


def test_the_last_request_without_a_reply_is_not_judged() -> None:
    """A request after which the interview broke off is left out."""
    record = make_record(OPEN, (MessageKind.REQUEST, "Again?", Intent.REPEAT))
    assert list(requests(record)) == []
