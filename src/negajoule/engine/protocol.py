"""What every engine promises: run a request, tell its chunks and its progress, hand back its counts.

An engine is blocking and thread-safe: several threads call ``run`` at once and share the batch. It
always streams inside, also for plain requests, so that progress is metered while it happens and a client that
hangs up ends the work. ``assemble`` folds the chunks into the plain answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Engine", "ModelCard", "Progress", "Result", "Task", "Timings"]

Task = Literal["chat", "completion"]
"""``chat`` answers with ``chat.completion.chunk`` objects, ``completion`` with ``text_completion``."""


class ModelCard(msgspec.Struct, frozen=True):
    """One model that an engine serves.

    Attributes:
        id: the public name, used in requests and answers.
        context_tokens: the longest prompt and answer together that one request may have.
        parameters: number of weights; ``None`` if the file doesn't tell.
        quantisation: the format of the weights ("Q4_1"); ``None`` if unknown.
        licence: as the file names it; ``None`` if unknown.
        source: where the weights come from, for people.
        embedding: whether it answers embedding requests.
    """

    id: str
    context_tokens: int
    parameters: int | None
    quantisation: str | None
    licence: str | None
    source: str
    embedding: bool = False


class Timings(msgspec.Struct, frozen=True):
    """What one request took, as the engine itself counted it.

    Attributes:
        cached_tokens: prompt tokens found in the cache, which cost next to nothing.
        prompt_tokens: prompt tokens that were computed; cache hits are excluded.
        prompt_s: time of prefill [s], shared with whatever else was in the batch.
        output_tokens: tokens produced, all choices together.
        output_s: time of decode [s], shared likewise, summed over the choices.
    """

    cached_tokens: int
    prompt_tokens: int
    prompt_s: float
    output_tokens: int
    output_s: float


class Progress(msgspec.Struct, frozen=True):
    """Work that has just been done for one request; sums to the counts of its ``Timings``.

    Attributes:
        kind: ``prefill`` (prompt tokens computed) or ``decode`` (tokens produced).
        tokens: how many tokens this event stands for, at least 1.
    """

    kind: Literal["prefill", "decode"]
    tokens: int


class Result(msgspec.Struct, frozen=True):
    """How a request ended.

    Attributes:
        timings: counts and times; of a cancelled request, what was done until then.
        usage: OpenAI's ``usage`` object: prompt (cache hits included), completion and total tokens.
        cancelled: whether ``on_chunk`` asked to stop.
    """

    timings: Timings
    usage: dict[str, Any]
    cancelled: bool = False


class Engine(Protocol):
    """Runs a model here. Implementations: ``LlamaEngine``, and ``FakeEngine`` for tests."""

    @property
    def name(self) -> str:
        """Kind of engine: "llama.cpp", "fake"."""

    @property
    def models(self) -> tuple[ModelCard, ...]:
        """What it serves, the default first."""

    @property
    def slots(self) -> int:
        """How many requests share the batch; further ones wait inside ``run``."""

    def run(
        self,
        task: Task,
        body: Mapping[str, Any],
        on_chunk: Callable[[dict[str, Any]], bool],
        on_progress: Callable[[Progress], bool | None] | None = None,
    ) -> Result:
        """Answer one request; blocks until it is done.

        Args:
            task: which of the two OpenAI request shapes ``body`` has.
            body: the client's request; ``stream`` and ``stream_options`` in it are ignored.
            on_chunk: called with every streamed chunk, in order; the last one of each choice holds
                ``finish_reason``; none holds ``usage``. Returning True cancels.
            on_progress: called with every bit of work done, from the same thread; returning True cancels too,
                which matters during a long prefill, when there are no chunks.

        Raises:
            RequestError: R102 for a field that is missing or of the wrong type, R104 for a prompt that
                doesn't fit the context; nothing was computed.
            EngineError: E102 if the engine refused or failed; carries the HTTP status.
            BaseException: whatever a callback raised; the work is ended first.
        """

    def close(self) -> None:
        """End what runs, free the model; later calls of ``run`` raise EngineError. May be called twice."""
