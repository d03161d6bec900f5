"""A deterministic engine without a model, for tests; it says "fake" wherever it is seen."""

from __future__ import annotations

import hashlib
import threading
import time
from typing import TYPE_CHECKING, Any

from negajoule.engine.protocol import ModelCard, Progress, Result, Task, Timings
from negajoule.engine.request import check, too_long
from negajoule.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["FakeEngine"]

_WORDS = ("kettle", "river", "copper", "ladder", "window", "moss", "lantern", "gravel", "paper", "north")
_LONGEST_REPLY_TOKENS = 24


class FakeEngine:
    """Answers with words drawn from a hash of the prompt; a token is a whitespace-separated word.

    Attributes:
        name: "fake".
        models: one card, whose id is "fake" unless told otherwise.
        slots: how many requests run at once; further ones wait.
        started: requests that passed the checks so far.
        most_at_once: the largest number of requests seen running together.
    """

    name = "fake"

    def __init__(
        self,
        *,
        model_id: str = "fake",
        slots: int = 8,
        context_tokens: int = 2048,
        token_delay_s: float = 0.0,
        failure: Exception | None = None,
        fail_after_tokens: int = 0,
    ) -> None:
        """Set the fake up; failures are injected here only, never by what a prompt says.

        Args:
            model_id: public name of the one model.
            slots: how many requests run at once.
            context_tokens: longest prompt and answer together.
            token_delay_s: pause before each produced token [s].
            failure: raised by every request, if given.
            fail_after_tokens: how many tokens to produce before raising ``failure``.
        """
        self.models = (
            ModelCard(
                id=model_id,
                context_tokens=context_tokens,
                parameters=None,
                quantisation=None,
                licence=None,
                source="fake: words drawn from a hash of the prompt",
            ),
        )
        self.slots = slots
        self.started = 0
        self.most_at_once = 0
        self._token_delay_s = token_delay_s
        self._failure = failure
        self._fail_after_tokens = fail_after_tokens
        self._running = 0
        self._lock = threading.Lock()
        self._free_slots = threading.BoundedSemaphore(slots)
        self._closed = threading.Event()

    def run(
        self,
        task: Task,
        body: Mapping[str, Any],
        on_chunk: Callable[[dict[str, Any]], bool],
        on_progress: Callable[[Progress], bool | None] | None = None,
    ) -> Result:
        """See ``Engine.run``."""
        request = check(task, body)
        prompt = _prompt_words(task, request)
        card = self.models[0]
        if len(prompt) >= card.context_tokens:
            raise too_long(task, len(prompt), card.context_tokens)
        with self._free_slots:
            if self._closed.is_set():
                raise EngineError("the fake engine is closed", status=503)
            with self._lock:
                self.started += 1
                number = self.started
                self._running += 1
                self.most_at_once = max(self.most_at_once, self._running)
            try:
                return self._answer(task, request, prompt, number, on_chunk, on_progress)
            finally:
                with self._lock:
                    self._running -= 1

    def close(self) -> None:
        """End what runs; see ``Engine.close``."""
        self._closed.set()

    def _answer(
        self,
        task: Task,
        request: dict[str, Any],
        prompt: list[str],
        number: int,
        on_chunk: Callable[[dict[str, Any]], bool],
        on_progress: Callable[[Progress], bool | None] | None,
    ) -> Result:
        room = self.models[0].context_tokens - len(prompt)
        longest = min(room, request.get("max_tokens", room))
        chat = task == "chat"
        frame = {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-fake-{number}",
            "object": "chat.completion.chunk" if chat else "text_completion",
            "created": int(time.time()),
            "model": self.models[0].id,
        }

        def chunk(index: int, text: str | None, finish_reason: str | None = None) -> dict[str, Any]:
            choice: dict[str, Any] = {"index": index, "finish_reason": finish_reason, "logprobs": None}
            if chat:
                choice["delta"] = {} if text is None else {"content": text}
            else:
                choice["text"] = text or ""
            return {**frame, "choices": [choice]}

        begin_s = time.perf_counter()
        cancelled = on_progress is not None and bool(on_progress(Progress("prefill", len(prompt))))
        prefilled_s = time.perf_counter()
        produced = 0
        for index in range(request.get("n", 1)):
            words = _reply_words(prompt, index)
            first = chunk(index, "")
            if chat:
                first["choices"][0]["delta"]["role"] = "assistant"
            cancelled = cancelled or bool(on_chunk(first))
            for place, word in enumerate(words[:longest]):
                if cancelled:
                    break
                self._before_token(produced)
                produced += 1
                if on_progress is not None and on_progress(Progress("decode", 1)):
                    cancelled = True
                    break
                cancelled = bool(on_chunk(chunk(index, f" {word}" if place else word)))
            if cancelled:
                break
            cancelled = bool(on_chunk(chunk(index, None, "length" if len(words) > longest else "stop")))
        return Result(
            timings=Timings(
                cached_tokens=0,
                prompt_tokens=len(prompt),
                prompt_s=prefilled_s - begin_s,
                output_tokens=produced,
                output_s=time.perf_counter() - prefilled_s,
            ),
            usage={
                "prompt_tokens": len(prompt),
                "completion_tokens": produced,
                "total_tokens": len(prompt) + produced,
                "prompt_tokens_details": {"cached_tokens": 0},
            },
            cancelled=cancelled,
        )

    def _before_token(self, produced: int) -> None:
        if self._failure is not None and produced >= self._fail_after_tokens:
            raise self._failure
        if self._closed.wait(self._token_delay_s) if self._token_delay_s else self._closed.is_set():
            raise EngineError("the fake engine was closed while it answered", status=503)


def _prompt_words(task: Task, request: dict[str, Any]) -> list[str]:
    if task == "completion":
        prompt = request["prompt"]
        text = prompt if isinstance(prompt, str) else " ".join(map(str, prompt))
        return text.split() or [text]
    return [word for message in request["messages"] for word in _message_words(message)]


def _message_words(message: Mapping[str, Any]) -> Iterator[str]:
    content = message.get("content") or ""
    parts = [content] if isinstance(content, str) else [part.get("text", "") for part in content]
    yield message["role"]
    for part in parts:
        yield from part.split()


def _reply_words(prompt: list[str], index: int) -> list[str]:
    digest = hashlib.sha256(f"{index}\n{' '.join(prompt)}".encode()).digest()
    count = 4 + digest[0] % (_LONGEST_REPLY_TOKENS - 4)
    return ["fake:", *(_WORDS[byte % len(_WORDS)] for byte in digest[1:count])]
