"""The client's exceptions. Each has an exit code and a message that says what to do.

PrepError                      1
├── UsageError                 2   the command cannot be carried out as given
│   ├── DocumentError              a job description, a resume or a file of answers
│   ├── AudioFileError             a recording
│   │   ├── NotAudio
│   │   ├── EmptyAudio
│   │   └── AudioTooLong
│   ├── SettingsError              settings and credentials of the client
│   ├── RequestRefused             the server rejected a request
│   └── NotFound                   missing, or owned by another user
├── ServerUnreachable          3
│   ├── ProxyRefused               a proxy forwards requests but no connections to rooms
│   └── QueueFull                  too many messages wait for a connection
├── LocalServerFailed          3   the local server is not running
├── NotAuthorised              4
├── RateLimited                5
├── InferenceFailed            6
├── RecordingRefused           1   the server rejected or lost a recording
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
    "ProxyRefused",
    "QueueFull",
    "RateLimited",
    "RecordingRefused",
    "RequestRefused",
    "ServerUnreachable",
    "SettingsError",
    "UsageError",
]


class PrepError(Exception):
    """Base class of the client's exceptions, whose messages `prep` shows to its user."""

    exit_code: ClassVar[int] = 1


class UsageError(PrepError):
    """The command cannot be carried out as given."""

    exit_code = 2


class DocumentError(UsageError):
    """A job description, a resume or a file of answers cannot be used."""


class AudioFileError(UsageError):
    """An audio file cannot be used as a spoken answer."""


class NotAudio(AudioFileError):
    """The file is not audio in a supported format."""


class EmptyAudio(AudioFileError):
    """The audio file is empty or has no samples."""


class AudioTooLong(AudioFileError):
    """The audio file is longer than the maximum length of a spoken answer."""


class SettingsError(UsageError):
    """The settings or the credentials cannot be read or written."""


class RequestRefused(UsageError):
    """The server rejected a request, for example as invalid."""

    def __init__(self, message: str, *, code: str = ErrorCode.BAD_REQUEST) -> None:
        super().__init__(message)
        self.code = code
        """Error code from the server: an `ErrorCode`, or a code that a newer server has added."""


class NotFound(UsageError):
    """The requested interview or transcription does not exist or belongs to another user."""


class ServerUnreachable(PrepError):
    """The server cannot be reached, is not a prep server, or failed to handle a request."""

    exit_code = 3


class ProxyRefused(ServerUnreachable):
    """A proxy forwards requests to the server but no connections to rooms."""


class QueueFull(ServerUnreachable):
    """The limit for unacknowledged messages or audio is reached."""


class LocalServerFailed(PrepError):
    """The local server did not start or has ended; retrying cannot help."""

    exit_code = 3


class NotAuthorised(PrepError):
    """The access key is missing or was rejected."""

    exit_code = 4


class RateLimited(PrepError):
    """The user's allowance of model requests, or one of the user's budgets, is used up."""

    exit_code = 5

    def __init__(self, message: str, *, reset: float | None = None) -> None:
        super().__init__(message)
        self.reset = reset
        """Time at which the allowance or budget is renewed, in seconds since the Unix epoch; None
        if the time is unknown."""


class InferenceFailed(PrepError):
    """A model failed to respond."""

    exit_code = 6


class RecordingRefused(PrepError):
    """The server rejected a recording or lost part of one."""


class MicrophoneUnavailable(PrepError):
    """No microphone can be used on this machine."""
