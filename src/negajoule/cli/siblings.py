"""The packaged model in several number formats, each an engine of its own, loaded when it is asked."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from negajoule.config import Settings
    from negajoule.engine import Engine
    from negajoule.gateway.several import Loadable

__all__ = ["free_bytes", "siblings"]

_FORMATS = ("F16", "Q8_0", "Q4_0")
_WORKING_BYTES = 768 * 2**20
"""What an engine takes beside its weights: caches of prompts and attention; a choice, not a measurement."""


def siblings(settings: Settings, *, fake: bool) -> Mapping[str, Loadable]:
    """The engines by their models' names, widest format first; files that lack are made now.

    Raises:
        ConfigError: (C106) if a file can't be written.
        EngineError: (E101) if the packaged model is absent.
        ExtraMissingError: (X101) without ``gguf``, if a file must be made.
    """
    from negajoule.engine import precision_sibling
    from negajoule.engine.packaged import PACKAGED_MODEL_ID
    from negajoule.gateway.several import Loadable

    found: dict[str, Loadable] = {}
    for format_ in _FORMATS:
        name = f"{PACKAGED_MODEL_ID}-{format_.lower()}"
        if fake:
            found[name] = Loadable(partial(_fake, name, settings["slots"]), 0)
        else:
            path = precision_sibling(format_)
            needs = path.stat().st_size + _WORKING_BYTES
            found[name] = Loadable(partial(_real, str(path), settings["slots"]), needs)
    return found


def free_bytes() -> int | None:
    """Memory that can be taken without swapping [B]; ``None`` where the kernel doesn't tell."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:  # noqa: PTH123 (no path of ours)
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        return None
    return None


def _fake(name: str, slots: int) -> Engine:
    from negajoule.engine import FakeEngine

    return FakeEngine(model_id=name, slots=slots)


def _real(path: str, slots: int) -> Engine:
    from negajoule.engine import LlamaEngine

    return LlamaEngine(path, slots=slots)
