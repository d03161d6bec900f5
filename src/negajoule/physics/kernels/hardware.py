"""What the data sheet says of an accelerator, by the number format that it computes with."""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

from negajoule.catalog import lookup
from negajoule.errors import CatalogError
from negajoule.physics.accelerators import format_bytes, hardware_of, number_format

__all__ = ["Hardware", "family", "hardware", "is_stored"]

_STORED = re.compile(r"_wo$|a16")  # weights are stored narrow and computed in 16 bits
_FOUR = re.compile(r"(?:fp|int|w)4")
_EIGHT = re.compile(r"(?:fp|int|w)8|float8")


class Hardware(NamedTuple):
    """Rates of one accelerator.

    Attributes:
        name: as the catalogue writes it.
        generation: family of designs that behave alike.
        bandwidth: of its memory [B/s].
        compute_16bit: dense rate with 16-bit numbers [1/s].
        compute_8bit: with 8-bit numbers [1/s].
        compute_4bit: with 4-bit numbers; that of 8-bit numbers where there's no faster one [1/s].
        power: rated power [W].
        memory: size of its memory [B].
        link: to each of the others in its node, one direction; None if unknown [B/s].
    """

    name: str
    generation: str
    bandwidth: float
    compute_16bit: float
    compute_8bit: float
    compute_4bit: float
    power: float
    memory: float
    link: float | None

    def rate(self, number_format: str) -> float:
        """Dense rate in a number format; weights that are stored only (``_wo``) compute in 16 bit [1/s]."""
        if is_stored(number_format):
            return self.compute_16bit
        kind = family(number_format)
        return {"bfloat16": self.compute_16bit, "fp8": self.compute_8bit}.get(kind, self.compute_4bit)

    def number_bytes(self, number_format: str) -> float:
        """Bytes of one weight [B]."""
        return format_bytes(family(number_format))


@cache
def family(name: str) -> str:
    """The measured width of a kernel's format: ``fp8`` of ``fp8_block``, ``mxfp4`` of ``w4a16_mxfp4``.

    Raises:
        ConfigError: (C101) if the format isn't known.
    """
    words = name.lower()
    if _FOUR.search(words):
        return "mxfp4"
    if _EIGHT.search(words):
        return "fp8"
    return number_format(words)


def is_stored(name: str) -> bool:
    """Whether weights of this format are only stored in it, and computed in 16 bits."""
    return bool(_STORED.search(name.lower()))


@cache
def hardware(name: str) -> Hardware:
    """The accelerator of a name such as ``H200``, ``h200_sxm`` or ``NVIDIA GB200``.

    Raises:
        CatalogError: (F101) with the known names if there's none.
    """
    found = hardware_of(name)
    four = _fact(f"hosted.accelerator.{found.name}.compute-4bit")
    link = _fact(f"hosted.accelerator.{found.name}.link-bandwidth")
    return Hardware(
        found.name, found.generation, found.bandwidth, found.compute_16bit, found.compute_8bit,
        four or found.compute_8bit, found.power, found.memory, link,
    )  # fmt: skip


def _fact(key: str) -> float | None:
    try:
        return lookup(key).si_interval()[0]
    except CatalogError:
        return None
