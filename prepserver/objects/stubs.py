"""Calls between objects as plain data, and the typed stubs that build them."""

from typing import Any, ClassVar, Generic, TypeVar

from msgspec import Struct

__all__ = ["ObjectCall", "ObjectStub"]

T_co = TypeVar("T_co", covariant=True)


class ObjectCall(Struct, Generic[T_co], frozen=True):
    """A call to one method of one object; `T_co` is the type of its result.

    It holds plain data, so that the object may live in another process.
    """

    kind: str
    name: str
    method: str
    arguments: tuple[Any, ...] = ()


class ObjectStub:
    """Base of the stubs: names an object, and builds calls to its methods.

    A subclass has one method for each that other objects or the edge may call. It takes the same
    arguments and returns the call, to be given to `Registry.call` or `Context.tell`.
    """

    kind: ClassVar[str]

    def __init__(self, name: str) -> None:
        self.name = name

    def _call(self, method: str, *arguments: Any) -> ObjectCall[Any]:
        return ObjectCall(self.kind, self.name, method, arguments)
