"""One user's list of interviews: creation, ownership, deletion and recovery after a crash."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prepserver.errors import BadRequest, Conflict, NotFound
from prepserver.interview.interview import InterviewObject
from prepserver.interview.stubs import InterviewStub, UserInterviewsStub
from prepserver.interview.user_interviews import UserInterviews
from prepserver.objects.connection import Connection
from prepserver.objects.instance import Kind
from prepserver.objects.object import DurableObject
from prepserver.objects.registry import Registry
from prepserver.wire import client_messages
from prepserver.wire import protocol as wire
from prepserver.wire.error_codes import ErrorCode
from tests.support.clock import ManualClock
from tests.support.loop import asynchronous
from tests.support.objects import advance_until, eventually
from tests.support.rooms import USER, Client, Rooms


@asynchronous
async def test_created_interviews_are_listed_newest_first(tmp_path: Path) -> None:
    """Interviews are listed newest first, with titles made from the role and the company."""
    async with Rooms(tmp_path) as rooms:
        first = await rooms.create(role="SRE", company="Initech", questions=3)
        await rooms.clock.advance(1)
        second = await rooms.create(role="Data Engineer")
        assert first.title == "SRE at Initech"
        assert second.title == "Data Engineer"
        assert first.questions == 3
        listed = await rooms.registry.call(UserInterviewsStub(USER).list())
        assert [view.id for view in listed] == [second.id, first.id]


@asynchronous
async def test_a_repeated_request_creates_one_interview(tmp_path: Path) -> None:
    """A creation request that is repeated under the same id returns the existing interview."""
    async with Rooms(tmp_path) as rooms:
        one = await rooms.create(id="mine", role="SRE")
        two = await rooms.create(id="mine", role="SRE")
        assert one.id == two.id
        assert len(await rooms.registry.call(UserInterviewsStub(USER).list())) == 1


@pytest.mark.parametrize("language", ["xx", "zzz"])
@asynchronous
async def test_an_unknown_language_is_rejected(tmp_path: Path, language: str) -> None:
    """An interview in a language that Whisper does not know is not created."""
    async with Rooms(tmp_path) as rooms:
        with pytest.raises(BadRequest, match=f"Unknown language '{language}'"):
            await rooms.create(id="mine", language=language)
        assert await rooms.registry.call(UserInterviewsStub(USER).list()) == []


def counted(patch: pytest.MonkeyPatch, kind: type[DurableObject], method: str) -> list[object]:
    """Patch a method so that its calls are recorded; return the list of their first arguments."""
    original, arguments = getattr(kind, method), list[object]()

    def counting(instance: DurableObject, *given: Any) -> Any:
        arguments.append(given[0])
        return original(instance, *given)

    patch.setattr(kind, method, counting)
    return arguments


@asynchronous
async def test_a_creation_begins_its_interview_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new interview is begun once and is ready when a client joins, and the list's room receives
    one `interview.created`."""
    begun = counted(monkeypatch, InterviewObject, "begin")
    async with Rooms(tmp_path) as rooms:
        watcher = await rooms.join(USER, party="user-interviews")
        view = await rooms.create()
        client = await rooms.join(view.id)
        assert (await client.next(wire.Snapshot)).interview == view
        await client.next_message(wire.MessageKind.QUESTION)
        await rooms.advance(30)
    assert begun == [USER]
    created = [m for m in watcher.messages if isinstance(m, wire.InterviewCreated)]
    updated = [m.interview for m in watcher.messages if isinstance(m, wire.InterviewUpdated)]
    assert [message.interview for message in created] == [view]
    assert updated
    assert view not in updated


@asynchronous
async def test_a_new_title_updates_the_list_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Renaming an interview updates the list once, before the caller receives the reply."""
    async with Rooms(tmp_path) as rooms:
        view = await rooms.create()
        client = await rooms.join(view.id)
        await client.next_message(wire.MessageKind.QUESTION)
        await rooms.advance(30)
        watcher = await rooms.join(USER, party="user-interviews")
        updates = counted(monkeypatch, UserInterviews, "update")
        renamed = await rooms.registry.call(InterviewStub(view.id).rename("Dream job"))
        listed = await rooms.registry.call(UserInterviewsStub(USER).list())
        await rooms.advance(30)
    assert [view.title for view in listed] == ["Dream job"]
    assert updates == [renamed]
    messages = [m for m in watcher.messages if isinstance(m, wire.InterviewUpdated)]
    assert [message.interview for message in messages] == [renamed]


@asynchronous
async def test_a_clients_id_gives_no_access_to_another_users_interview(tmp_path: Path) -> None:
    """A creation request with the id of another user's interview creates an interview with a
    different id."""
    async with Rooms(tmp_path) as rooms:
        hers = await rooms.create("ada", id="same", role="SRE")
        his = await rooms.create("bob", id="same", role="Pilot")
        stolen = await rooms.create("bob", id=hers.id, role="Thief")
        assert len({hers.id, his.id, stolen.id}) == 3
        client = await rooms.join(stolen.id, user="bob")
        snapshot = await client.next(wire.Snapshot)
        assert snapshot.interview is not None
        assert snapshot.interview.role == "Thief"
        with pytest.raises(NotFound):
            await rooms.registry.call(UserInterviewsStub("bob").find(hers.id))


@asynchronous
async def test_the_room_sends_the_list_and_its_changes(tmp_path: Path) -> None:
    """A client in the list's room receives `hello`, the list, and then each creation, update and
    deletion."""
    async with Rooms(tmp_path) as rooms:
        client = await rooms.join(USER, party="user-interviews")
        hello = await client.next(wire.Hello)
        assert (hello.party, hello.room) == ("user-interviews", USER)
        assert (await client.next(wire.Snapshot)).interviews == []
        view = await rooms.create()
        assert (await client.next(wire.InterviewCreated)).interview.id == view.id
        changed = await client.until(
            lambda m: isinstance(m, wire.InterviewUpdated) and m.interview.asked == 1
        )
        assert isinstance(changed, wire.InterviewUpdated)
        await rooms.registry.call(UserInterviewsStub(USER).delete(view.id))
        assert (await client.next(wire.InterviewDeleted)).interview_id == view.id


@asynchronous
async def test_deleting_an_interview_removes_its_file(tmp_path: Path) -> None:
    """A deleted interview leaves the list at once, its connections are closed with close code 4004,
    and its file is removed."""
    async with Rooms(tmp_path) as rooms:
        view = await rooms.create()
        inside = await rooms.join(view.id)
        await inside.next_message(wire.MessageKind.QUESTION)
        path = rooms.registry.instance("interview", view.id).path
        assert path.exists()
        await rooms.registry.call(UserInterviewsStub(USER).delete(view.id))
        with pytest.raises(NotFound):
            await rooms.registry.call(UserInterviewsStub(USER).find(view.id))
        assert (await inside.wait_closed()).code == 4004
        await eventually(lambda: not path.exists())
        with pytest.raises(NotFound):
            await rooms.registry.call(UserInterviewsStub(USER).delete(view.id))


@asynchronous
async def test_a_client_that_connects_during_a_deletion_creates_no_file(
    tmp_path: Path,
) -> None:
    """A connection to an interview that was deleted after the handshake is closed with close code
    1011 and creates no file."""
    async with Rooms(tmp_path) as rooms:
        view = await rooms.create()
        await rooms.registry.wait_for_handlers()
        path = rooms.registry.instance("interview", view.id).path
        await rooms.registry.call(UserInterviewsStub(USER).delete(view.id))
        await eventually(lambda: not path.exists())
        await rooms.registry.wait_for_handlers()
        late = await rooms.join(view.id)
        assert (await late.next(wire.Failure)).code == ErrorCode.NOT_READY
        assert (await late.wait_closed()).code == 1011
        await advance_until(rooms.clock, lambda: rooms.registry.counts.live == 0)
        assert not list(path.parent.iterdir())
        with pytest.raises(NotFound):
            await rooms.registry.call(UserInterviewsStub(USER).find(view.id))


@asynchronous
async def test_an_older_view_does_not_replace_a_newer_one(tmp_path: Path) -> None:
    """If an older view of an interview reaches the list after a newer view, the list keeps the
    newer view."""
    async with Rooms(tmp_path) as rooms:
        view = await rooms.create()
        client = await rooms.join(view.id)
        await client.next_message(wire.MessageKind.QUESTION)
        await client.wait_for_phase(wire.Phase.IDLE)
        await rooms.clock.advance(10)
        newer = await rooms.registry.call(InterviewStub(view.id).rename("Newer"))
        await rooms.registry.call(UserInterviewsStub(USER).update(newer))
        await rooms.registry.call(UserInterviewsStub(USER).update(view))
        found = await rooms.registry.call(UserInterviewsStub(USER).find(view.id))
        assert found.title == "Newer"


@pytest.mark.parametrize(
    ("message", "code", "id"),
    [
        ('{"type":"nonsense","id":"m1"}', ErrorCode.BAD_MESSAGE, "m1"),
        ('{"type":"user.message","text":5,"id":"m2"}', ErrorCode.BAD_MESSAGE, "m2"),
        ('{"type":"user.message","text":"hello","id":"m3"}', ErrorCode.BAD_MESSAGE, "m3"),
        ("not json", ErrorCode.BAD_MESSAGE, ""),
        (b"\x00\x01", ErrorCode.BAD_MESSAGE, ""),
    ],
)
@asynchronous
async def test_an_invalid_message_gets_an_error_and_the_connection_stays(
    tmp_path: Path, message: str | bytes, code: str, id: str
) -> None:
    """An invalid message is rejected with an error that gives the message's id, if the id is
    readable, and later messages are handled."""
    async with Rooms(tmp_path) as rooms:
        client = await rooms.join(USER, party="user-interviews")
        await client.send(message)
        failure = await client.next(wire.Failure)
        assert (failure.code, failure.id) == (code, id)
        await client.send(client_messages.GetAllMessages(id="again"))
        await client.next(wire.Snapshot)
        assert (await client.next(wire.Accepted)).id == "again"


class FakeInterview(DurableObject):
    """Object that stands in for an interview and records received calls. The calls fail while
    `failing` is True."""

    calls: list[tuple[str, Any]]
    failing = True

    def begin(self, owner: str, spec: dict[str, Any], view: wire.Interview) -> None:
        FakeInterview.calls.append(("begin", spec["role"]))
        self._raise_if_failing()
        self.context.tell(UserInterviewsStub(owner).update(view))

    def delete(self, owner: str, id: str) -> None:
        FakeInterview.calls.append(("delete", id))
        self._raise_if_failing()
        self.context.tell(UserInterviewsStub(owner).confirm_deleted(id))

    def _raise_if_failing(self) -> None:
        if FakeInterview.failing:
            raise NotFound("not yet")


def registry_of(
    root: Path, clock: ManualClock, choose_set: Callable[[str], str] = lambda name: "starter"
) -> Registry:
    """Return a registry with real interview lists and fake interviews."""
    kinds = (
        Kind("interview", FakeInterview, ()),
        Kind(
            "user-interviews",
            lambda context: UserInterviews(context, "test", choose_set),
            UserInterviews.migrations,
        ),
    )
    return Registry(root, kinds, clock, executor=clock.create_executor())


REQUEST = wire.CreateInterview(role="SRE", id="i")


@asynchronous
async def test_unconfirmed_creations_and_deletions_are_repeated(tmp_path: Path) -> None:
    """The list repeats a creation or deletion until the interview confirms it, even after a
    restart."""
    FakeInterview.calls, FakeInterview.failing = [], True
    clock = ManualClock()
    first = registry_of(tmp_path, clock)
    await first.start()
    view = await first.call(UserInterviewsStub("u").create(REQUEST))
    await eventually(lambda: FakeInterview.calls == [("begin", "SRE")])
    await first.close()

    second = registry_of(tmp_path, clock)
    await second.start()
    await clock.advance(6)
    await eventually(lambda: FakeInterview.calls == [("begin", "SRE")] * 2)
    FakeInterview.failing = False
    await clock.advance(6)
    await eventually(lambda: FakeInterview.calls == [("begin", "SRE")] * 3)
    client = Client(
        connection := Connection("c"), second.connect("user-interviews", "u", connection)
    )
    await client.next(wire.Snapshot)
    FakeInterview.failing, FakeInterview.calls = True, []
    await second.call(UserInterviewsStub("u").delete(view.id))
    with pytest.raises(Conflict) as caught:
        await second.call(UserInterviewsStub("u").create(REQUEST))
    assert caught.value.code == ErrorCode.BEING_REMOVED
    await eventually(lambda: FakeInterview.calls == [("delete", view.id)])
    FakeInterview.failing = False
    await clock.advance(6)
    await eventually(lambda: FakeInterview.calls == [("delete", view.id)] * 2)
    await clock.advance(60)
    assert FakeInterview.calls == [("delete", view.id)] * 2
    await client.leave()
    await second.close()


@asynchronous
async def test_a_repeated_request_begins_an_unconfirmed_interview_at_once(tmp_path: Path) -> None:
    """A repeated creation request begins an unconfirmed interview without waiting for the alarm;
    once the interview has confirmed its creation, further requests have no effect."""
    FakeInterview.calls, FakeInterview.failing = [], True
    clock = ManualClock()
    registry = registry_of(tmp_path, clock)
    await registry.start()
    await registry.call(UserInterviewsStub("u").create(REQUEST))
    await registry.wait_for_handlers()
    FakeInterview.failing = False
    for _ in range(3):
        await registry.call(UserInterviewsStub("u").create(REQUEST))
        await eventually(lambda: FakeInterview.calls == [("begin", "SRE")] * 2)
        await registry.wait_for_handlers()
    await registry.close()
    assert FakeInterview.calls == [("begin", "SRE")] * 2


@asynchronous
async def test_an_interview_keeps_the_set_chosen_at_its_creation(tmp_path: Path) -> None:
    """An interview without a set gets the server's choice of that moment, which its view states; a
    later change of the choice does not affect it, even if the request is repeated."""
    chosen = ["starter"]
    clock = ManualClock()
    FakeInterview.calls, FakeInterview.failing = [], False
    registry = registry_of(tmp_path, clock, lambda name: name or chosen[0])
    await registry.start()
    first = await registry.call(UserInterviewsStub("u").create(REQUEST))
    chosen[0] = "standard"
    second = await registry.call(UserInterviewsStub("u").create(wire.CreateInterview(id="j")))
    named = await registry.call(
        UserInterviewsStub("u").create(wire.CreateInterview(id="k", model_set="starter"))
    )
    again = await registry.call(UserInterviewsStub("u").create(REQUEST))
    sets = [view.model_set for view in (first, second, named, again)]
    assert sets == ["starter", "standard", "starter", "starter"]
    await registry.close()


@asynchronous
async def test_a_set_that_the_server_does_not_offer_is_rejected(tmp_path: Path) -> None:
    """A request for a set that the server would replace raises `model_not_found` and creates
    nothing."""
    clock = ManualClock()
    registry = registry_of(tmp_path, clock)
    await registry.start()
    for name in ("large", "Starter", "../starter", "custom", "x" * 64):
        with pytest.raises(BadRequest) as caught:
            await registry.call(
                UserInterviewsStub("u").create(wire.CreateInterview(model_set=name))
            )
        assert caught.value.code == ErrorCode.MODEL_NOT_FOUND
    assert await registry.call(UserInterviewsStub("u").list()) == []
    await registry.close()


@asynchronous
async def test_the_progress_of_fetched_models_reaches_lists_only(tmp_path: Path) -> None:
    """A message to all lists reaches each user's open lists, and no interview."""
    fetch = wire.ModelFetch(model_set="standard", done=1, total=2)
    async with Rooms(tmp_path) as rooms:
        view = await rooms.create(role="SRE")
        clients = [
            await rooms.join(user, party="user-interviews", user=user) for user in (USER, "other")
        ]
        other = await rooms.join(view.id)
        for client in (*clients, other):
            await client.next(wire.Snapshot)
        rooms.registry.broadcast("user-interviews", wire.ModelsFetched(fetch=fetch))
        for client in clients:
            assert (await client.next(wire.ModelsFetched)).fetch == fetch
        assert not any(isinstance(each, wire.ModelsFetched) for each in other.messages)
