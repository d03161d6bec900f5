"""Turn llama.cpp's own chunks into public ones, and its running counts into progress.

What comes in differs by version of the wheel: a dict, a JSON text, a tuple of either, a list of chunks, or
nothing; all are read. What goes out is OpenAI's shape with our model name, one id and time of creation,
without counts: those are summed up in the ``Result``.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from negajoule.engine.protocol import Progress, Result, Task, Timings
from negajoule.engine.request import too_long
from negajoule.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Stream"]


class Stream:
    """One request's stream; hand ``take`` to llama.cpp as its callback, then ask for the ``result``."""

    def __init__(
        self,
        task: Task,
        model_id: str,
        on_chunk: Callable[[dict[str, Any]], bool],
        on_progress: Callable[[Progress], bool | None] | None = None,
        *,
        choices_per_prompt: int = 1,
        tools: bool = False,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """Begin.

        Args:
            task: which shape the chunks have.
            model_id: public name, put in place of the file's path.
            on_chunk: see ``Engine.run``.
            on_progress: see ``Engine.run``.
            choices_per_prompt: the request's ``n``; choices of one prompt share its prefill.
            tools: whether the answer may be tool calls, in which case no empty text is announced.
            stopping: asked at each chunk; true ends the request with an error (the engine is closing).
        """
        self._task = task
        self._on_chunk = on_chunk
        self._on_progress = on_progress
        self._choices_per_prompt = choices_per_prompt
        self._stopping = stopping
        self._first_delta = {"role": "assistant", "content": None if tools else ""}
        self._frame = {
            "id": f"{'chatcmpl' if task == 'chat' else 'cmpl'}-{uuid4().hex}",
            "object": "chat.completion.chunk" if task == "chat" else "text_completion",
            "created": int(time.time()),
            "model": model_id,
        }
        self._counts: dict[int, Timings] = {}
        self._text_length: dict[int, int] = {}
        self._latest = 0
        self._cancelled = False
        self._failure: BaseException | None = None

    def take(self, raw: object) -> bool:
        """Take in what llama.cpp says; returns True to make it stop. Never raises: see ``result``."""
        if self._failure is None and not self._cancelled:
            try:
                if self._stopping():
                    raise EngineError("the engine was closed while it answered", status=503)
                for part in _parts(raw):
                    self._take(part)
                    if self._cancelled:
                        break
            except BaseException as error:  # llama.cpp would swallow it; ``result`` raises it
                self._failure = error
        return self._cancelled or self._failure is not None

    def result(self) -> Result:
        """Sum up, once llama.cpp has returned.

        Raises:
            RequestError: R104 if the prompt didn't fit.
            EngineError: E102 if llama.cpp refused, failed, or said nothing at all.
            BaseException: what a callback raised.
        """
        if self._failure is not None:
            raise self._failure
        if not self._counts and not self._cancelled:
            raise EngineError("the engine ended without an answer", status=500)
        prompts = [count for index, count in self._counts.items() if self._leads(index)]
        cached = sum(count.cached_tokens for count in prompts)
        computed = sum(count.prompt_tokens for count in prompts)
        output = sum(count.output_tokens for count in self._counts.values())
        return Result(
            timings=Timings(
                cached_tokens=cached,
                prompt_tokens=computed,
                prompt_s=sum(count.prompt_s for count in prompts),
                output_tokens=output,
                output_s=sum(count.output_s for count in self._counts.values()),
            ),
            usage={
                "prompt_tokens": cached + computed,
                "completion_tokens": output,
                "total_tokens": cached + computed + output,
                "prompt_tokens_details": {"cached_tokens": cached},
            },
            cancelled=self._cancelled,
        )

    def _leads(self, index: int) -> bool:
        return index % self._choices_per_prompt == 0

    def _take(self, part: dict[str, Any]) -> None:
        if part.get("error"):
            raise _refusal(self._task, part["error"])
        choices = part.get("choices") or []
        if choices:
            self._latest = choices[0]["index"]
        if part.get("timings"):
            self._count(self._latest, part["timings"])
        for choice in choices:
            self._pass_on(choice)

    def _count(self, index: int, raw: dict[str, Any]) -> None:
        before = self._counts.get(index) or Timings(0, 0, 0.0, 0, 0.0)
        now = self._counts[index] = Timings(
            cached_tokens=raw["cache_n"],
            prompt_tokens=raw["prompt_n"],
            prompt_s=raw["prompt_ms"] / 1000,
            output_tokens=raw["predicted_n"],
            output_s=raw["predicted_ms"] / 1000,
        )
        if self._leads(index):
            self._tell("prefill", now.prompt_tokens - before.prompt_tokens)
        self._tell("decode", now.output_tokens - before.output_tokens)

    def _tell(self, kind: Any, tokens: int) -> None:  # noqa: ANN401 (one of Progress's kinds)
        if tokens > 0 and self._on_progress is not None and self._on_progress(Progress(kind, tokens)):
            self._cancelled = True

    def _pass_on(self, choice: dict[str, Any]) -> None:
        index = choice["index"]
        if index not in self._text_length:
            self._text_length[index] = 0
            first: dict[str, Any] = {"index": index, "finish_reason": None, "logprobs": None}
            first |= {"delta": self._first_delta} if self._task == "chat" else {"text": ""}
            self._send(first)
        if self._task == "chat":
            if choice["delta"].get("role") and not choice["finish_reason"]:
                return  # llama.cpp's own announcement, and every report of prefill
            self._send({"logprobs": None, **choice})
        elif choice["text"] or choice["finish_reason"]:
            logprobs = _legacy_logprobs(choice.get("logprobs"), self._text_length[index])
            self._text_length[index] += len(choice["text"])
            self._send({**choice, "logprobs": logprobs})

    def _send(self, choice: dict[str, Any]) -> None:
        if not self._cancelled and self._on_chunk({**self._frame, "choices": [choice]}):
            self._cancelled = True


def _parts(raw: object) -> Iterator[dict[str, Any]]:
    if isinstance(raw, dict):
        yield raw
    elif isinstance(raw, str | bytes):
        text = raw.decode() if isinstance(raw, bytes) else raw
        text = text.removeprefix("data:").strip()
        if text and text != "[DONE]":
            yield from _parts(json.loads(text))
    elif isinstance(raw, list | tuple):
        for item in raw:
            yield from _parts(item)


def _refusal(task: Task, error: object) -> Exception:
    if not isinstance(error, dict):
        return EngineError(f"the engine failed: {error}", status=500)
    if error.get("type") == "exceed_context_size_error":
        return too_long(task, error["n_prompt_tokens"], error["n_ctx"])
    status = error.get("code")
    return EngineError(
        f"the engine refused: {error.get('message', 'it gave no reason')}",
        status=status if isinstance(status, int) and 400 <= status < 600 else 500,
    )


def _legacy_logprobs(logprobs: dict[str, Any] | None, offset: int) -> dict[str, Any] | None:
    """Bring log-probabilities from the chat shape, which llama.cpp always uses, into that of completions."""
    if not logprobs or not logprobs.get("content"):
        return None
    tokens = logprobs["content"]
    offsets = [offset]
    for token in tokens[:-1]:
        offsets.append(offsets[-1] + len(token["token"]))
    return {
        "tokens": [token["token"] for token in tokens],
        "token_logprobs": [token["logprob"] for token in tokens],
        "top_logprobs": [
            {top["token"]: top["logprob"] for top in token.get("top_logprobs", ())} for token in tokens
        ],
        "text_offset": offsets,
    }
