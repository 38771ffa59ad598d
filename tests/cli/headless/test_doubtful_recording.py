"""Recordings with doubtful words in an interview without a screen."""

import pytest

from prepcli.errors import RecordingRefused
from prepcli.headless.answers import TypedAnswer
from prepserver.wire.client_messages import UserMessage
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import Phase, StateChanged
from tests.cli.client.builders import make_message
from tests.cli.headless.conversations import converse, failed_turn, finish, open_room
from tests.support.fake_room import FakeRoom


class Checker:
    """Person at a terminal who corrects each draft."""

    interactive = True

    async def next_line(self, draft: str = "", *, prompt: str = "") -> str | None:
        return f"{draft} Checked."


@pytest.mark.parametrize("heard", ["We moved it.", ""])
@pytest.mark.parametrize("resumed", [True, False])
@pytest.mark.parametrize("person", [True, False])
def test_doubtful_recording_is_checked(person: bool, resumed: bool, heard: str) -> None:
    """A person at a terminal checks the words of a doubtful recording, which are the draft of the
    answer; a script fails, with the words among the notes."""
    failure, state = failed_turn(ErrorCode.SPEECH_DOUBTFUL, retryable=False, text=heard)

    async def script(fake: FakeRoom) -> None:
        peer = await fake.next_peer()
        await peer.greet(open_room(make_message(0), failed=state.failed if resumed else None))
        if not resumed:
            assert isinstance(await peer.accept(), UserMessage)
            await peer.send(StateChanged(state=Phase.TRANSCRIBING), failure, state)
        if not person and not resumed:
            return
        checked = await peer.accept()
        assert isinstance(checked, UserMessage)
        assert checked.text == (f"{heard} Checked.".strip() if person else "one")
        await finish(peer, 2)

    answers = [] if person and resumed else [TypedAnswer("one")]
    result = converse(script, answers, Checker() if person else None)
    if person or resumed:
        assert result.error is None
    else:
        assert isinstance(result.error, RecordingRefused)
        assert str(result.error).startswith("It did not work. The interview is saved")
    assert (f"heard: {heard}" in result.err.getvalue()) == (bool(heard) and not person)
