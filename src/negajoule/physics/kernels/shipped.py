"""The fitted laws that come with the package, and which of them stands in for what wasn't measured."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from negajoule.errors import ConfigError
from negajoule.physics.kernels.hardware import family

if TYPE_CHECKING:
    from negajoule.physics.kernels.hardware import Hardware

__all__ = ["Found", "Laws", "shipped_laws"]

_FILE = Path(__file__).with_name("kernel_laws.json")
_WIDER = {"mxfp4": ("mxfp4", "fp8", "bfloat16"), "fp8": ("fp8", "bfloat16"), "bfloat16": ("bfloat16",)}
_BLOCK = "_block"
_OLDER = ("hopper", "blackwell")  # whose law stands in for a generation that wasn't measured, in this order


class Found(NamedTuple):
    """A law's row, and what it was fitted on."""

    row: dict[str, Any]
    accelerator: str
    number_format: str


class Laws:
    """The file of laws.

    Attributes:
        source: where the measurements come from, and under which licence.
        data: SHA-256 of each table.
        accelerators: generation of each measured accelerator.
        laws: by accelerator, operator and number format.
    """

    def __init__(self, content: dict[str, Any]) -> None:
        self.source: str = content["source"]
        self.data: dict[str, str] = content["data"]
        self.accelerators: dict[str, str] = content["accelerators"]
        self.laws: dict[str, dict[str, dict[str, Any]]] = content["laws"]

    def nearest(self, on: Hardware, operator: str, number_format: str) -> Found:
        """The law of this accelerator and format, or what stands in for it.

        A kernel that scales blocks of numbers waits for its host on small shapes, so it only stands in for
        its like; of the others the nearest format that isn't narrower does, with the bytes and rate of
        the one asked for.

        Raises:
            ConfigError: (C101) if the format isn't known or nothing can stand in for it.
        """
        wanted = (on.generation, *_OLDER)
        order = sorted(
            self.accelerators,
            key=lambda name: (name != on.name, wanted.index(self.accelerators[name])),
        )
        for name in order:
            measured = self.laws[name].get(operator, {})
            if number_format in measured:
                return Found(measured[number_format], name, number_format)
        for width in _WIDER[family(number_format)]:
            for name in order:
                measured = self.laws[name].get(operator, {})
                for other in sorted(measured):
                    if family(other) == width and not other.endswith(_BLOCK):
                        return Found(measured[other], name, other)
        raise ConfigError(f"no measured kernel stands in for {operator} in {number_format}")


@cache
def shipped_laws() -> Laws:
    """The laws of this version."""
    return Laws(json.loads(_FILE.read_text(encoding="utf-8")))
