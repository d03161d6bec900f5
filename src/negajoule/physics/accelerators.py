"""Accelerators by name, and what a number format means on them: rows of the catalogue, read once."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from negajoule.catalog import lookup, search
from negajoule.errors import CatalogError, ConfigError

__all__ = ["Accelerator", "accelerator_names", "format_bytes", "hardware_of", "number_format"]

_KEY = "hosted.accelerator"
_GENERATIONS = {
    "a100": "ampere",
    "h100": "hopper",
    "h200": "hopper",
    "b200": "blackwell",
    "gb200": "blackwell",
    "b300": "blackwell",
    "gb300": "blackwell",
}
_FORMATS = {
    "bfloat16": "bfloat16",
    "bf16": "bfloat16",
    "float16": "bfloat16",
    "fp16": "bfloat16",
    "fp8": "fp8",
    "int8": "fp8",
    "mxfp4": "mxfp4",
    "nvfp4": "mxfp4",
    "fp4": "mxfp4",
    "int4": "mxfp4",
}


class Accelerator(NamedTuple):
    """What the data sheet says of one accelerator.

    Attributes:
        name: as the catalogue writes it.
        generation: family of designs that behave alike; the name itself if it's of none that was measured.
        bandwidth: of its memory [B/s].
        compute_16bit: dense rate with 16-bit numbers [1/s].
        compute_8bit: the same with 8-bit numbers [1/s].
        power: rated power [W].
        memory: size of its memory [B].
    """

    name: str
    generation: str
    bandwidth: float
    compute_16bit: float
    compute_8bit: float
    power: float
    memory: float


@cache
def hardware_of(name: str) -> Accelerator:
    """The accelerator of a name such as ``H100`` or ``NVIDIA H100 80GB HBM3``.

    Raises:
        CatalogError: (F101) with the known names if there's none.
    """
    words = name.strip().lower().replace("_", "-").replace(" ", "-")
    known = accelerator_names()
    slug = next((slug for slug in known if slug in (words, words.replace("-", ""))), None)
    if slug is None:
        parts = set(words.split("-"))
        slug = next(
            (slug for slug in sorted(known, key=len, reverse=True) if set(slug.split("-")) <= parts), None
        )
    if slug is None:
        raise CatalogError(
            f"no data sheet is known for the accelerator {name!r}", fix=f"one of {', '.join(known)}"
        )
    bandwidth, compute_16bit, compute_8bit, power, memory = (
        lookup(f"{_KEY}.{slug}.{what}").si_interval()[0]
        for what in ("memory-bandwidth", "compute-16bit", "compute-8bit", "power", "memory")
    )
    generation = _GENERATIONS.get(slug.partition("-")[0], slug)
    return Accelerator(slug, generation, bandwidth, compute_16bit, compute_8bit, power, memory)


@cache
def accelerator_names() -> tuple[str, ...]:
    """Every accelerator of the catalogue, sorted."""
    ending = ".power"
    return tuple(
        sorted(
            fact.key.removeprefix(f"{_KEY}.").removesuffix(ending)
            for fact in search(_KEY)
            if fact.key.endswith(ending)
        )
    )


def number_format(name: str) -> str:
    """The measured format that stands for this one: ``bfloat16``, ``fp8`` or ``mxfp4``.

    Raises:
        ConfigError: (C101) if it's none of the known ones.
    """
    known = _FORMATS.get(name.lower())
    if known is None:
        raise ConfigError(f"precision {name!r} isn't known", fix=f"one of {', '.join(_FORMATS)}")
    return known


@cache
def format_bytes(name: str) -> float:
    """Bytes of one parameter in a number format [B].

    Raises:
        ConfigError: (C101) if the format isn't known.
    """
    return lookup(f"hosted.precision.{number_format(name)}.bytes").si_interval()[0]
