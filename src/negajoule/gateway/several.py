"""Several engines of this process as one backend; each is loaded when it is first asked, if memory allows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from negajoule.errors import RequestError
from negajoule.gateway.local import EngineBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from negajoule.engine import Engine
    from negajoule.gateway.accounts import Accounts
    from negajoule.gateway.backend import Exchange
    from negajoule.gateway.wire import Call
    from negajoule.meter import RequestSplitter

__all__ = ["Loadable", "SeveralEngines"]


class Loadable(NamedTuple):
    """An engine that isn't loaded yet.

    Attributes:
        load: loads it; may block for seconds.
        needs_bytes: memory that it takes [B].
    """

    load: Callable[[], Engine]
    needs_bytes: int


class SeveralEngines:
    """Runs calls on the engine that has their model.

    Args:
        engines: by the model's name.
        splitter: splits this process's joules over the requests of all.
        accounts: books them.
        free_bytes: memory that is free now; ``None`` if that can't be told [B].
    """

    def __init__(
        self,
        engines: Mapping[str, Loadable],
        splitter: RequestSplitter,
        accounts: Accounts,
        free_bytes: Callable[[], int | None],
    ) -> None:
        self._engines = dict(engines)
        self._splitter = splitter
        self._accounts = accounts
        self._free_bytes = free_bytes
        self._loaded: dict[str, EngineBackend] = {}
        self._loading = asyncio.Lock()
        accounts.metrics.watch("negajoule_engines_loaded", "Engines in memory", lambda: len(self._loaded))

    async def models(self) -> list[dict[str, Any]]:
        """Their models; what isn't loaded is listed by name."""
        listed: list[dict[str, Any]] = []
        for name in self._engines:
            backend = self._loaded.get(name)
            listed += (
                [{"id": name, "object": "model", "created": 0, "owned_by": "negajoule", "loaded": False}]
                if backend is None
                else await backend.models()
            )
        return listed

    async def open(self, call: Call) -> Exchange:
        """Put a call on its engine's queue; the first one waits until it is loaded.

        Raises:
            RequestError: (R103) for a model that isn't here, (R107) if memory lacks for it.
        """
        if call.model not in self._engines:
            raise RequestError(
                f"the model {call.model!r} isn't served here",
                code="R103",
                status=404,
                param="model",
                fix=f"use {' or '.join(self._engines)}",
            )
        async with self._loading:
            backend = self._loaded.get(call.model)
            if backend is None:
                backend = self._loaded[call.model] = await self._load(call.model)
        return await backend.open(call)

    async def close(self) -> None:
        """Let running calls finish, then free the engines."""
        async with self._loading:
            for backend in self._loaded.values():
                await backend.close()

    async def _load(self, model: str) -> EngineBackend:
        found = self._engines[model]
        free = self._free_bytes()
        if free is not None and free < found.needs_bytes:
            raise RequestError(
                f"the model {model!r} needs {found.needs_bytes >> 20} MiB; {free >> 20} MiB are free",
                code="R107",
                status=503,
                fix="ask for a smaller format, or make room",
            )
        engine = await asyncio.to_thread(found.load)
        return EngineBackend(engine, self._splitter, self._accounts)
