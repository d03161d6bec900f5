"""The ``openai`` and ``anthropic`` clients, which one generator made: every call goes through ``request``.

Below the methods that users call, so that ``create``, ``parse``, ``stream`` and ``with_raw_response`` are all
seen, once each and after retries.
"""

from __future__ import annotations

import functools
import json
import weakref
from typing import TYPE_CHECKING, Any

from negajoule.instrument.clients.answers import APIS
from negajoule.instrument.clients.call import Call
from negajoule.instrument.clients.streams import AsyncFollowed, Followed, attach, on_close

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from negajoule.instrument.clients.account import Account
    from negajoule.instrument.clients.patches import Patches

__all__ = ["instrument_anthropic", "instrument_openai"]

_OPENAI = {
    "/chat/completions": "chat",
    "/completions": "completions",
    "/embeddings": "embeddings",
    "/responses": "responses",
}
_ANTHROPIC = {"/v1/messages": "messages"}
_RAW_HEADER = "X-Stainless-Raw-Response"

_HELPERS = {
    "openai.lib.streaming.chat._completions": (
        ("ChatCompletionStream", "get_final_completion"),
        ("AsyncChatCompletionStream", "get_final_completion"),
    ),
    "openai.lib.streaming.responses._responses": (
        ("ResponseStream", "get_final_response"),
        ("AsyncResponseStream", "get_final_response"),
    ),
    "anthropic.lib.streaming._messages": (
        ("MessageStream", "get_final_message"),
        ("AsyncMessageStream", "get_final_message"),
    ),
    "anthropic.lib.streaming._beta_messages": (
        ("BetaMessageStream", "get_final_message"),
        ("BetaAsyncMessageStream", "get_final_message"),
    ),
}
"""Helpers around a stream, and the method that gives their whole answer."""


def instrument_openai(patches: Patches, account: Account, *, ask_for_usage: bool) -> None:
    """Follow the ``openai`` client.

    Args:
        patches: takes our functions out again.
        account: books the requests.
        ask_for_usage: ask for token counts in streams that wouldn't tell them.
    """
    _instrument("openai", _Paths(_OPENAI, "openai", ask_for_usage), patches, account)


def instrument_anthropic(patches: Patches, account: Account) -> None:
    """Follow the ``anthropic`` client; arguments as above."""
    _instrument("anthropic", _Paths(_ANTHROPIC, "anthropic", False), patches, account)


class _Paths:
    """Which calls of a client are ours."""

    def __init__(self, paths: dict[str, str], flavour: str, ask_for_usage: bool) -> None:
        self.apis = {path: APIS[name] for path, name in paths.items()}
        self.flavour = flavour
        self.ask_for_usage = ask_for_usage


def _instrument(package: str, paths: _Paths, patches: Patches, account: Account) -> None:
    def patch_client(module: ModuleType) -> None:
        patches.replace(module.SyncAPIClient, "request", lambda old: _wrap(old, paths, account))
        patches.replace(module.AsyncAPIClient, "request", lambda old: _wrap_async(old, paths, account))

    patches.when_imported(f"{package}._base_client", patch_client)
    for module, helpers in _HELPERS.items():
        if module.startswith(package):
            patches.when_imported(module, functools.partial(_patch_helpers, patches, helpers))


def _patch_helpers(patches: Patches, helpers: tuple[tuple[str, str], ...], module: ModuleType) -> None:
    for name, method in helpers:
        kind = getattr(module, name)
        make = _finally_async if name.startswith(("Async", "BetaAsync")) else _finally
        patches.add(kind, "footprint", property(_footprint_of_helper))
        patches.replace(kind, method, make)


def _footprint_of_helper(helper: Any) -> object:  # noqa: ANN401 (one of several helpers)
    """What the request cost; ``None`` until the stream has ended."""
    return getattr(helper._raw_stream, "footprint", None)


def _finally(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def final(helper: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        answer = method(helper, *args, **kwargs)
        attach(answer, helper.footprint)
        return answer

    return final


def _finally_async(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    async def final(helper: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        answer = await method(helper, *args, **kwargs)
        attach(answer, helper.footprint)
        return answer

    return final


def _wrap(request: Callable[..., Any], paths: _Paths, account: Account) -> Callable[..., Any]:
    @functools.wraps(request)
    def followed(client: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        exchange = account.guarded(lambda: _begin(client, paths, account, args, kwargs))
        if exchange is None:
            return request(client, *args, **kwargs)
        try:
            answer = request(client, *args, **kwargs)
        except BaseException as error:
            account.guarded(functools.partial(exchange.call.fail, error))
            raise
        account.guarded(lambda: exchange.answered(answer, Followed))
        return answer

    return followed


def _wrap_async(request: Callable[..., Any], paths: _Paths, account: Account) -> Callable[..., Any]:
    @functools.wraps(request)
    async def followed(client: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        exchange = account.guarded(lambda: _begin(client, paths, account, args, kwargs))
        if exchange is None:
            return await request(client, *args, **kwargs)
        try:
            answer = await request(client, *args, **kwargs)
        except BaseException as error:
            account.guarded(functools.partial(exchange.call.fail, error))
            raise
        account.guarded(lambda: exchange.answered(answer, AsyncFollowed))
        return answer

    return followed


def _begin(
    client: Any,  # noqa: ANN401 (either client)
    paths: _Paths,
    account: Account,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> _Exchange | None:
    if not account.active:
        return None
    options = kwargs["options"] if "options" in kwargs else args[1]
    api = paths.apis.get(options.url.partition("?")[0])
    if api is None or options.method.lower() != "post":
        return None
    body = options.json_data if isinstance(options.json_data, dict) else {}
    skip = None
    if paths.ask_for_usage and kwargs.get("stream") and api.chunk is APIS["chat"].chunk:
        wanted = body.get("stream_options") or {}
        if not wanted.get("include_usage"):
            options.json_data = {**body, "stream_options": {**wanted, "include_usage": True}}
            skip = _is_usage_only
    call = Call(account, api, paths.flavour, str(client.base_url), str(body.get("model") or ""))
    return _Exchange(account, call, skip)


def _is_usage_only(chunk: Any) -> bool:  # noqa: ANN401 (a chunk of either API)
    return getattr(chunk, "usage", None) is not None and not getattr(chunk, "choices", None)


class _Exchange:
    """A call of one of these clients and the shapes its answer may have."""

    def __init__(self, account: Account, call: Call, skip: Callable[[Any], bool] | None) -> None:
        self.call = call
        self._account = account
        self._skip = skip
        self._streams = False

    def answered(self, answer: Any, kind: type[Followed] | type[AsyncFollowed]) -> None:  # noqa: ANN401
        """Take the answer: whole, a stream, or a raw response with either in it."""
        if hasattr(answer, "http_response"):
            self._raw(answer, kind)
        elif hasattr(answer, "_iterator"):
            self._stream(answer, kind)
        else:
            attach(answer, self.call.end(self.call.api.answer(answer)))

    def _stream(self, stream: Any, kind: type[Followed] | type[AsyncFollowed]) -> None:  # noqa: ANN401
        if isinstance(stream._iterator, kind):
            return
        self._streams = True
        followed = kind(stream._iterator, self._account, self.call, self._skip)
        followed.belongs_to(stream)
        stream._iterator = followed
        on_close(stream.response, followed)

    def _raw(self, raw: Any, kind: type[Followed] | type[AsyncFollowed]) -> None:  # noqa: ANN401
        """A raw response: booked at once if its body is here, else when it is parsed, closed or forgotten."""
        parse, close = raw.parse, getattr(raw, "close", None)
        self._take_body(raw)

        def take(parsed: Any) -> Any:  # noqa: ANN401
            self._account.guarded(lambda: self.answered(parsed, kind))
            attach(raw, self.call.footprint)
            return parsed

        def parse_and_take(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            parsed = parse(*args, **kwargs)
            return _then(parsed, take) if hasattr(parsed, "__await__") else take(parsed)

        def end_and_close() -> Any:  # noqa: ANN401
            self._account.guarded(lambda: self._end_raw(raw))
            return close() if close is not None else None

        raw.parse = parse_and_take
        if close is not None:
            raw.close = end_and_close
        weakref.finalize(raw, self._account.later, self._forgotten)

    def _take_body(self, raw: Any) -> bool:  # noqa: ANN401
        """Book a raw response by its body, if that has been read."""
        try:
            body = json.loads(raw.http_response.content)
        except Exception:  # not read yet, or a stream of events; the HTTP libraries' errors share no base
            return False
        attach(raw, self.call.end(self.call.api.answer(body)))
        return True

    def _end_raw(self, raw: Any) -> None:  # noqa: ANN401
        if not self._take_body(raw):
            self._forgotten()

    def _forgotten(self) -> None:
        if not self._streams:
            self.call.abandon()


async def _then(awaited: Any, take: Callable[[Any], Any]) -> Any:  # noqa: ANN401
    return take(await awaited)
