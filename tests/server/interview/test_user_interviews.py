"""One user's list: created once, shared with nobody, finished after a crash."""

from pathlib import Path
from typing import Any

import pytest

from prepserver.errors import Conflict, NotFound
from prepserver.interview.stubs import InterviewStub, UserInterviewsStub
from prepserver.objects.connection import Connection
from prepserver.objects.instance import Kind
from prepserver.objects.object import DurableObject
from prepserver.objects.registry import Registry
from prepserver.wire import protocol as wire
from prepserver.wire.error_codes import ErrorCode
from tests.support.clock import ManualClock
from tests.support.loop import asynchronous
from tests.support.objects import eventually, in_time
from tests.support.rooms import Client, Rooms


@asynchronous
async def test_what_is_created_is_listed_the_newest_first(tmp_path: Path) -> None:
    """The list shows what was asked for, with a title a person recognises."""
    async with Rooms(tmp_path) as rooms:
        first = await rooms.create(role="SRE", company="Initech", questions=3)
        await rooms.clock.advance(1)
        second = await rooms.create(role="Data Engineer")
        assert first.title == "SRE at Initech"
        assert second.title == "Data Engineer"
        assert first.questions == 3
        listed = await rooms.registry.call(UserInterviewsStub("user-1").list())
        assert [view.id for view in listed] == [second.id, first.id]


@asynchronous
async def test_the_same_request_twice_creates_one_interview(tmp_path: Path) -> None:
    """A client that did not hear the answer asks again with its id."""
    async with Rooms(tmp_path) as rooms:
        one = await rooms.create(id="mine", role="SRE")
        two = await rooms.create(id="mine", role="SRE")
        assert one.id == two.id
        assert len(await rooms.registry.call(UserInterviewsStub("user-1").list())) == 1


@asynchronous
async def test_an_id_made_by_a_client_opens_nothing_of_another_user(tmp_path: Path) -> None:
    """Who names somebody else's interview when creating gets one of their own."""
    async with Rooms(tmp_path) as rooms:
        hers = await rooms.create("ada", id="same", role="SRE")
        his = await rooms.create("bob", id="same", role="Pilot")
        theft = await rooms.create("bob", id=hers.id, role="Thief")
        assert len({hers.id, his.id, theft.id}) == 3
        client = await rooms.join(theft.id, user="bob")
        snapshot = await client.next(wire.Snapshot)
        assert snapshot.interview is not None
        assert snapshot.interview.role == "Thief"
        with pytest.raises(NotFound):
            await rooms.registry.call(UserInterviewsStub("bob").find(hers.id))


@asynchronous
async def test_the_room_shows_the_list_and_its_changes(tmp_path: Path) -> None:
    """Hello, then the list, then each interview that is created, changes or goes."""
    async with Rooms(tmp_path) as rooms:
        client = await rooms.join("user-1", party="user-interviews")
        hello = await client.next(wire.Hello)
        assert (hello.party, hello.room) == ("user-interviews", "user-1")
        assert (await client.next(wire.Snapshot)).interviews == []
        view = await rooms.create()
        assert (await client.next(wire.InterviewCreated)).interview.id == view.id
        changed = await client.until(
            lambda m: isinstance(m, wire.InterviewUpdated) and m.interview.asked == 1
        )
        assert isinstance(changed, wire.InterviewUpdated)
        await rooms.registry.call(UserInterviewsStub("user-1").delete(view.id))
        assert (await client.next(wire.InterviewDeleted)).interview_id == view.id


@asynchronous
async def test_a_deleted_interview_is_gone_with_its_file(tmp_path: Path) -> None:
    """From the list at once, from the disk soon, and its clients are sent away."""
    async with Rooms(tmp_path) as rooms:
        view = await rooms.create()
        inside = await rooms.join(view.id)
        await inside.said(wire.MessageKind.QUESTION)
        path = rooms.registry.instance("interview", view.id).path
        assert path.exists()
        await rooms.registry.call(UserInterviewsStub("user-1").delete(view.id))
        with pytest.raises(NotFound):
            await rooms.registry.call(UserInterviewsStub("user-1").find(view.id))
        assert (await inside.end()).code == 4004
        await eventually(lambda: not path.exists())
        with pytest.raises(NotFound):
            await rooms.registry.call(UserInterviewsStub("user-1").delete(view.id))


@asynchronous
async def test_a_client_that_enters_while_an_interview_is_deleted_leaves_no_file(
    tmp_path: Path,
) -> None:
    """The handshake found the interview in the list; when the room is entered it is gone. The
    client is sent away to ask again, and then hears that there is none."""
    async with Rooms(tmp_path) as rooms:
        view = await rooms.create()
        await rooms.registry.wait_for_handlers()
        path = rooms.registry.instance("interview", view.id).path
        await rooms.registry.call(UserInterviewsStub("user-1").delete(view.id))
        await eventually(lambda: not path.exists())
        await rooms.registry.wait_for_handlers()
        late = await rooms.join(view.id)
        assert (await late.next(wire.Failure)).code == ErrorCode.NOT_READY
        assert (await late.end()).code == 1011
        await in_time(rooms.clock, lambda: rooms.registry.counts.live == 0)
        assert not list(path.parent.iterdir())
        with pytest.raises(NotFound):
            await rooms.registry.call(UserInterviewsStub("user-1").find(view.id))


@asynchronous
async def test_older_news_does_not_replace_newer(tmp_path: Path) -> None:
    """What an interview said later stands, in whatever order it arrives."""
    async with Rooms(tmp_path) as rooms:
        view = await rooms.create()
        client = await rooms.join(view.id)
        await client.said(wire.MessageKind.QUESTION)
        await client.state(wire.Phase.IDLE)
        await rooms.clock.advance(10)
        newer = await rooms.registry.call(InterviewStub(view.id).rename("Newer"))
        await rooms.registry.call(UserInterviewsStub("user-1").update(newer))
        await rooms.registry.call(UserInterviewsStub("user-1").update(view))
        found = await rooms.registry.call(UserInterviewsStub("user-1").find(view.id))
        assert found.title == "Newer"


@pytest.mark.parametrize(
    ("message", "code", "id"),
    [
        ('{"type":"nonsense","id":"m1"}', "bad_message", "m1"),
        ('{"type":"user.message","text":5,"id":"m2"}', "bad_message", "m2"),
        ('{"type":"user.message","text":"hello","id":"m3"}', "bad_message", "m3"),
        ("not json", "bad_message", ""),
        (b"\x00\x01", "bad_message", ""),
    ],
)
@asynchronous
async def test_a_bad_message_is_answered_and_the_room_goes_on(
    tmp_path: Path, message: str | bytes, code: str, id: str
) -> None:
    """The error names the message it answers."""
    async with Rooms(tmp_path) as rooms:
        client = await rooms.join("user-1", party="user-interviews")
        await client.send(message)
        failure = await client.next(wire.Failure)
        assert (failure.code, failure.id) == (code, id)
        await client.send(wire.GetAllMessages(id="again"))
        await client.next(wire.Snapshot)
        assert (await client.next(wire.Accepted)).id == "again"


class Witness(DurableObject):
    """Stands in for an interview, and for a while does not answer."""

    heard: list[tuple[str, Any]]
    silent = True

    def begin(self, owner: str, spec: dict[str, Any], view: wire.Interview) -> None:
        Witness.heard.append(("begin", spec["role"]))
        self._fail()
        self.context.tell(UserInterviewsStub(owner).update(view))

    def delete(self, owner: str, id: str) -> None:
        Witness.heard.append(("delete", id))
        self._fail()
        self.context.tell(UserInterviewsStub(owner).confirm_deleted(id))

    def _fail(self) -> None:
        if Witness.silent:
            raise NotFound("not yet")


@asynchronous
async def test_a_creation_and_a_removal_that_were_cut_short_are_taken_up_again(
    tmp_path: Path,
) -> None:
    """Until the interview has answered, the list asks again, also in the next process."""
    Witness.heard, Witness.silent = [], True
    real = Rooms(tmp_path)
    real.limiter.close()
    clock = ManualClock()
    kinds = (
        Kind("interview", Witness, ()),
        next(k for k in real.registry._kinds.values() if k.name == "user-interviews"),
    )
    first = Registry(tmp_path, kinds, clock, executor=clock.create_executor())
    await first.start()
    view = await first.call(
        UserInterviewsStub("u").create(wire.CreateInterview(role="SRE", id="i"))
    )
    await eventually(lambda: Witness.heard == [("begin", "SRE")])
    await first.close()

    second = Registry(tmp_path, kinds, clock, executor=clock.create_executor())
    await second.start()
    await clock.advance(6)
    await eventually(lambda: Witness.heard == [("begin", "SRE")] * 2)
    Witness.silent = False
    await clock.advance(6)
    await eventually(lambda: Witness.heard == [("begin", "SRE")] * 3)
    client = Client(
        connection := Connection("c"), second.connect("user-interviews", "u", connection)
    )
    await client.next(wire.Snapshot)
    Witness.silent, Witness.heard = True, []
    await second.call(UserInterviewsStub("u").delete(view.id))
    with pytest.raises(Conflict) as caught:
        await second.call(UserInterviewsStub("u").create(wire.CreateInterview(id="i")))
    assert caught.value.code == ErrorCode.BEING_REMOVED
    await eventually(lambda: Witness.heard == [("delete", view.id)])
    Witness.silent = False
    await clock.advance(6)
    await eventually(lambda: Witness.heard == [("delete", view.id)] * 2)
    await clock.advance(60)
    assert Witness.heard == [("delete", view.id)] * 2
    await client.leave()
    await second.close()
