"""Weights that are stored narrow and widened in eager kernels: bitsandbytes NF4 and LLM.int8(), torchao FP8.

Each multiplication first widens its weights, by kernels of their own. At one request at a time that costs
more than reading fewer bytes saves, up to a size of the model that depends on board and software. Rows
(``eager_measured.csv``: NVML, transformers, batch 1; hongping-zh/quant-energy, CC BY 4.0) are fitted by

    log(energy / energy in FP16) = a + b x log(parameters) + session + what is left

where a session is a board and its software, drawn towards their mean as far as sessions differ.
"""

from __future__ import annotations

import csv
from functools import cache
from math import exp, hypot, log, sqrt
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from negajoule.advise.effect import Span
from negajoule.catalog import lookup
from negajoule.errors import ConfigError

__all__ = ["EagerLaw", "EagerRow", "board_of", "eager_law", "eager_ratio", "eager_rows"]

_FILE = Path(__file__).with_name("eager_measured.csv")
_WIDE = 1.645  # half-width of a 90 % interval in standard deviations
_ENOUGH = 4  # sessions that tell how far sessions differ
_OUTSIDE = 2.0  # the factor beyond the measured range at which an answer is refused
_ALIKE = {"a100": "a800", "a100 40gb": "a800"}  # boards with the same processor


class EagerRow(NamedTuple):
    """One measured pair.

    Attributes:
        accelerator: the board.
        session: when, with which software.
        model: what ran.
        parameters: of it [billion].
        method: ``nf4``, ``int8`` or ``fp8-torchao``.
        ratio: energy of a token over that in FP16.
    """

    accelerator: str
    session: str
    model: str
    parameters: float
    method: str
    ratio: float


class EagerLaw(NamedTuple):
    """The fitted law of a method.

    Attributes:
        middle: logarithm of the ratio at a billion parameters.
        slope: by the logarithm of the parameters.
        sessions: how far each differs, drawn towards 0.
        between: standard deviation between sessions.
        within: standard deviation of what is left.
        smallest: model measured [billion parameters].
        largest: model measured [billion parameters].
    """

    middle: float
    slope: float
    sessions: dict[tuple[str, str], float]
    between: float
    within: float
    smallest: float
    largest: float

    @property
    def between_new(self) -> float:
        """Standard deviation of a further session, the mean of the others being uncertain itself."""
        return self.between * sqrt(1.0 + 1.0 / len(self.sessions))

    def crossover(self, session: tuple[str, str] | None = None) -> float:
        """Parameters at which it costs as much as FP16, by the law [billion]."""
        offset = self.sessions[session] if session else 0.0
        return exp(-(self.middle + offset) / self.slope)


@cache
def eager_rows() -> tuple[EagerRow, ...]:
    """The measured rows."""
    with _FILE.open(encoding="utf-8", newline="") as lines:
        return tuple(
            EagerRow(
                row["accelerator"], row["session"], row["model"], float(row["billion_parameters"]),
                row["method"], float(row["ratio"]),
            )
            for row in csv.DictReader(lines)
        )  # fmt: skip


@cache
def eager_law(method: str, leave_out: str | None = None) -> EagerLaw:
    """The law of a method, by all rows or by those of other boards.

    Raises:
        ConfigError: (C101) for a method without rows.
    """
    rows = [row for row in eager_rows() if row.method == method and row.accelerator != leave_out]
    if not rows:
        known = ", ".join(sorted({row.method for row in eager_rows()}))
        raise ConfigError(f"nothing was measured of {method!r}", fix=f"one of {known}")
    groups: dict[tuple[str, str], list[EagerRow]] = {}
    for row in rows:
        groups.setdefault((row.accelerator, row.session), []).append(row)
    # The slope within sessions, so that boards with large models don't bend it.
    pairs = [
        (log(row.parameters) - fmean(log(other.parameters) for other in group),
         log(row.ratio) - fmean(log(other.ratio) for other in group))
        for group in groups.values() for row in group
    ]  # fmt: skip
    slope = sum(x * y for x, y in pairs) / sum(x * x for x, _ in pairs)
    levels = {
        key: fmean(log(row.ratio) - slope * log(row.parameters) for row in group)
        for key, group in groups.items()
    }
    freedom = max(1, len(rows) - len(groups) - 1)
    within = sqrt(sum((y - slope * x) ** 2 for x, y in pairs) / freedom)
    middle = fmean(levels.values())
    apart = sum((level - middle) ** 2 for level in levels.values()) / max(1, len(levels) - 1)
    noise = fmean(within**2 / len(group) for group in groups.values())
    stacks = lookup("advise.eager-error.between-stacks").value
    between = sqrt(max(0.0, apart - noise)) if len(levels) >= _ENOUGH else stacks
    offsets = {
        key: (level - middle) * between**2 / (between**2 + within**2 / len(groups[key]))
        for key, level in levels.items()
    }
    sizes = [row.parameters for row in rows]
    return EagerLaw(middle, slope, offsets, between, within, min(sizes), max(sizes))


def eager_ratio(method: str, accelerator: str, parameters: float) -> tuple[Span, str]:
    """Energy of a token over that in FP16 at one request at a time, and what that rests on.

    Args:
        method: ``nf4``, ``int8`` or ``fp8-torchao``.
        accelerator: name of the board.
        parameters: of the model [billion].

    Raises:
        ConfigError: (C101) for a method without rows, (C113) beyond twice the measured sizes.
    """
    law = eager_law(method)
    if not law.smallest / _OUTSIDE <= parameters <= law.largest * _OUTSIDE:
        raise ConfigError(
            f"{method} was measured on models of {law.smallest:g} to {law.largest:g} billion parameters, not "
            f"near {parameters:.3g}",
            code="C113",
            fix="measure it: negajoule profile FOLDER",
        )
    board = board_of(accelerator)
    own = [key for key in law.sessions if key[0] == board]
    centre = law.middle + law.slope * log(parameters)
    stacks = lookup("advise.eager-error.between-stacks").value
    if own:
        centre += fmean(law.sessions[key] for key in own)
        width = hypot(law.within, min(law.between, stacks))
        words = f"measured on {board} ({', '.join(key[1] for key in own)}), {_library(method)}, batch 1"
    else:
        width = hypot(law.within, law.between_new)
        boards = ", ".join(sorted({key[0] for key in law.sessions}))
        words = f"not measured on {accelerator}; {boards} stand in, {_library(method)}, batch 1"
    beyond = max(law.smallest / parameters, parameters / law.largest, 1.0)
    return Span.around(exp(centre), _WIDE * width + abs(law.slope) * log(beyond)), words


def board_of(accelerator: str) -> str | None:
    """The measured board that has this name or the same processor; None if there's none."""
    words = accelerator.lower().replace("nvidia", "").replace("geforce", "").replace("-", " ").strip()
    words = _ALIKE.get(words, words)
    return next((row.accelerator for row in eager_rows() if row.accelerator.lower() == words), None)


def _library(method: str) -> str:
    return f"{'torchao' if method.endswith('torchao') else 'bitsandbytes'} in transformers"
