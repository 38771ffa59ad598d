"""The client's error tree. Each error is a sentence a person can act on, and an exit code.

PrepError                      1
├── UsageError                 2   what was asked for cannot be done as asked
│   ├── DocumentError              a job description, resume or file of answers
│   ├── AudioFileError             a recording
│   │   ├── NotAudio
│   │   ├── EmptyAudio
│   │   └── AudioTooLong
│   ├── SettingsError              prep's own settings and credentials
│   ├── RequestRefused             the server says that the request is wrong
│   └── NotFound                   no such interview, or somebody else's
├── ServerUnreachable          3
│   ├── QueueFull                  too much is waiting for the connection to come back
│   └── PrivateServerFailed        the server that prep started does not run
├── NotAuthorised              4
├── RateLimited                5
├── InferenceFailed            6
├── RecordingRefused           1   the server would not have a recording
└── MicrophoneUnavailable      1
"""

from typing import ClassVar

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
    """Base of every error that prep shows to the person who runs it."""

    exit_code: ClassVar[int] = 1


class UsageError(PrepError):
    """What was asked for cannot be done as it was asked."""

    exit_code = 2


class DocumentError(UsageError):
    """A file of text cannot be used."""


class AudioFileError(UsageError):
    """A recording cannot be used."""


class NotAudio(AudioFileError):
    """The file is not a recording that can be read."""


class EmptyAudio(AudioFileError):
    """The recording has no samples."""


class AudioTooLong(AudioFileError):
    """The recording is longer than one answer may be."""


class SettingsError(UsageError):
    """A file of settings or credentials is unusable."""


class RequestRefused(UsageError):
    """The server understood the request and says that it is wrong."""

    def __init__(self, message: str, *, code: str = "bad_request") -> None:
        super().__init__(message)
        self.code = code


class NotFound(UsageError):
    """There is no such interview for this user."""


class ServerUnreachable(PrepError):
    """Nothing that speaks prep answers at the address."""

    exit_code = 3


class QueueFull(ServerUnreachable):
    """So much waits to be sent that no more is taken."""


class LocalServerFailed(PrepError):
    """The server that prep started for itself did not start, or ended: waiting is of no use."""

    exit_code = 3


class NotAuthorised(PrepError):
    """The server does not know the access key, or there is none."""

    exit_code = 4


class RateLimited(PrepError):
    """The allowance of model requests is used up."""

    exit_code = 5

    def __init__(self, message: str, *, reset: float | None = None) -> None:
        super().__init__(message)
        self.reset = reset
        """When the allowance begins anew: seconds since the Unix epoch."""


class InferenceFailed(PrepError):
    """A model could not answer."""

    exit_code = 6


class RecordingRefused(PrepError):
    """The server would not have this recording."""


class MicrophoneUnavailable(PrepError):
    """Nothing can be recorded on this machine as it is."""
