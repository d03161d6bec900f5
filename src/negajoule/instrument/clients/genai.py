"""The ``google-genai`` client: every request to ``generateContent`` is booked.

One call of a user may make several requests: tools that the client calls itself, answers it continues. Each
is booked; the answer's ``footprint`` is their sum. A stream's stands on its last chunk.
"""

from __future__ import annotations

import functools
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from negajoule.instrument.clients.answers import APIS
from negajoule.instrument.clients.call import Call
from negajoule.instrument.clients.streams import AsyncFollowed, Followed, attach

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from negajoule.instrument.clients.account import Account
    from negajoule.instrument.clients.patches import Patches
    from negajoule.units import Footprint

__all__ = ["instrument_google"]

_API = APIS["generate_content"]
_MADE: ContextVar[list[Footprint] | None] = ContextVar("negajoule_google_requests", default=None)
"""Footprints of the requests that the call under way has made."""


def instrument_google(patches: Patches, account: Account) -> None:
    """Follow the ``google-genai`` client.

    Args:
        patches: takes our functions out again.
        account: books the requests.
    """

    def patch(module: ModuleType) -> None:
        follower = _Follower(account)
        for kind, one, stream, whole in (
            (module.Models, follower.request, follower.stream, follower.whole),
            (module.AsyncModels, follower.request_async, follower.stream_async, follower.whole_async),
        ):
            patches.replace(kind, "_generate_content", one)
            patches.replace(kind, "_generate_content_stream", stream)
            patches.replace(kind, "generate_content", whole)

    patches.when_imported("google.genai.models", patch)


class _Follower:
    """Makes the functions that go in the place of the client's."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def request(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """One request, answered whole."""

        @functools.wraps(original)
        def followed(models: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            call = self._begin(models, kwargs)
            if call is None:
                return original(models, *args, **kwargs)
            try:
                answer = original(models, *args, **kwargs)
            except BaseException as error:
                self._account.guarded(functools.partial(call.fail, error))
                raise
            self._account.guarded(lambda: _answered(call, answer))
            return answer

        return followed

    def request_async(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """The same, asynchronously."""

        @functools.wraps(original)
        async def followed(models: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            call = self._begin(models, kwargs)
            if call is None:
                return await original(models, *args, **kwargs)
            try:
                answer = await original(models, *args, **kwargs)
            except BaseException as error:
                self._account.guarded(functools.partial(call.fail, error))
                raise
            self._account.guarded(lambda: _answered(call, answer))
            return answer

        return followed

    def stream(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """One request, answered in chunks; it's sent when the first is asked for."""

        @functools.wraps(original)
        def followed(models: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            call = self._begin(models, kwargs)
            if call is None:
                return original(models, *args, **kwargs)
            return Followed(original(models, *args, **kwargs), self._account, call)

        return followed

    def stream_async(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """The same, asynchronously."""

        @functools.wraps(original)
        async def followed(models: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            call = self._begin(models, kwargs)
            if call is None:
                return await original(models, *args, **kwargs)
            try:
                chunks = await original(models, *args, **kwargs)
            except BaseException as error:
                self._account.guarded(functools.partial(call.fail, error))
                raise
            return AsyncFollowed(chunks, self._account, call)

        return followed

    def whole(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """What the user calls: the answer gets the sum of its requests."""

        @functools.wraps(original)
        def summed(models: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            made: list[Footprint] = []
            token = _MADE.set(made)
            try:
                answer = original(models, *args, **kwargs)
            finally:
                _MADE.reset(token)
            self._account.guarded(lambda: attach(answer, _sum(made)))
            return answer

        return summed

    def whole_async(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """The same, asynchronously."""

        @functools.wraps(original)
        async def summed(models: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            made: list[Footprint] = []
            token = _MADE.set(made)
            try:
                answer = await original(models, *args, **kwargs)
            finally:
                _MADE.reset(token)
            self._account.guarded(lambda: attach(answer, _sum(made)))
            return answer

        return summed

    def _begin(self, models: Any, kwargs: dict[str, Any]) -> Call | None:  # noqa: ANN401
        if not self._account.active:
            return None
        return self._account.guarded(lambda: _call(models, kwargs, self._account))  # type: ignore[no-any-return]


def _call(models: Any, kwargs: dict[str, Any], account: Account) -> Call:  # noqa: ANN401
    api_client = models._api_client
    base_url = getattr(getattr(api_client, "_http_options", None), "base_url", None) or ""
    flavour = "gcp.vertex_ai" if getattr(api_client, "vertexai", False) else "gcp.gemini"
    model = str(kwargs.get("model") or "").rpartition("/")[2]
    return Call(account, _API, flavour, base_url, model)


def _answered(call: Call, answer: object) -> None:
    footprint = call.end(_API.answer(answer))
    attach(answer, footprint)
    made = _MADE.get()
    if made is not None and footprint is not None:
        made.append(footprint)


def _sum(made: list[Footprint]) -> Footprint | None:
    return functools.reduce(lambda one, other: one + other, made) if made else None
