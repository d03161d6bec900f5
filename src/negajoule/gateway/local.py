"""The embedded engine as a backend: metered, batched, cancelled when its client goes."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgspec

from negajoule.engine import Assembly
from negajoule.errors import EngineError, NegajouleError, RequestError
from negajoule.gateway.accounts import Tokens, until_safe
from negajoule.gateway.sse import DONE, event
from negajoule.ledger import new_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from negajoule.engine import Engine, Progress, Result
    from negajoule.gateway.accounts import Accounts
    from negajoule.gateway.wire import Call
    from negajoule.ledger import Status
    from negajoule.meter import RequestSplitter
    from negajoule.units import Energy, Footprint

__all__ = ["EngineBackend"]


class EngineBackend:
    """Runs calls on an engine of this process.

    Args:
        engine: the engine; closed with this backend.
        splitter: splits this process's joules over its requests.
        accounts: books them.
        waiting_limit: calls that may wait for a slot; more are refused (R107).
    """

    def __init__(
        self, engine: Engine, splitter: RequestSplitter, accounts: Accounts, *, waiting_limit: int = 256
    ) -> None:
        self.engine = engine
        self.splitter = splitter
        self.accounts = accounts
        self.slots = asyncio.Semaphore(engine.slots)
        self.threads = ThreadPoolExecutor(engine.slots, thread_name_prefix="negajoule-engine")
        self._limit = waiting_limit + engine.slots
        self._running: set[asyncio.Task[None]] = set()
        self._closing = False

    async def models(self) -> list[dict[str, Any]]:
        """The engine's models, with what is known of them."""
        return [
            {
                "id": card.id,
                "object": "model",
                "created": 0,
                "owned_by": self.engine.name,
                "context_tokens": card.context_tokens,
                "parameters": card.parameters,
                "quantisation": card.quantisation,
                "licence": card.licence,
                "source": card.source,
            }
            for card in self.engine.models
        ]

    async def open(self, call: Call) -> LocalExchange:
        """Put a call on the engine's queue.

        Raises:
            RequestError: (R103) for a model that isn't here, (R107) if too many wait or the server stops.
        """
        known = [card.id for card in self.engine.models]
        if call.model not in known:
            raise RequestError(
                f"the model {call.model!r} isn't served here",
                code="R103",
                status=404,
                param="model",
                fix=f"use {' or '.join(known)}",
            )
        if call.task in ("embedding", "count"):
            what = "makes no embeddings" if call.task == "embedding" else "counts no tokens for others"
            raise RequestError(
                f"the model {call.model!r} {what}",
                code="R103",
                status=404,
                param="model",
                fix="put a server that does behind this one: negajoule serve --upstream URL",
            )
        if self._closing or len(self._running) >= self._limit:
            reason = "the server is shutting down" if self._closing else "too many requests wait"
            raise RequestError(reason, code="R107", status=503 if self._closing else 429, fix="try again")
        exchange = LocalExchange(self, call)
        task = asyncio.create_task(exchange.run())
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return exchange

    async def close(self) -> None:
        """Let running calls finish, then free the engine."""
        self._closing = True
        if self._running:
            await asyncio.wait(self._running)
        self.threads.shutdown()
        await asyncio.to_thread(self.engine.close)


class LocalExchange:
    """One call on the embedded engine; runs and is booked in a task of its own, whatever its client does."""

    def __init__(self, backend: EngineBackend, call: Call) -> None:
        self.request_id = new_id("req")
        self.cost: Footprint | None = None
        self.status: Status = "ok"
        self.tokens = Tokens()
        self._backend = backend
        self._call = call
        self._gone = False
        self._error: NegajouleError | None = None
        self._result: Result | None = None
        self._marginal: Energy | None = None
        self._assembly = Assembly()
        self._chunks: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Wait for a slot, run, book."""
        try:
            async with self._backend.slots:
                if self._gone:
                    self._error = RequestError("the client hung up before its turn", code="R107", status=499)
                    self.status = "cancelled"
                    self._backend.accounts.drop_request(self.request_id)
                else:
                    await self._run_in_slot()
        finally:
            self._ended.set()
            self._chunks.put_nowait(None)

    async def plain(self) -> dict[str, Any]:
        """The whole answer."""
        await self._ended.wait()
        if self._error is not None:
            raise self._error
        assert self._result is not None, "a call without an error has a result"
        answer = self._assembly.answer(self._result.usage)
        answer["footprint"] = self._footprint()
        return answer

    async def events(self) -> AsyncIterator[bytes]:
        """The answer in events; the last one before the end mark waits for the footprint."""
        held: dict[str, Any] | None = None
        while (chunk := await self._chunks.get()) is not None:
            if held is not None:
                yield event(msgspec.json.encode(held))
            held = chunk
        if self._error is not None:
            raise self._error
        assert self._result is not None, "a call without an error has a result"
        assert held is not None, "an answer has at least its last chunk"
        if self._call.include_usage:
            yield event(msgspec.json.encode(held))
            held = {**held, "choices": [], "usage": self._result.usage}
        held["footprint"] = self._footprint()
        yield event(msgspec.json.encode(held))
        yield DONE

    async def cancel(self) -> None:
        """Stop generating; what was spent is booked."""
        self._gone = True

    async def _run_in_slot(self) -> None:
        backend = self._backend
        started_s = time.time()
        backend.splitter.begin(self.request_id)
        try:
            self._result = await self._loop.run_in_executor(
                backend.threads,
                backend.engine.run,
                "completion" if self._call.task == "completion" else "chat",
                self._call.body(),
                self._on_chunk_streamed if self._call.stream else self._on_chunk_plain,
                self._on_progress,
            )
        except NegajouleError as error:
            self._error = error
            self.status = "failed"
        except Exception as error:
            self._error = EngineError(f"the engine failed: {error}", status=500)
            self.status = "failed"
        finally:
            share = backend.splitter.end(self.request_id)
        if self._result is not None:
            timings = self._result.timings
            self.tokens = Tokens(
                timings.cached_tokens + timings.prompt_tokens, timings.cached_tokens, timings.output_tokens
            )
            self.status = "cancelled" if self._result.cancelled else "ok"
        self._marginal = share.marginal
        self.cost = backend.accounts.here.cost(share.parts, share.node_seconds)
        written = backend.accounts.book_request(
            request_id=self.request_id,
            model=self._call.model,
            status=self.status,
            started_s=started_s,
            tokens=self.tokens,
            cpu_seconds=share.cpu_seconds,
            cost=self.cost,
        )
        await until_safe(written)

    def _on_progress(self, progress: Progress) -> bool:
        self._backend.splitter.work(self.request_id, progress.tokens, progress.kind)
        return self._gone

    def _on_chunk_plain(self, chunk: dict[str, Any]) -> bool:
        self._assembly.add(chunk)
        return self._gone

    def _on_chunk_streamed(self, chunk: dict[str, Any]) -> bool:
        self._loop.call_soon_threadsafe(self._chunks.put_nowait, chunk)
        return self._gone

    def _footprint(self) -> dict[str, Any]:
        assert self.cost is not None, "a call that ran has been booked"
        marginal = None if self._marginal is None else self._marginal.to_dict()
        return {
            "request_id": self.request_id,
            **self.cost.to_dict(detail=False),
            "marginal_it_energy": marginal,
        }
