"""What is profiled: a model by name, file, folder or address, opened in all its formats."""

from __future__ import annotations

import time
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Self

from negajoule.engine import LlamaEngine, precision_sibling
from negajoule.engine.endpoint import EndpointEngine
from negajoule.engine.gguf import read_head
from negajoule.engine.packaged import PACKAGED_MODEL_ID
from negajoule.engine.siblings import PACKAGED_FORMAT, file_sha256
from negajoule.errors import ConfigError, EngineError
from negajoule.meter import MachineUsage, Meter, read_host
from negajoule.profile.measure import Gauge
from negajoule.profile.profile import EngineFacts, Machine, WeightsFacts
from negajoule.profile.prompts import TokenPrompts, WordPrompts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from negajoule.engine import Engine
    from negajoule.meter import Window
    from negajoule.profile.measure import Prompts
    from negajoule.profile.sweep import Sweep

__all__ = ["Target", "open_target"]

_IDLE_S = 2.0
_USUAL_FORMATS = ("F16", "Q8_0", "Q4_0")
_SERVER_STEP_TOKENS = 2048
"""Prompt tokens that a server computes in a step, presumably: vLLM's default."""

_KV_BYTES = 2  # llama.cpp keeps keys and values in F16
_BESIDE_BYTES = 150_000_000
"""Memory of an engine beside weights and context: its buffers and its code."""


class Target:
    """A model opened for measuring; closes its engines when left.

    Attributes:
        model: its name.
        engines: one engine for each format.
        weights: what is known of each format's file.
        facts: what is known of the engine.
        prompts: makes prompts that it takes.
        gauge: what is read at the edges of a phase.
        machine: where it runs.
        notes: what a reader of the profile must know.
    """

    def __init__(
        self,
        model: str,
        engines: Mapping[str, Engine],
        *,
        weights: Sequence[WeightsFacts],
        facts: EngineFacts,
        prompts: Prompts,
        meter: Meter | None,
        engine_here: bool,
        notes: Sequence[str] = (),
        parts: str = "",
    ) -> None:
        self.model = model
        self.engines = dict(engines)
        self.weights = tuple(weights)
        self.facts = facts
        self.prompts = prompts
        self.gauge = Gauge(meter, MachineUsage(), engine_here, parts)
        self.machine = _machine(meter)
        self.notes = tuple(notes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for engine in self.engines.values():
            engine.close()
        if self.gauge.meter is not None:
            self.gauge.meter.close()
        self.gauge.machine.close()

    def idle_window(self, seconds: float = _IDLE_S) -> Window | None:
        """What is drawn while nothing is asked; ``None`` if nothing can tell."""
        meter = self.gauge.meter
        if meter is None:
            return None
        first = meter.read()
        time.sleep(seconds)
        return meter.between(first, meter.read())


def open_target(
    model: str,
    sweep: Sweep,
    *,
    formats: Sequence[str] = (),
    threads: int | None = None,
    served_model: str | None = None,
    key: str | None = None,
    parts: str = "",
) -> Target:
    """Open what is to be profiled.

    Args:
        model: the packaged model's name, a GGUF file, a folder with a model of transformers, or a URL.
        sweep: what will be measured; decides slots and context.
        formats: number formats; by default F16, Q8_0 and Q4_0 of the packaged model, else the file's own.
        threads: of an engine here; by default what the engine takes.
        served_model: which of a server's models.
        key: a server's API key.
        parts: of a local server's machine, meter only parts named so: ``gpu``.

    Raises:
        EngineError: (E101) if the model is unknown or damaged, (E103, E104) if a server can't be asked.
        ConfigError: (C101) for unknown formats, (C112) if the formats don't fit in memory together.
    """
    if "://" in model:
        return _server(model, formats, served_model, key, parts)
    path = Path(model)
    if path.is_dir():
        return _folder(path, sweep, formats, threads)
    packaged = model.lower() == PACKAGED_MODEL_ID
    if not packaged and not path.is_file():
        raise EngineError(
            f"no model {model!r} is known here",
            code="E101",
            tried="the packaged model, a file, a folder",
            fix=f"{PACKAGED_MODEL_ID}, a GGUF file, a folder with config.json, or http://HOST:PORT/v1",
            status=404,
        )
    if packaged:
        names = [name.upper() for name in formats] or list(_USUAL_FORMATS)
        files = {name: precision_sibling(name) for name in names}
    else:
        own = read_head(path).quantisation or "unknown"
        names = [name.upper() for name in formats] or [own]
        files = {name: path if name == own else precision_sibling(name, source=path) for name in names}
    return _llama(PACKAGED_MODEL_ID if packaged else path.stem.lower(), files, sweep, threads)


def _llama(model: str, files: Mapping[str, Path], sweep: Sweep, threads: int | None) -> Target:
    weights = [_weights(format_, path) for format_, path in files.items()]
    slots, context = max(sweep.batches), sweep.context_tokens
    longest = min(read_head(path).context_tokens for path in files.values())
    if context > longest:
        raise ConfigError(
            f"a prompt of {max(sweep.prompts)} and an answer of {max(sweep.outputs)} tokens don't fit the "
            f"model's context of {longest}",
            fix="shorten --prompt or --output",
        )
    _require_memory(weights, slots * context)
    with ExitStack() as stack:
        engines: dict[str, LlamaEngine] = {}
        for format_, path in files.items():
            engines[format_] = LlamaEngine(
                path, slots=slots, slot_context_tokens=context, threads=threads, batch_threads=threads
            )
            stack.callback(engines[format_].close)
        first = next(iter(engines.values()))
        target = Target(
            model,
            engines,
            weights=weights,
            facts=EngineFacts(
                name=first.name,
                version=_version("xllamacpp"),
                slots=slots,
                threads=first.batch_threads,
                context_tokens=context,
                step_tokens=first.step_tokens,
                where="here",
            ),
            prompts=TokenPrompts(),
            meter=Meter.for_process(),
            engine_here=True,
            notes=_sibling_notes(model, files),
        )
        stack.pop_all()
    return target


def _server(
    url: str, formats: Sequence[str], served_model: str | None, key: str | None, parts: str
) -> Target:
    if len(formats) > 1:
        raise ConfigError(
            "a server has its weights in one format",
            fix="profile each server, and name the format in --formats",
        )
    engine = EndpointEngine(url, model=served_model, key=key)
    card = engine.models[0]
    format_ = formats[0] if formats else "served"
    facts = WeightsFacts(format=format_, sha256="", size_bytes=None, parameters=None, kv_bytes_per_token=None)
    return Target(
        card.id,
        {format_: engine},
        weights=[facts],
        facts=EngineFacts(
            name=engine.name,
            version="",
            slots=engine.slots,
            threads=None,
            context_tokens=card.context_tokens,
            step_tokens=_SERVER_STEP_TOKENS,
            where=engine.url,
        ),
        prompts=WordPrompts(),
        meter=Meter.for_machine() if engine.is_local else None,
        engine_here=False,
        parts=parts,
        notes=(
            ("energy is that of the whole machine, which serves the model",)
            if engine.is_local
            else ("the server runs elsewhere: times hold the network, and no energy is known",)
        ),
    )


def _folder(path: Path, sweep: Sweep, formats: Sequence[str], threads: int | None) -> Target:
    from negajoule.engine.transformers import TransformersEngine

    names = [name.lower() for name in formats] or ["float32"]
    with ExitStack() as stack:
        engines: dict[str, TransformersEngine] = {}
        for name in names:
            engines[name] = TransformersEngine(
                path, number_format=name, slots=max(sweep.batches), threads=threads
            )
            stack.callback(engines[name].close)
        first = next(iter(engines.values()))
        target = Target(
            path.name,
            engines,
            weights=[
                WeightsFacts(
                    format=name,
                    sha256="",
                    size_bytes=engine.weight_bytes,
                    parameters=engine.models[0].parameters,
                    kv_bytes_per_token=None,
                )
                for name, engine in engines.items()
            ],
            facts=EngineFacts(
                name=first.name,
                version=_version("transformers"),
                slots=first.slots,
                threads=first.threads,
                context_tokens=first.models[0].context_tokens,
                step_tokens=first.models[0].context_tokens * first.slots,
                where="here",
            ),
            prompts=TokenPrompts(),
            meter=Meter.for_process(),
            engine_here=True,
            notes=("static batches: requests that came together run in step and none joins later",),
        )
        stack.pop_all()
    return target


def _weights(format_: str, path: Path) -> WeightsFacts:
    head = read_head(path)
    kept = head.kv_values_per_token
    return WeightsFacts(
        format=format_,
        sha256=file_sha256(path),
        size_bytes=path.stat().st_size,
        parameters=head.parameters,
        kv_bytes_per_token=None if kept is None else kept * _KV_BYTES,
    )


def _require_memory(weights: Sequence[WeightsFacts], context_tokens: int) -> None:
    import psutil

    needed = sum(
        (one.size_bytes or 0) + (one.kv_bytes_per_token or 0) * context_tokens + _BESIDE_BYTES
        for one in weights
    )
    free = psutil.virtual_memory().available
    if needed > free:
        raise ConfigError(
            f"{len(weights)} formats with a context of {context_tokens} tokens take {needed / 1e9:.1f} GB, "
            f"{free / 1e9:.1f} GB of memory are free",
            code="C112",
            fix="fewer --formats, a smaller --batch or a shorter --prompt",
        )


def _sibling_notes(model: str, files: Mapping[str, Path]) -> tuple[str, ...]:
    made = [name for name in files if name != PACKAGED_FORMAT]
    if model != PACKAGED_MODEL_ID or not made:
        return ()
    return (f"made here of the packaged {PACKAGED_FORMAT} file: {', '.join(made)}",)


def _machine(meter: Meter | None) -> Machine:
    host = read_host() if meter is None else meter.host
    return Machine(
        host_id=host.host_id,
        cpu=host.cpu,
        threads=host.threads,
        memory_bytes=host.memory_bytes,
        virtual=host.virtual,
        devices=() if meter is None else tuple(sorted(meter.probes.components)),
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
