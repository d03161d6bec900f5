"""A model of Hugging Face transformers in this process, in static batches: for measuring, not for serving.

Requests that wait together run in step, padded on the left to the longest prompt, and none joins on the way.
A request that has enough drops out of the batch's reports but stays in its computation until all have enough:
so do static batches everywhere, and a profile shows what that costs.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

from negajoule.engine.protocol import ModelCard, Progress, Result, Task, Timings
from negajoule.engine.request import check, too_long
from negajoule.errors import ConfigError, EngineError
from negajoule.extras import require

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

__all__ = ["TransformersEngine"]

_FORMATS = ("float32", "bfloat16", "float16")
_GATHER_S = 0.02
"""How long the first request of a batch waits for others."""


class _Job(NamedTuple):
    """A request and where its progress goes: token ids, then ``None`` or an error."""

    prompt: list[int]
    length: int
    stops_at_end: bool
    out: queue.SimpleQueue[int | BaseException | None]


class TransformersEngine:
    """Serves one folder with a causal language model.

    Attributes:
        name: "transformers".
        models: its one card.
        slots: requests in a batch.
        threads: threads of torch; ``None`` for its own choice.
        weight_bytes: memory of the weights [B].
    """

    name = "transformers"

    def __init__(
        self, folder: Path, *, number_format: str = "float32", slots: int = 8, threads: int | None = None
    ) -> None:
        """Load a model.

        Args:
            folder: with ``config.json`` and weights.
            number_format: float32, bfloat16 or float16.
            slots: requests in a batch.
            threads: of torch, for the whole process.

        Raises:
            ConfigError: (C101) for another format.
            EngineError: (E101) if there's no such model.
            ExtraMissingError: (X101) without torch or transformers.
        """
        if number_format not in _FORMATS:
            raise ConfigError(
                f"transformers can't run the format {number_format!r} here", fix=f"use {', '.join(_FORMATS)}"
            )
        purpose = "run a model of transformers"
        self._torch = require("torch", extra="compress", purpose=purpose)
        library = require("transformers", extra="compress", purpose=purpose)
        if threads is not None:
            self._torch.set_num_threads(threads)
        try:
            self._model = library.AutoModelForCausalLM.from_pretrained(
                folder, dtype=getattr(self._torch, number_format), local_files_only=True
            ).eval()
        except (OSError, ValueError, KeyError) as error:
            raise EngineError(
                f"{folder} holds no causal language model that transformers can load: {error}", code="E101"
            ) from None
        try:
            self._tokenizer = library.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, KeyError):
            self._tokenizer = None  # token ids can still be sent
        config = self._model.config
        self.slots, self.threads = slots, threads
        weights = list(self._model.parameters())
        self.weight_bytes = sum(weight.numel() * weight.element_size() for weight in weights)
        self.models = (
            ModelCard(
                id=folder.name.lower(),
                context_tokens=int(getattr(config, "max_position_embeddings", None) or 2048),
                parameters=sum(weight.numel() for weight in weights),
                quantisation=number_format,
                licence=None,
                source=str(folder),
            ),
        )
        self._vocabulary = int(config.vocab_size)
        end = getattr(config, "eos_token_id", None)
        self._ends = {end} if isinstance(end, int) else set(end or ())
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._worker = threading.Thread(target=self._work, name="negajoule-transformers", daemon=True)
        self._worker.start()

    def run(
        self,
        task: Task,
        body: Mapping[str, Any],
        on_chunk: Callable[[dict[str, Any]], bool],
        on_progress: Callable[[Progress], bool | None] | None = None,
    ) -> Result:
        """See ``Engine.run``; greedy, one choice, prompts are computed anew each time."""
        request = check(task, body, choices_at_most=1)
        prompt = self._prompt(task, request)
        card = self.models[0]
        if len(prompt) >= card.context_tokens:
            raise too_long(task, len(prompt), card.context_tokens)
        if self._closed.is_set():
            raise EngineError("the engine is closed", status=503)
        room = card.context_tokens - len(prompt)
        job = _Job(
            prompt,
            min(room, request.get("max_tokens", room)),
            not request.get("ignore_eos", False),
            queue.SimpleQueue(),
        )
        begin_s = first_s = time.perf_counter()
        self._jobs.put(job)
        frame = {"id": f"cmpl-{uuid4().hex}", "created": int(time.time()), "model": card.id}
        made, cancelled = 0, False
        while (item := job.out.get()) is not None:
            if isinstance(item, BaseException):
                raise EngineError(f"transformers failed: {item}", status=500) from item
            if cancelled:
                continue
            if made == 0:
                first_s = time.perf_counter()
                if on_progress is not None:
                    cancelled = bool(on_progress(Progress("prefill", len(prompt))))
            made += 1
            if on_progress is not None:
                cancelled = bool(on_progress(Progress("decode", 1))) or cancelled
            cancelled = bool(on_chunk(_chunk(task, frame, self._text(item), None))) or cancelled
        if not cancelled:
            on_chunk(_chunk(task, frame, "", "length" if made >= job.length else "stop"))
        return Result(
            timings=Timings(0, len(prompt), first_s - begin_s, made, time.perf_counter() - first_s),
            usage={
                "prompt_tokens": len(prompt),
                "completion_tokens": made,
                "total_tokens": len(prompt) + made,
            },
            cancelled=cancelled,
        )

    def close(self) -> None:
        """End after the running batch."""
        if not self._closed.is_set():
            self._closed.set()
            self._jobs.put(None)
            self._worker.join(timeout=60.0)

    def _prompt(self, task: Task, request: dict[str, Any]) -> list[int]:
        prompt = request.get("prompt")
        if task == "completion" and isinstance(prompt, list) and all(isinstance(one, int) for one in prompt):
            return [token % self._vocabulary for token in prompt]
        if self._tokenizer is None:
            raise EngineError("the folder holds no tokenizer, so prompts must be token ids", status=400)
        if task == "chat":
            ids = self._tokenizer.apply_chat_template(
                request["messages"], add_generation_prompt=True, return_dict=True
            )["input_ids"]
        else:
            ids = self._tokenizer(prompt)["input_ids"]
        return [int(one) for one in ids]

    def _text(self, token: int) -> str:
        return f" {token}" if self._tokenizer is None else str(self._tokenizer.decode([token]))

    def _work(self) -> None:
        while (first := self._jobs.get()) is not None:
            batch = [first]
            deadline_s = time.monotonic() + _GATHER_S
            last = False
            while len(batch) < self.slots and not last:
                try:
                    job = self._jobs.get(timeout=max(deadline_s - time.monotonic(), 0.001))
                except queue.Empty:
                    break
                last = job is None
                if job is not None:
                    batch.append(job)
            try:
                with self._torch.inference_mode():
                    self._generate(batch)
                for job in batch:
                    job.out.put(None)
            except Exception as error:
                for job in batch:
                    job.out.put(error)
            if last:
                return

    def _generate(self, batch: list[_Job]) -> None:
        torch = self._torch
        width = max(len(job.prompt) for job in batch)
        padding = [width - len(job.prompt) for job in batch]
        ids = torch.tensor([[0] * pad + job.prompt for pad, job in zip(padding, batch, strict=True)])
        mask = torch.tensor([[0] * pad + [1] * (width - pad) for pad in padding])
        kept: Any = None
        open_ = dict(enumerate(batch))
        counts = [0] * len(batch)
        while open_ and not self._closed.is_set():
            positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
            out = self._model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=kept,
                use_cache=True,
                logits_to_keep=1,
            )
            kept = out.past_key_values
            ids = out.logits[:, -1:].argmax(-1)
            mask = torch.cat([mask, torch.ones_like(ids)], dim=1)
            for number, job in list(open_.items()):
                token = int(ids[number, 0])
                counts[number] += 1
                job.out.put(token)
                if counts[number] >= job.length or (job.stops_at_end and token in self._ends):
                    del open_[number]


def _chunk(task: Task, frame: Mapping[str, Any], text: str, finish: str | None) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0, "finish_reason": finish, "logprobs": None}
    if task == "chat":
        choice["delta"] = {"content": text} if finish is None else {}
        return {**frame, "object": "chat.completion.chunk", "choices": [choice]}
    return {**frame, "object": "text_completion", "choices": [{**choice, "text": text}]}
