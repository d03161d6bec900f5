"""From the name a processor gives itself to the rows that describe it.

Virtual machines often hide the model (``AMD EPYC``) but pass on the family and model numbers of CPUID, which
tell the generation. The numbers are those of the Linux kernel's x86 headers.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from negajoule.catalog.shelf import default_catalog
from negajoule.errors import CatalogError

if TYPE_CHECKING:
    from negajoule.catalog.fact import Fact

__all__ = ["architecture_of", "core_power", "cpu_tdp", "gpu_tdp", "slug"]

_EPYC_BY_NAME = {
    "naples": "epyc-1",
    "rome": "epyc-2",
    "milan": "epyc-3",
    "genoa": "epyc-4",
    "turin": "epyc-5",
}
_XEON_BY_VERSION = {"2": "ivy-bridge", "3": "haswell", "4": "broadwell"}
_XEON_BY_DIGIT = {
    "1": "skylake",
    "2": "cascade-lake",
    "3": "ice-lake",
    "4": "sapphire-rapids",
    "5": "emerald-rapids",
}
_BY_CPUID: dict[tuple[int, int], str] = {
    (23, 1): "epyc-1",
    (23, 49): "epyc-2",
    (25, 1): "epyc-3",
    (25, 17): "epyc-4",
    (25, 160): "epyc-4",
    (26, 2): "epyc-5",
    (26, 17): "epyc-5",
    (6, 45): "sandy-bridge",
    (6, 62): "ivy-bridge",
    (6, 63): "haswell",
    (6, 79): "broadwell",
    (6, 106): "ice-lake",
    (6, 143): "sapphire-rapids",
    (6, 173): "granite-rapids",
    (6, 175): "sierra-forest",
    (6, 207): "emerald-rapids",
}
_MARKS = re.compile(r"\((?:r|tm|c)\)|®|™|©")
_GENERATION = re.compile(r"^\s*\d+(?:st|nd|rd|th) gen\b")
_TAIL = re.compile(r"@.*|\bprocessor\b.*|\b(?:\w+|\d+)-cores?\b.*|\bwith radeon\b.*")
_DESKTOP = re.compile(
    r"core-(?:i[3579]|ultra-[3579])-\d{3,5}(?:k|kf|ks|f|t|s|x|xe)?$|ryzen-[3579]-(?:pro-)?\d{4}(?:x|xt|x3d|g|ge|f)?$"
)
_OTHER_PRODUCT = frozenset(
    {"ti", "super", "laptop", "mobile", "maxq", "ada", "pcie", "nvl", "d", "xt", "xtx"}
)


def slug(name: str) -> str:
    """A processor's name as it stands in keys: ``AMD EPYC 9654 96-Core Processor`` is ``amd-epyc-9654``."""
    text = _TAIL.sub("", _GENERATION.sub("", _MARKS.sub("", name.lower())))
    words = [word for word in re.split(r"[^a-z0-9+]+", text) if word not in ("", "cpu")]
    if words[-1:] == ["0"]:  # the first Xeon E5 call themselves "E5-2660 0"
        words.pop()
    return "-".join(words)


def architecture_of(name: str, *, family: int | None = None, model: int | None = None) -> str | None:
    """The architecture of a processor, as it stands in ``cpu.architecture.*``.

    Args:
        name: the name the processor gives itself, e.g. ``model name`` of ``/proc/cpuinfo``.
        family: CPU family by CPUID, if it's known; counts only where the name hides the model.
        model: model by CPUID, likewise.

    Returns:
        e.g. ``epyc-4``; ``epyc`` or ``xeon`` where only that much is clear; ``desktop`` for the few fast
        cores of desktops, sold as Xeon E and EPYC 4000 too; ``None`` for all others, laptops among them.
    """
    text = slug(name)
    numbered = None if family is None or model is None else _BY_CPUID.get((family, model))
    if "epyc" in text:
        return _epyc(text, numbered)
    if "xeon" in text:
        return _xeon(text, numbered)
    if "altra" in text or "neoverse-n1" in text:
        return "ampere-altra"
    return "desktop" if _DESKTOP.search(text) else None


def core_power(name: str, *, family: int | None = None, model: int | None = None) -> tuple[Fact, Fact]:
    """Power of a busy core above idle, and a core's share of the idle server without memory [W/core].

    Args:
        name: the name the processor gives itself; may be empty.
        family: CPU family by CPUID, if it's known.
        model: model by CPUID, if it's known.

    Returns:
        The rows of its architecture if there are any, else those of all servers; ``Fact.key`` tells which.
        Where the name gives model and number of cores, the upper end of the first is at least TDP / cores:
        parts with few cores give each of them more than is usual for their architecture.

    Raises:
        CatalogError: (F102) if a row is malformed.
    """
    found = architecture_of(name, family=family, model=model)
    starts = ([f"cpu.architecture.{found}.core"] if found else []) + ["cpu.core"]
    shelf = default_catalog()
    active = shelf.first_of(f"{start}.active_power" for start in starts)
    idle = shelf.first_of(f"{start}.idle_power" for start in starts)
    return _up_to_tdp(active, name), idle


def cpu_tdp(name: str) -> Fact | None:
    """Thermal design power of a processor by its name [W per package]; ``None`` if the name isn't listed.

    Raises:
        CatalogError: (F102) if a row is malformed.
    """
    try:
        return default_catalog().first_of([f"cpu.tdp.{slug(name)}"])
    except CatalogError as error:
        if error.code != "F101":
            raise
        return None


def gpu_tdp(name: str) -> Fact | None:
    """Board power limit of an accelerator by the name its driver gives [W]; ``None`` if it isn't listed.

    All words of a row's name must stand in the given one, and the row with most words wins. A word that marks
    another product (``Laptop``, ``Ti``, ``PCIe``) and stands in only one of the two forbids the match.

    Raises:
        CatalogError: (F102) if a row is malformed.
    """
    given = _gpu_words(name)
    shelf = default_catalog()
    fitting = [
        (len(words), key)
        for key in shelf.keys("gpu.tdp.")
        if (words := _gpu_words(key.removeprefix("gpu.tdp."))) <= given
        and words & _OTHER_PRODUCT == given & _OTHER_PRODUCT
    ]
    return shelf.lookup(max(fitting)[1]) if fitting else None


def _up_to_tdp(active: Fact, name: str) -> Fact:
    cores = re.search(r"\b([1-9]\d{0,2})-core", name.lower())
    tdp = cpu_tdp(name) if cores else None
    if cores is None or tdp is None or tdp.value / int(cores[1]) <= active.high:
        return active
    per_core = tdp.value / int(cores[1])
    note = f"{active.note}; high: {tdp.key} / {cores[1]} cores"
    return msgspec.structs.replace(active, high=per_core, note=note)


def _epyc(text: str, numbered: str | None) -> str | None:
    part = re.search(r"epyc-[789][0-9a-z]{2}([1-5])", text)
    if part:
        return f"epyc-{part[1]}"
    if re.search(r"epyc-4\d{3}", text):
        return "desktop"
    if "embedded" in text:
        return None
    for word, generation in _EPYC_BY_NAME.items():
        if word in text:
            return generation
    return numbered or "epyc"


def _xeon(text: str, numbered: str | None) -> str | None:
    if re.search(r"xeon-(e-e-|e-|e3-)\d{4}|xeon-63\d\dp", text):
        return "desktop"
    old = re.search(r"xeon-e[57]-\d{4}[a-z]*(?:-v([234]))?$", text)
    if old:
        return _XEON_BY_VERSION[old[1]] if old[1] else "sandy-bridge"
    six = re.search(r"xeon-(?:6-|gold-)?6[579]\d\d([ep])", text)
    if six:
        return "sierra-forest" if six[1] == "e" else "granite-rapids"
    scalable = re.search(r"xeon-(?:platinum-|gold-|silver-|bronze-)[3-9]([1-5])\d\d([a-z]*)", text)
    scalable = scalable or re.search(r"xeon-8([1-5])\d\d([a-z]*)", text)
    if scalable:
        cooper = scalable[1] == "3" and scalable[2] in ("h", "hl")
        return "cooper-lake" if cooper else _XEON_BY_DIGIT[scalable[1]]
    return numbered or (None if re.search(r"\d{3}", text) else "xeon")


def _gpu_words(name: str) -> frozenset[str]:
    text = _MARKS.sub("", name.lower()).replace("max-q", "maxq")
    return frozenset(re.split(r"[^a-z0-9]+", text)) - {""}
