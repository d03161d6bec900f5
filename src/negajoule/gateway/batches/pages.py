"""``/v1/files`` and ``/v1/batches``: each key sees its own, an admin's sees all."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from negajoule.errors import RequestError
from negajoule.gateway.batches.line import check_owner
from negajoule.gateway.batches.record import ENDPOINTS, window_s
from negajoule.gateway.batches.runner import Runner
from negajoule.gateway.batches.shelf import Shelf
from negajoule.gateway.batches.upload import Upload
from negajoule.gateway.caller import CALLER
from negajoule.ledger import new_id

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.requests import Request

    from negajoule.gateway.backend import Backend
    from negajoule.gateway.batches.record import Batch, BatchLimits, StoredFile
    from negajoule.gateway.door import Door
    from negajoule.gateway.limits import Limits

__all__ = ["BatchBody", "Batches"]

_ASKING = frozenset({"chat", "completions", "embeddings"})
_PAGE = 20
_LARGEST_PAGE = 10_000
_Text = Annotated[str, msgspec.Meta(max_length=512)]


class BatchBody(msgspec.Struct):
    """A request for a batch."""

    input_file_id: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    endpoint: Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"]
    completion_window: Annotated[str, msgspec.Meta(max_length=16)]
    metadata: (
        Annotated[dict[Annotated[str, msgspec.Meta(max_length=64)], _Text], msgspec.Meta(max_length=16)]
        | None
    ) = None


class Batches:
    """The pages, and what runs behind them.

    Args:
        limits: how much.
        shelf: where all is kept; by default in the data folder.
    """

    def __init__(self, limits: BatchLimits, shelf: Shelf | None = None) -> None:
        self.shelf = Shelf(limits) if shelf is None else shelf
        self._runner: Runner | None = None
        self._running: asyncio.Task[None] | None = None

    def start(self, backend: Backend, door: Door, limits: Callable[[], Limits]) -> None:
        """Run batches from now on, in the loop that runs."""
        self._runner = Runner(self.shelf, backend, door, limits)
        self._running = asyncio.create_task(self._runner.run())

    async def close(self) -> None:
        """Stop; what was under way goes on at the next start."""
        if self._running is not None:
            self._running.cancel()
            with suppress(asyncio.CancelledError):
                await self._running

    def routes(self) -> list[Route]:
        """The routes."""
        return [
            Route("/v1/files", self._files, methods=["GET", "POST"]),
            Route("/v1/files/{id}", self._file, methods=["GET", "DELETE"]),
            Route("/v1/files/{id}/content", self._content),
            Route("/v1/batches", self._batches, methods=["GET", "POST"]),
            Route("/v1/batches/{id}", self._batch),
            Route("/v1/batches/{id}/cancel", self._cancel, methods=["POST"]),
        ]

    async def _files(self, request: Request) -> Response:
        if request.method == "POST":
            return await self._upload(request)
        purpose = request.query_params.get("purpose")
        found = [
            stored
            for stored in await asyncio.to_thread(self.shelf.files)
            if CALLER.get().may_see(stored.owner) and purpose in (None, "", stored.purpose)
        ]
        if _choice(request, "order", ("desc", "asc")) == "asc":
            found.reverse()
        return _json(_listed(request, found, [stored.to_dict() for stored in found], _LARGEST_PAGE))

    async def _upload(self, request: Request) -> Response:
        caller = CALLER.get()
        _check_asking(caller.scopes)
        room = await asyncio.to_thread(self.shelf.room_bytes)
        part = self.shelf.part(new_id("file"))
        limits: Limits = request.scope["app"].limits
        upload = Upload(
            request.headers.get("content-type", ""), part, min(room, self.shelf.limits.file_bytes)
        )
        try:
            try:
                await _receive(request, upload, limits.body_timeout_s)
                await asyncio.to_thread(upload.finish)
            finally:
                upload.close()
            if upload.fields.get("purpose") != "batch":
                raise RequestError("files are for batches here", param="purpose", fix="purpose=batch")
            lasts_s = _lasts_s(upload.fields.get("expires_after[seconds]"))
            stored = await asyncio.to_thread(
                self.shelf.take_in, part, str(upload.filename), caller.name, lasts_s
            )
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        return _json(stored.to_dict())

    async def _file(self, request: Request) -> Response:
        stored = await self._owned_file(request.path_params["id"])
        if request.method != "DELETE":
            return _json(stored.to_dict())
        await asyncio.to_thread(self.shelf.delete_file, stored.id)
        return _json({"id": stored.id, "object": "file", "deleted": True})

    async def _content(self, request: Request) -> Response:
        stored = await self._owned_file(request.path_params["id"])
        return FileResponse(
            self.shelf.content(stored.id), media_type="application/octet-stream", filename=stored.filename
        )

    async def _batches(self, request: Request) -> Response:
        if request.method == "POST":
            return await self._create(request)
        found = [
            batch
            for batch in await asyncio.to_thread(self.shelf.batches)
            if CALLER.get().may_see(batch.owner)
        ]
        return _json(_listed(request, found, [self._shown(batch) for batch in found], 100))

    async def _create(self, request: Request) -> Response:
        caller = CALLER.get()
        try:
            body = msgspec.json.decode(await request.scope["intake"].read(), type=BatchBody)
        except msgspec.ValidationError as error:
            raise RequestError(str(error), fix=f"endpoints: {', '.join(ENDPOINTS)}") from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RequestError(f"the body isn't valid JSON: {error}", code="R101") from None
        check_owner(caller, body.endpoint)
        length_s = window_s(body.completion_window)
        stored = await self._owned_file(body.input_file_id)
        if stored.purpose != "batch":
            raise RequestError("that file holds a batch's answers", param="input_file_id")
        batch = await asyncio.to_thread(
            self.shelf.new_batch,
            caller.name,
            endpoint=body.endpoint,
            input_file_id=stored.id,
            window=body.completion_window,
            length_s=length_s,
            metadata=body.metadata,
        )
        self._wake()
        return _json(self._shown(batch))

    async def _batch(self, request: Request) -> Response:
        return _json(self._shown(await self._owned_batch(request.path_params["id"])))

    async def _cancel(self, request: Request) -> Response:
        batch = await self._owned_batch(request.path_params["id"])
        if batch.ended:
            raise RequestError(f"the batch has ended: it is {batch.status}", code="R114", status=409)
        await asyncio.to_thread(self.shelf.cancel, batch.id)
        self._wake()
        return _json(self._shown(batch))

    def _shown(self, batch: Batch) -> dict[str, Any]:
        if not batch.ended:
            asked_s = self.shelf.cancel_asked_s(batch.id)
            batch = batch if asked_s is None else batch.now("cancelling", asked_s)
        return batch.to_dict(self.shelf.counts(batch))

    def _wake(self) -> None:
        if self._runner is not None:
            self._runner.wake()

    async def _owned_file(self, file_id: str) -> StoredFile:
        stored = await asyncio.to_thread(self.shelf.file, file_id)
        if stored is None or not CALLER.get().may_see(stored.owner):
            raise RequestError(f"there is no file {file_id[:100]!r}", code="R106", status=404)
        return stored

    async def _owned_batch(self, batch_id: str) -> Batch:
        batch = await asyncio.to_thread(self.shelf.batch, batch_id)
        if batch is None or not CALLER.get().may_see(batch.owner):
            raise RequestError(f"there is no batch {batch_id[:100]!r}", code="R106", status=404)
        return batch


async def _receive(request: Request, upload: Upload, patience_s: float) -> None:
    """Take a body; each piece has to come in time."""
    try:
        async with asyncio.timeout(patience_s) as clock:
            async for piece in request.scope["intake"].pieces():
                upload.write(piece)
                clock.reschedule(asyncio.get_running_loop().time() + patience_s)
    except TimeoutError:
        raise RequestError("sending the file took too long", code="R112", status=408) from None


def _check_asking(scopes: frozenset[str]) -> None:
    if not scopes & _ASKING:
        raise RequestError("this API key may ask no model", code="R111", status=403)


def _lasts_s(text: str | None) -> float | None:
    if text is None:
        return None
    if not text.isdecimal() or not 3600 <= int(text[:12]) <= 2_592_000:
        raise RequestError(
            "a file lasts from an hour to 30 days", param="expires_after[seconds]", fix="3600 to 2592000"
        )
    return float(text)


def _choice(request: Request, name: str, allowed: tuple[str, ...]) -> str:
    value = request.query_params.get(name) or allowed[0]
    if value not in allowed:
        raise RequestError(f"{name} must be {' or '.join(allowed)}", param=name)
    return value


def _listed(
    request: Request, found: Sequence[Batch | StoredFile], shown: list[dict[str, Any]], largest: int
) -> dict[str, Any]:
    """A page of a list: those after ``after``, at most ``limit``."""
    text = request.query_params.get("limit") or str(min(largest, _PAGE if largest == 100 else largest))
    if not text.isdecimal() or not 1 <= int(text[:9]) <= largest:
        raise RequestError(f"limit must be 1 to {largest}", param="limit")
    begin, after = 0, request.query_params.get("after")
    if after:
        places = [place for place, one in enumerate(found) if one.id == after]
        begin = places[0] + 1 if places else len(found)
    data = shown[begin : begin + int(text)]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": begin + len(data) < len(shown),
    }


def _json(data: object) -> Response:
    return Response(msgspec.json.encode(data), media_type="application/json")
