"""Streams, followed and never hurried: chunks pass as they come, the end is booked once.

A stream ends when it is exhausted, fails, is closed, or nobody holds it any more.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from negajoule.instrument.clients.answers import Listener

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from negajoule.instrument.clients.account import Account
    from negajoule.instrument.clients.call import Call

__all__ = ["AsyncFollowed", "Followed", "attach", "on_close"]


def attach(thing: object, footprint: object) -> None:
    """Give an answer its ``footprint`` attribute, if its type has room for one.

    Into ``__dict__``, as ``cached_property`` does: pydantic shows it in neither dumps nor comparisons.
    """
    fields = getattr(thing, "__dict__", None)
    if isinstance(fields, dict):
        fields["footprint"] = footprint


class _Course:
    """How far a stream has got."""

    def __init__(self, account: Account, call: Call, skip: Callable[[Any], bool] | None) -> None:
        self.account = account
        self.call = call
        self.skip = skip
        self.advancing = False
        self.stream: weakref.ref[Any] | None = None
        self._listener = Listener(call.api.chunk)
        self._last: object = None

    def hear(self, chunk: object) -> None:
        self._last = chunk
        try:
            self._listener.hear(chunk)
        except Exception as error:
            self.account.gap(error)

    def finish(self) -> None:
        self._attach(self.call.end(self._listener.said))

    def fail(self, error: BaseException) -> None:
        self.call.fail(error, self._listener.said)

    def cut(self) -> None:
        """The consumer has had enough: book what was counted."""
        if not self.advancing:
            self._attach(self.call.end(self._listener.said, status="cancelled"))

    def _attach(self, footprint: object) -> None:
        stream = None if self.stream is None else self.stream()
        for thing in (stream, self._last):
            if thing is not None:
                attach(thing, footprint)
        self._last = None


class _Base:
    def __init__(
        self,
        inner: Any,  # noqa: ANN401
        account: Account,
        call: Call,
        skip: Callable[[Any], bool] | None = None,
    ) -> None:
        self._inner = inner
        self._course = _Course(account, call, skip)

    def belongs_to(self, stream: object) -> None:
        """The object that gets the footprint when this ends."""
        self._course.stream = weakref.ref(stream)
        attach(stream, None)

    def cut(self) -> None:
        """The stream was closed from outside; while a chunk is being fetched that means nothing."""
        self._course.cut()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (whatever the inner iterator offers)
        return getattr(self._inner, name)

    def __del__(self) -> None:
        course = self.__dict__.get("_course")
        if course is not None:
            course.account.later(course.cut)


class Followed(_Base):
    """A synchronous stream.

    Args:
        inner: the client's own iterator.
        account: where gaps are counted.
        call: the request.
        skip: chunks that the consumer didn't ask for.
    """

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:  # noqa: ANN401 (the client's chunks)
        course = self._course
        while True:
            course.advancing = True
            try:
                chunk = next(self._inner)
            except StopIteration:
                course.finish()
                raise
            except BaseException as error:
                course.fail(error)
                raise
            finally:
                course.advancing = False
            course.hear(chunk)
            if course.skip is None or not course.skip(chunk):
                return chunk

    def close(self) -> None:
        """Close the client's iterator and book what was counted."""
        self._inner.close()
        self.cut()


class AsyncFollowed(_Base):
    """An asynchronous stream; arguments as in ``Followed``."""

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:  # noqa: ANN401 (the client's chunks)
        course = self._course
        while True:
            course.advancing = True
            try:
                chunk = await self._inner.__anext__()
            except StopAsyncIteration:
                course.finish()
                raise
            except BaseException as error:
                course.fail(error)
                raise
            finally:
                course.advancing = False
            course.hear(chunk)
            if course.skip is None or not course.skip(chunk):
                return chunk

    async def aclose(self) -> None:
        """Close the client's iterator and book what was counted."""
        await self._inner.aclose()
        self.cut()


def on_close(response: Any, followed: Followed | AsyncFollowed) -> None:  # noqa: ANN401 (an HTTP response)
    """Book a stream as soon as its connection is closed, and not only when it's forgotten.

    The response's own ``close`` gets ours in front of it for one time. The stream is held weakly, so that one
    that nobody holds is still let go at once.
    """
    name = "aclose" if isinstance(followed, AsyncFollowed) else "close"
    watched, own = weakref.ref(followed), getattr(response, name)

    def close() -> Any:  # noqa: ANN401 (nothing, or what is awaited)
        response.__dict__.pop(name, None)
        stream = watched()
        if stream is not None:
            stream.cut()
        return own()

    setattr(response, name, close)
