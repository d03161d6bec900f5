"""A run of serving as it was published: a row of CSV or JSON, or of the catalogue."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Annotated

import msgspec

from negajoule.catalog import lookup, search
from negajoule.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Run", "article_runs", "read_runs"]

_Positive = Annotated[float, msgspec.Meta(gt=0)]
_Count = Annotated[float, msgspec.Meta(ge=0)]
_ARTICLE = "audit.article."


class Run(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run; what wasn't published is ``None``.

    Attributes:
        name: its name.
        requests: requests that the energy is divided by.
        seconds: its time [s].
        kwh: energy of its accelerators [kWh].
        served: requests that were answered.
        failed: requests that weren't.
        total_kwh: energy with whatever else was counted [kWh].
        request_j: energy of a request as it was stated [J].
        accelerator: what it ran on.
        accelerators: how many of them.
        parameters: of the model, those that a token uses.
        tokens: of a request on average, prompt and answer.
        bits: of the numbers that it computes with.
    """

    name: str
    requests: _Positive
    seconds: _Positive
    kwh: _Count
    served: _Count | None = None
    failed: _Count | None = None
    total_kwh: _Count | None = None
    request_j: _Count | None = None
    accelerator: str | None = None
    accelerators: _Positive = 1
    parameters: _Positive | None = None
    tokens: _Positive | None = None
    bits: _Positive = 16

    @property
    def energy_j(self) -> float:
        """Energy of its accelerators [J]."""
        return self.kwh * 3.6e6

    @property
    def mean_w(self) -> float:
        """Mean power of one accelerator [W]."""
        return self.energy_j / self.seconds / self.accelerators

    @property
    def each_j(self) -> float:
        """Energy of a request [J]."""
        return self.energy_j / self.requests


def read_runs(path: Path) -> tuple[Run, ...]:
    """Read a table of runs: CSV with a line of names, or a JSON list of objects.

    Raises:
        ConfigError: (C106) if it can't be read, or a row lacks something or says what can't be.
    """
    try:
        if path.suffix == ".json":
            rows = msgspec.json.decode(path.read_bytes(), type=list[dict[str, object]])
        else:
            with path.open(encoding="utf-8-sig", newline="") as file:
                rows = [
                    {str(name): text for name, text in row.items() if text not in ("", None)}
                    for row in csv.DictReader(file)
                ]
    except OSError as error:
        raise _unreadable(path, error.strerror or "it can't be opened") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(path, str(error)) from None
    if not rows:
        raise _unreadable(path, "it has no rows")
    runs = []
    for number, row in enumerate(rows, 1):
        try:
            runs.append(msgspec.convert(row, Run, strict=False))
        except msgspec.ValidationError as error:
            raise _unreadable(path, f"row {number}: {error}") from None
    return tuple(runs)


def article_runs() -> tuple[Run, ...]:
    """The serving runs behind "up to 100 times less energy by timing", from the catalogue."""

    def value(key: str) -> float:
        return lookup(f"{_ARTICLE}{key}").value

    runs = []
    for fact in search(_ARTICLE):
        name, _, what = fact.key.removeprefix(_ARTICLE).rpartition(".")
        if what == "seconds":
            model = name.partition("-")[0]
            runs.append(
                Run(
                    name=name,
                    requests=value("requests"),
                    seconds=fact.value,
                    kwh=value(f"{name}.energy"),
                    accelerator="h100",
                    accelerators=value(f"{model}.accelerators"),
                    parameters=value(f"{model}.parameters"),
                    tokens=value("prompt") + value("answer"),
                )
            )
    return tuple(runs)


def _unreadable(path: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"{path}: {reason}",
        code="C106",
        fix="columns: name, requests, seconds, kwh; and where known: " + ", ".join(Run.__struct_fields__[4:]),
    )
