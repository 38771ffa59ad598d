"""Creation of interviews when the disk fails for a moment."""

from pathlib import Path
from typing import Any

import pytest

from prepserver.errors import StorageError
from prepserver.interview.stubs import InterviewStub, UserInterviewsStub
from prepserver.objects import instance
from prepserver.objects.storage import Storage
from tests.server.interview.conversation import wait_until_idle
from tests.support.loop import asynchronous
from tests.support.rooms import USER, Rooms


def fail_to_open(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Let the first `times` attempts to open an interview's database fail."""
    failures = iter(range(times))

    def open_storage(path: Path, *arguments: Any, **options: Any) -> Storage:
        if path.parent.parent.name == "interview" and next(failures, None) is not None:
            raise StorageError("Too many open files.")
        return Storage(path, *arguments, **options)

    monkeypatch.setattr(instance, "Storage", open_storage)


@asynchronous
async def test_an_interview_that_could_not_be_started_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the database of a new interview cannot be opened at first, the interview is started
    again: a client that connects at once is welcomed."""
    fail_to_open(monkeypatch, 1)
    async with Rooms(tmp_path) as rooms:
        view = await rooms.create(role="Cook")
        await wait_until_idle(await rooms.join(view.id))
        assert [one.id for one in await rooms.registry.call(UserInterviewsStub(USER).list())] == [
            view.id
        ]


@asynchronous
async def test_an_interview_that_cannot_be_started_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a new interview cannot be started, the caller gets a retryable error, and the interview
    starts once its list's alarm is due."""
    fail_to_open(monkeypatch, 2)
    async with Rooms(tmp_path) as rooms:
        with pytest.raises(StorageError) as error:
            await rooms.create(role="Cook")
        assert error.value.retryable
        (view,) = await rooms.registry.call(UserInterviewsStub(USER).list())
        await rooms.advance(6.0)
        await wait_until_idle(await rooms.join(view.id))


@asynchronous
async def test_an_interview_whose_start_was_interrupted_starts_when_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If an interview is listed but was not started, as after a crash between the two, opening it
    starts it: the client does not wait for the alarm of the list."""
    fail_to_open(monkeypatch, 2)
    async with Rooms(tmp_path) as rooms:
        with pytest.raises(StorageError):
            await rooms.create(role="Cook")
        (view,) = await rooms.registry.call(UserInterviewsStub(USER).list())
        await rooms.registry.call(UserInterviewsStub(USER).find(view.id))
        await rooms.registry.call(InterviewStub(view.id).messages())
        await wait_until_idle(await rooms.join(view.id))
