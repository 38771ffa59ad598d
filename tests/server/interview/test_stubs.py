"""The typed stubs match the objects that they call."""

import inspect
from typing import Any

import pytest

from prepserver.interview.interview import InterviewObject
from prepserver.interview.stubs import InterviewStub, UserInterviewsStub
from prepserver.interview.user_interviews import UserInterviews
from prepserver.objects.object import DurableObject
from prepserver.objects.stubs import ObjectStub

CALLS = [
    pytest.param(target, stub, name, id=f"{stub.kind}.{name}")
    for target, stub in ((InterviewObject, InterviewStub), (UserInterviews, UserInterviewsStub))
    for name, method in vars(stub).items()
    if inspect.isfunction(method)
]


@pytest.mark.parametrize(("target", "stub", "name"), CALLS)
def test_a_stub_has_the_signature_of_the_method_that_it_calls(
    target: type[DurableObject], stub: type[ObjectStub], name: str
) -> None:
    """A stub's method has the parameters and result type of the object's method, and returns a call
    of that method."""
    signature = inspect.signature(getattr(target, name))
    stubbed = inspect.signature(getattr(stub, name))
    assert stubbed.parameters == signature.parameters
    (result,) = stubbed.return_annotation.__args__
    assert result == signature.return_annotation or (result, signature.return_annotation) == (
        type(None),
        None,
    )
    arguments: list[Any] = [object() for _ in list(signature.parameters)[1:]]
    call = getattr(stub("one"), name)(*arguments)
    assert (call.kind, call.name, call.method) == (stub.kind, "one", name)
    assert list(call.arguments) == arguments
