"""Messages from widgets and workers to the screens, named in the past tense.

Workers never touch widgets: they post a message, and the screen's handler updates the widgets.
"""

from textual.message import Message

from prepcli.client.state import RoomState
from prepcli.errors import PrepError
from prepserver.wire.protocol import Failure


class AnswerTyped(Message):
    """The candidate is typing. The answer box limits how often this message is posted."""

    def __init__(self, text: str) -> None:
        """`text` is the whole content of the box."""
        super().__init__()
        self.text = text


class AnswerSubmitted(Message):
    """The candidate pressed the send key; the screen decides whether the answer may be sent."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


class RoomChanged(Message):
    """The state of the screen's room has changed."""

    def __init__(self, state: RoomState) -> None:
        super().__init__()
        self.state = state

    def can_replace(self, message: Message) -> bool:
        """Return True if `message` carries a state as well: only the newest queued state is
        shown."""
        return isinstance(message, RoomChanged)


class ConnectionLost(Message):
    """The connection to the room was lost; the next attempt starts in `retry_in` seconds."""

    def __init__(self, retry_in: float) -> None:
        super().__init__()
        self.retry_in = retry_in


class ConnectionRestored(Message):
    """The connection to the room was established."""


class FailureReported(Message):
    """The server reported an error, such as a rejected message."""

    def __init__(self, failure: Failure) -> None:
        super().__init__()
        self.failure = failure


class RoomLeft(Message):
    """The room has ended with an error: for example, the user must log in again."""

    def __init__(self, error: PrepError) -> None:
        super().__init__()
        self.error = error


class LevelMeasured(Message):
    """Level of the newest block of a recording, and the duration of the recording so far."""

    def __init__(self, level: float, seconds: float) -> None:
        super().__init__()
        self.level = level
        """RMS level in dBFS."""
        self.seconds = seconds

    def can_replace(self, message: Message) -> bool:
        """Return True if `message` carries a level as well: only the newest queued level is
        shown."""
        return isinstance(message, LevelMeasured)


class MicrophoneOpening(Message):
    """The microphone is being opened, which may take seconds."""


class RecordingStarted(Message):
    """The microphone is open."""


class RecordingSilent(Message):
    """The microphone has delivered only digital silence for some seconds."""


class RecordingEnded(Message):
    """The microphone is closed. `reason` says why the recording failed, or is empty if the
    candidate ended the recording or the server rejected the recording."""

    def __init__(self, reason: str = "") -> None:
        super().__init__()
        self.reason = reason


class RecordingDelivered(Message):
    """The delivery of a recording is over: the recording was stored, rejected or discarded, or
    could not start."""


class StartupProgressed(Message):
    """The start-up has reached another step, which `line` describes."""

    def __init__(self, line: str) -> None:
        super().__init__()
        self.line = line

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, StartupProgressed)


class SessionOpened(Message):
    """The session is open. `interview_id` names the interview to show first, or is empty."""

    def __init__(self, interview_id: str) -> None:
        super().__init__()
        self.interview_id = interview_id


class StartupFailed(Message):
    """The session could not be opened."""

    def __init__(self, error: PrepError) -> None:
        super().__init__()
        self.error = error
