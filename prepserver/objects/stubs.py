"""Calls between objects as plain data, and typed stubs that build such calls."""

from typing import Any, ClassVar, Generic, TypeVar

from msgspec import Struct

__all__ = ["ObjectCall", "ObjectStub"]

T_co = TypeVar("T_co", covariant=True)


class ObjectCall(Struct, Generic[T_co], frozen=True):
    """Call to one method of one object; `T_co` is the type of the result.

    A call holds plain data, so that the object may live in another process.
    """

    kind: str
    name: str
    method: str
    arguments: tuple[Any, ...] = ()


class ObjectStub:
    """Base class of stubs. A stub names an object and builds calls to the object's methods.

    A subclass has a method for each method of the object that other objects or the HTTP routes may
    call. Each such method takes the same arguments and returns the call, which is passed to
    `Registry.call` or `Context.tell`.
    """

    kind: ClassVar[str]

    def __init__(self, name: str) -> None:
        self.name = name

    def _call(self, method: str, *arguments: Any) -> ObjectCall[Any]:
        return ObjectCall(self.kind, self.name, method, arguments)
