"""Interviews over REST: every path goes through the caller's own list."""

import msgspec
from litestar import Controller, delete, get, patch, post
from litestar.di import Provide

from prepserver.http.caller import caller
from prepserver.http.services import Services
from prepserver.interview.stubs import InterviewStub, UserInterviewsStub
from prepserver.wire.protocol import (
    ChangeInterview,
    CreateInterview,
    Interview,
    Quota,
)
from prepserver.wire.rest import InterviewList, MessageList, SpokenAnswer

__all__ = ["InterviewController", "ratelimit"]


class InterviewController(Controller):
    path = "/api/interviews"
    dependencies = {"user": Provide(caller)}  # noqa: RUF012 - the framework's own idiom

    @get(summary="The caller's interviews, the newest first")
    async def list_all(self, services: Services, user: str) -> InterviewList:
        return InterviewList(await services.registry.call(UserInterviewsStub(user).list()))

    @post(summary="Begin an interview; again with the same id gives the same one")
    async def create(self, services: Services, user: str, data: CreateInterview) -> Interview:
        return await services.registry.call(UserInterviewsStub(user).create(data))

    @get("/{id:str}", summary="One interview")
    async def read(self, services: Services, user: str, id: str) -> Interview:
        return await owned(services, user, id)

    @patch("/{id:str}", summary="Rename an interview")
    async def change(
        self, services: Services, user: str, id: str, data: ChangeInterview
    ) -> Interview:
        view = await owned(services, user, id)
        if data.title is None:
            return view
        return await services.registry.call(InterviewStub(id).rename(data.title))

    @delete("/{id:str}", summary="Remove an interview and everything that was said in it")
    async def remove(self, services: Services, user: str, id: str) -> None:
        await services.registry.call(UserInterviewsStub(user).delete(id))

    @get("/{id:str}/messages", summary="What was said, in order")
    async def messages(self, services: Services, user: str, id: str) -> MessageList:
        await owned(services, user, id)
        return MessageList(await services.registry.call(InterviewStub(id).messages()))

    @get("/{id:str}/messages/{message:str}/speech", summary="How a spoken answer was heard")
    async def speech(self, services: Services, user: str, id: str, message: str) -> SpokenAnswer:
        await owned(services, user, id)
        heard = await services.registry.call(InterviewStub(id).transcription(message))
        return msgspec.convert(heard, SpokenAnswer, from_attributes=True)


@get(
    "/api/ratelimit",
    dependencies={"user": Provide(caller)},
    summary="How many model requests are left",
)
async def ratelimit(services: Services, user: str) -> Quota:
    return await services.limiter.quota(user)


async def owned(services: Services, user: str, id: str) -> Interview:
    """The caller's interview with this id. Raises NotFound, whoever else's it may be."""
    return await services.registry.call(UserInterviewsStub(user).find(id))
