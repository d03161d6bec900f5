"""A way to ask any engine and to see all that comes out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from negajoule.engine import assemble

if TYPE_CHECKING:
    from negajoule.engine import Engine, Progress, Result, Task


class Asked(NamedTuple):
    """All that came out of one request."""

    result: Result
    chunks: list[dict[str, Any]]
    progress: list[Progress]

    @property
    def answer(self) -> dict[str, Any]:
        return assemble(self.chunks, self.result.usage)

    @property
    def text(self) -> str:
        choice = self.answer["choices"][0]
        return choice["message"]["content"] if "message" in choice else choice["text"]

    def tokens(self, kind: str) -> int:
        return sum(event.tokens for event in self.progress if event.kind == kind)


def ask(engine: Engine, body: dict[str, Any], *, task: Task = "chat", cancel_at: int | None = None) -> Asked:
    """Run one request; ``cancel_at`` is the number of the chunk at which to hang up."""
    chunks: list[dict[str, Any]] = []
    progress: list[Progress] = []

    def on_chunk(chunk: dict[str, Any]) -> bool:
        chunks.append(chunk)
        return len(chunks) == cancel_at

    return Asked(engine.run(task, body, on_chunk, progress.append), chunks, progress)


def say(text: str, **fields: Any) -> dict[str, Any]:
    """Make a chat request with one message."""
    return {"messages": [{"role": "user", "content": text}], **fields}
