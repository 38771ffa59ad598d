"""What widgets and workers tell the screens, in the past tense.

Workers never touch widgets: they post one of these, and the screen's handler changes what is
shown.
"""

from textual.message import Message

from prepcli.client.state import RoomState
from prepcli.errors import PrepError
from prepserver.wire.protocol import Failure


class AnswerTyped(Message):
    """The candidate is writing; posted at most once in a while."""

    def __init__(self, text: str) -> None:
        """`text` is what stands in the box."""
        super().__init__()
        self.text = text


class AnswerSubmitted(Message):
    """The candidate asked to send the answer; whether it goes is the screen's decision."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


class RoomChanged(Message):
    """There is a newer state of the room that a screen shows."""

    def __init__(self, state: RoomState) -> None:
        super().__init__()
        self.state = state

    def can_replace(self, message: Message) -> bool:
        """Of several states in the queue only the newest is shown, however fast a model talks."""
        return isinstance(message, RoomChanged)


class ConnectionLost(Message):
    """The room cannot be heard; the next attempt comes in `retry_in` seconds."""

    def __init__(self, retry_in: float) -> None:
        super().__init__()
        self.retry_in = retry_in


class ConnectionRestored(Message):
    """The room can be heard again, or for the first time."""


class FailureReported(Message):
    """The server answered a message with an error."""

    def __init__(self, failure: Failure) -> None:
        super().__init__()
        self.failure = failure


class RoomLeft(Message):
    """The room has gone for good: not authorised, deleted, or not there."""

    def __init__(self, error: PrepError) -> None:
        super().__init__()
        self.error = error


class LevelMeasured(Message):
    """How loud the newest block of a recording is, and how long the recording is by now."""

    def __init__(self, level: float, seconds: float) -> None:
        super().__init__()
        self.level = level
        """RMS in dBFS."""
        self.seconds = seconds

    def can_replace(self, message: Message) -> bool:
        """A meter shows the newest level."""
        return isinstance(message, LevelMeasured)


class RecordingBegan(Message):
    """The microphone is open."""


class RecordingEnded(Message):
    """The microphone is closed; `reason` is a sentence if it was not the candidate's doing."""

    def __init__(self, reason: str = "") -> None:
        super().__init__()
        self.reason = reason


class RecordingDelivered(Message):
    """Nothing of a recording is left to be sent."""


class StartupProgressed(Message):
    """One more line about what prep is waiting for before it can begin."""

    def __init__(self, line: str) -> None:
        super().__init__()
        self.line = line

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, StartupProgressed)


class SessionOpened(Message):
    """There is a server; `interview_id` is the interview to show first, if any."""

    def __init__(self, interview_id: str) -> None:
        super().__init__()
        self.interview_id = interview_id


class StartupFailed(Message):
    """There is no server to talk to."""

    def __init__(self, error: PrepError) -> None:
        super().__init__()
        self.error = error
