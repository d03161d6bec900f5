"""Decisions that can still be judged, in memory, and the log of all, for judging a policy afterwards.

The log holds what an offline evaluation needs: who was chosen with which probability, what was expected of
each candidate, what the answer used, and the judgement if one came. It holds no text, and no caller.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from negajoule.config import home
from negajoule.gateway.logs import LOGGER

if TYPE_CHECKING:
    from pathlib import Path

    from negajoule.gateway.pool import Ruling

__all__ = ["DecisionLog", "Judgeable"]

_REMEMBERED = 10_000
_LARGEST_BYTES = 64 * 2**20


class Judgeable(NamedTuple):
    """A decision whose answer may be judged.

    Attributes:
        ruling: the decision.
        served: who answered.
        caller: name of the key that asked.
    """

    ruling: Ruling
    served: str
    caller: str


class DecisionLog:
    """Remembers and writes decisions.

    Args:
        path: the file; by default in the data folder. When it has 64 MiB it is renamed, the one before goes.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = home() / "routes" / "decisions.jsonl" if path is None else path
        self._open: OrderedDict[str, Judgeable] = OrderedDict()
        self._said = False

    def __len__(self) -> int:
        return len(self._open)

    def ended(self, request_id: str, judgeable: Judgeable, used_j: float | None) -> None:
        """A call was answered.

        Args:
            request_id: its id.
            judgeable: what was decided.
            used_j: energy of its answer [J]; ``None`` if unknown.
        """
        self._open[request_id] = judgeable
        if len(self._open) > _REMEMBERED:
            self._open.popitem(last=False)
        ruling = judgeable.ruling
        decision = ruling.decision
        views = () if decision is None else decision.candidates
        self._write(
            {
                "id": request_id,
                "at_s": round(time.time(), 3),
                "pool": ruling.pool.plan.name,
                "wish": ruling.wish,
                "chosen": ruling.shadowed or ruling.model,
                "served": judgeable.served,
                "propensity": 1.0 if decision is None else decision.propensity,
                "explored": decision is not None and decision.explored,
                "learned": decision is not None and decision.learned,
                "task": None if decision is None else decision.task,
                "score": {view.model: float(view.score) for view in views},
                "energy_j": {view.model: _number(view.energy_j) for view in views},
                "used_j": used_j,
            }
        )

    def take(self, request_id: str) -> Judgeable | None:
        """The decision of a call; ``None`` if it isn't known, or was judged."""
        return self._open.get(request_id)

    def judged(self, request_id: str, score: float) -> None:
        """Forget a decision that was judged, and write the judgement, 0..1."""
        self._open.pop(request_id, None)
        self._write({"id": request_id, "at_s": round(time.time(), 3), "judged": score})

    def _write(self, row: dict[str, Any]) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                file.write(msgspec.json.encode(row) + b"\n")
                full = file.tell() > _LARGEST_BYTES
            if full:
                self._path.replace(self._path.with_name("decisions.before.jsonl"))
        except OSError as error:
            if not self._said:
                LOGGER.error("decisions can't be logged to %s: %s", self._path, error.strerror)
            self._said = True


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)
