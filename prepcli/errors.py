"""The client's exceptions. Each has an exit code and a message that says what to do.

PrepError                      1
├── UsageError                 2   the command cannot be carried out as given
│   ├── DocumentError              a job description, a resume or a file of answers
│   ├── AudioFileError             a recording
│   │   ├── NotAudio
│   │   ├── EmptyAudio
│   │   └── AudioTooLong
│   ├── SettingsError              settings and credentials of the client
│   ├── RequestRefused             the server rejected the request
│   └── NotFound                   no such interview, or another user's
├── ServerUnreachable          3
│   ├── QueueFull                  too many messages wait for a connection
│   └── LocalServerFailed          the local server does not run
├── NotAuthorised              4
├── RateLimited                5
├── InferenceFailed            6
├── RecordingRefused           1   the server rejected a recording
└── MicrophoneUnavailable      1
"""

from typing import ClassVar

from prepserver.wire.error_codes import ErrorCode

__all__ = [
    "AudioFileError",
    "AudioTooLong",
    "DocumentError",
    "EmptyAudio",
    "InferenceFailed",
    "LocalServerFailed",
    "MicrophoneUnavailable",
    "NotAudio",
    "NotAuthorised",
    "NotFound",
    "PrepError",
    "QueueFull",
    "RateLimited",
    "RecordingRefused",
    "RequestRefused",
    "ServerUnreachable",
    "SettingsError",
    "UsageError",
]


class PrepError(Exception):
    """Base class of all errors that `prep` reports to its user."""

    exit_code: ClassVar[int] = 1


class UsageError(PrepError):
    """The command cannot be carried out as given."""

    exit_code = 2


class DocumentError(UsageError):
    """A text file cannot be used."""


class AudioFileError(UsageError):
    """A recording cannot be used."""


class NotAudio(AudioFileError):
    """The file is not a recording in a supported format."""


class EmptyAudio(AudioFileError):
    """The recording has no samples."""


class AudioTooLong(AudioFileError):
    """The recording exceeds the maximum length of an answer."""


class SettingsError(UsageError):
    """The settings or the credentials cannot be read or written."""


class RequestRefused(UsageError):
    """The server rejected the request as invalid."""

    def __init__(self, message: str, *, code: str = ErrorCode.BAD_REQUEST) -> None:
        super().__init__(message)
        self.code = code
        """Error code from the server: an `ErrorCode`, or one that a newer server has added."""


class NotFound(UsageError):
    """The user has no interview with the given id."""


class ServerUnreachable(PrepError):
    """No prep server responds at the address."""

    exit_code = 3


class QueueFull(ServerUnreachable):
    """The outbox is full of unacknowledged messages."""


class LocalServerFailed(PrepError):
    """The local server did not start or has ended; retrying cannot help."""

    exit_code = 3


class NotAuthorised(PrepError):
    """The access key is missing or was rejected."""

    exit_code = 4


class RateLimited(PrepError):
    """The user's allowance of model requests or a budget is used up."""

    exit_code = 5

    def __init__(self, message: str, *, reset: float | None = None) -> None:
        super().__init__(message)
        self.reset = reset
        """Time at which the allowance is renewed, in seconds since the Unix epoch; None if
        unknown."""


class InferenceFailed(PrepError):
    """A model failed to respond."""

    exit_code = 6


class RecordingRefused(PrepError):
    """The server rejected a recording."""


class MicrophoneUnavailable(PrepError):
    """No microphone can be used on this machine."""
