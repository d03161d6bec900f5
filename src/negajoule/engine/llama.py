"""The real engine: a GGUF model on llama.cpp, in this process, with continuous batching.

The wheel's server object opens a listener of its own. It can't be told not to, so it gets a socket file in a
private folder, a random key nobody knows, and the file is removed as soon as the model is loaded: nothing can
connect, and no port is taken.
"""

from __future__ import annotations

import atexit
import secrets
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from negajoule.engine.cores import usable_cores
from negajoule.engine.gguf import WeightsHead, read_head
from negajoule.engine.packaged import PACKAGED_MODEL_ID, packaged_model, packaged_source
from negajoule.engine.protocol import ModelCard, Progress, Result, Task
from negajoule.engine.request import check, too_long
from negajoule.engine.stream import Stream
from negajoule.errors import ConfigError, EngineError, RequestError
from negajoule.extras import require

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["LlamaEngine"]

_PREFILL_STEP_TOKENS = 128
"""Prompt tokens computed at a time: how often a long prefill reports, can be ended and lets others decode."""

_PROMPT_CACHE_MIB = 256
"""Memory for prompts whose slot went to someone else [MiB]; the library would take up to 8 GiB."""

_CLOSE_WITHIN_S = 60.0


class LlamaEngine:
    """Serves one GGUF model.

    Attributes:
        name: "llama.cpp".
        models: its one card.
        slots: how many requests share the batch.
        threads: threads at work while one request decodes alone.
        batch_threads: threads at work on prompts, and on the tokens of several requests together.
        step_tokens: prompt tokens computed in a step.
    """

    name = "llama.cpp"
    step_tokens = _PREFILL_STEP_TOKENS

    def __init__(
        self,
        model_path: Path | str | None = None,
        *,
        slots: int = 8,
        slot_context_tokens: int = 2048,
        threads: int | None = None,
        batch_threads: int | None = None,
    ) -> None:
        """Load a model; takes about a second.

        Args:
            model_path: a GGUF file; ``None`` takes the packaged SmolLM2-135M-Instruct.
            slots: requests that run at once; each has memory of its own.
            slot_context_tokens: longest prompt and answer together, of one request.
            threads: for one request that decodes alone; ``None`` takes all usable cores but one.
            batch_threads: for prompts and for several requests together; ``None`` likewise.

        Raises:
            EngineError: E101 if the model is absent or no GGUF file, E102 if llama.cpp can't load it.
            ConfigError: C101 if a number is out of range.
            ExtraMissingError: X101 if the wheel isn't installed.
        """
        path = packaged_model() if model_path is None else Path(model_path)
        head = read_head(path)
        self.slots = _at_least_one("slots", slots)
        # its threads spin while they wait for each other: one core stays free for the rest of the machine
        spare = max(1, usable_cores() - 1)
        self.threads = _at_least_one("threads", spare if threads is None else threads)
        self.batch_threads = _at_least_one("batch_threads", spare if batch_threads is None else batch_threads)
        if not 1 <= slot_context_tokens <= head.context_tokens:
            raise ConfigError(
                f"slot_context_tokens is {slot_context_tokens}; the model holds 1 to {head.context_tokens}"
            )
        packaged = model_path is None
        self.models = (
            ModelCard(
                id=PACKAGED_MODEL_ID if packaged else path.stem.lower(),
                context_tokens=slot_context_tokens,
                parameters=head.parameters,
                quantisation=head.quantisation,
                licence=head.licence,
                source=packaged_source(path) if packaged else str(path),
            ),
        )
        self._reads_tools = "tools" in (head.chat_template or "")
        self._running = 0
        self._closing = False
        self._idle = threading.Condition()
        self._server: Any = self._load(path, head)
        atexit.register(
            self.close
        )  # a thread inside llama.cpp while the interpreter ends would abort the process

    def run(
        self,
        task: Task,
        body: Mapping[str, Any],
        on_chunk: Callable[[dict[str, Any]], bool],
        on_progress: Callable[[Progress], bool | None] | None = None,
    ) -> Result:
        """See ``Engine.run``."""
        request = check(task, body, choices_at_most=self.slots)
        self._check_for_this_model(task, request)
        stream = Stream(
            task,
            self.models[0].id,
            on_chunk,
            on_progress,
            choices_per_prompt=request.get("n", 1),
            tools="tools" in request,
            stopping=lambda: self._closing,
        )
        request |= {
            "stream": True,
            "stream_options": {"include_usage": True},
            "return_progress": True,
            "timings_per_token": True,
        }
        with self._idle:
            if self._closing:
                raise EngineError("the engine is closed", status=503)
            self._running += 1
        try:
            handle = (
                self._server.handle_chat_completions if task == "chat" else self._server.handle_completions
            )
            stream.take(handle(request, stream.take))
        except (RuntimeError, ValueError) as error:  # raised before any work, about the request
            raise EngineError(f"the engine refused: {error}", status=400) from error
        finally:
            with self._idle:
                self._running -= 1
                self._idle.notify_all()
        return stream.result()

    def close(self) -> None:
        """End what runs, at its next token, and free the model; see ``Engine.close``."""
        atexit.unregister(self.close)
        with self._idle:
            self._closing = True
            self._idle.wait_for(lambda: self._running == 0, _CLOSE_WITHIN_S)
            self._server = None

    def _load(self, path: Path, head: WeightsHead) -> Any:  # noqa: ANN401 (untyped wheel)
        if head.embedding:
            raise EngineError(f"{path.name} is an embedding model; it can't write", code="E101", status=500)
        try:
            xllamacpp = require("xllamacpp", extra="engine", purpose="run a model here")
        except ImportError as error:
            if type(error) is not ImportError:
                raise
            raise EngineError(
                f"the llama.cpp wheel can't be loaded: {error}",
                fix="on Debian: apt install libgomp1",
                status=500,
            ) from error
        card = self.models[0]
        with tempfile.TemporaryDirectory(prefix="negajoule-") as folder:
            params = xllamacpp.CommonParams()
            params.model.path = str(path)
            params.n_parallel = self.slots
            params.n_ctx = card.context_tokens * self.slots  # shared out evenly among the slots
            params.n_batch = params.n_ubatch = _PREFILL_STEP_TOKENS
            params.cpuparams.n_threads = self.threads
            params.cpuparams_batch.n_threads = self.batch_threads
            params.cache_ram_mib = _PROMPT_CACHE_MIB
            params.fit_params = False  # or it would shrink the context in silence
            params.verbosity = -1
            params.hostnames = [str(Path(folder) / "closed.sock")]
            params.api_keys = [secrets.token_urlsafe(32)]
            params.ui = False
            params.endpoint_slots = False
            try:
                return xllamacpp.Server(params)
            except RuntimeError as error:
                raise EngineError(
                    f"llama.cpp can't load {path.name}: {error}",
                    fix="check that the file is whole and that there is enough free memory",
                    status=500,
                ) from error

    def _check_for_this_model(self, task: Task, request: dict[str, Any]) -> None:
        card = self.models[0]
        if len(request.get("messages", ())) > card.context_tokens:  # each takes a token or more
            raise too_long(task, len(request["messages"]), card.context_tokens, at_least=True)
        if request.get("tool_choice") == "none":
            request.pop("tools", None)
        if "tools" in request and not self._reads_tools:
            raise RequestError(
                f"the model {card.id!r} can't call tools: its chat template has none", param="tools"
            )


def _at_least_one(name: str, value: int) -> int:
    if value < 1:
        raise ConfigError(f"{name} is {value}; it must be at least 1")
    return value
