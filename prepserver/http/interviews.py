"""REST routes for interviews. Each route for one interview raises NotFound unless the caller owns
the interview."""

import uuid

import msgspec
from litestar import Controller, delete, get, patch, post, put
from litestar.di import Provide

from prepserver.errors import Conflict
from prepserver.http.authentication import authenticate
from prepserver.http.services import Services
from prepserver.interview.stubs import InterviewStub, UserInterviewsStub
from prepserver.objects.registry import Registry
from prepserver.wire.agenda import Agenda, EditAgenda
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import ChangeInterview, CreateInterview, Interview
from prepserver.wire.rest import InterviewList, MessageList, SpokenAnswer

__all__ = ["InterviewController", "create_interview"]


async def create_interview(registry: Registry, user: str, request: CreateInterview) -> Interview:
    """Create an interview. Return its view once its row in the user's list and its start are both
    durable.

    Raises PrepServerError if the interview cannot be created or, in two attempts, started.
    """
    # With an id, the request can be repeated.
    request = msgspec.structs.replace(request, id=request.id or uuid.uuid4().hex)
    try:
        return await _create_and_start(registry, user, request)
    except Conflict as error:
        if error.code is not ErrorCode.NOT_READY:
            raise
    # The interview could not be started. The repeated request starts it again.
    return await _create_and_start(registry, user, request)


async def _create_and_start(registry: Registry, user: str, request: CreateInterview) -> Interview:
    """Create an interview, or find it, and wait until it has started.

    Raises Conflict (`not_ready`) if the interview could not be started.
    """
    view = await registry.call(UserInterviewsStub(user).create(request))
    # Creation has told the interview to start. A later call is handled after that message.
    await registry.call(InterviewStub(view.id).messages())
    return view


class InterviewController(Controller):
    """Handlers of the routes below `/api/interviews`."""

    path = "/api/interviews"
    dependencies = {"user": Provide(authenticate)}  # noqa: RUF012 - the framework's own idiom

    @get(summary="List the caller's interviews, newest first")
    async def list_interviews(self, services: Services, user: str) -> InterviewList:
        return InterviewList(await services.registry.call(UserInterviewsStub(user).list()))

    @post(summary="Create an interview; repeating the request with the same id is safe")
    async def create(self, services: Services, user: str, data: CreateInterview) -> Interview:
        return await create_interview(services.registry, user, data)

    @get("/{id:str}", summary="Get an interview")
    async def get_interview(self, services: Services, user: str, id: str) -> Interview:
        return await _find_interview(services, user, id)

    @patch("/{id:str}", summary="Rename an interview")
    async def rename(
        self, services: Services, user: str, id: str, data: ChangeInterview
    ) -> Interview:
        view = await _find_interview(services, user, id)
        if data.title is None:
            return view
        return await services.registry.call(InterviewStub(id).rename(data.title))

    @delete("/{id:str}", summary="Delete an interview with its transcript and recordings")
    async def delete_interview(self, services: Services, user: str, id: str) -> None:
        await services.registry.call(UserInterviewsStub(user).delete(id))

    @get("/{id:str}/agenda", summary="Get the agenda of an interview")
    async def get_agenda(self, services: Services, user: str, id: str) -> Agenda:
        await _find_interview(services, user, id)
        return await services.registry.call(InterviewStub(id).agenda())

    @put("/{id:str}/agenda", summary="Replace the topics of the agenda that are still planned")
    async def edit_agenda(self, services: Services, user: str, id: str, data: EditAgenda) -> Agenda:
        await _find_interview(services, user, id)
        return await services.registry.call(InterviewStub(id).edit_agenda(data.topics))

    @get("/{id:str}/messages", summary="Get the transcript of an interview, in order")
    async def get_messages(self, services: Services, user: str, id: str) -> MessageList:
        await _find_interview(services, user, id)
        return MessageList(await services.registry.call(InterviewStub(id).messages()))

    @get("/{id:str}/messages/{message:str}/speech", summary="Get the transcription of an answer")
    async def get_transcription(
        self, services: Services, user: str, id: str, message: str
    ) -> SpokenAnswer:
        await _find_interview(services, user, id)
        transcription = await services.registry.call(InterviewStub(id).transcription(message))
        return msgspec.convert(transcription, SpokenAnswer, from_attributes=True)


async def _find_interview(services: Services, user: str, id: str) -> Interview:
    """Return the user's interview with this id. Raises NotFound if the user has no such
    interview."""
    return await services.registry.call(UserInterviewsStub(user).find(id))
