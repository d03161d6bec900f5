"""A budget in energy, carbon or water: what it allows, what is used, and whether that is known.

An energy budget counts IT energy (before PUE), a carbon budget the operational carbon by the grid's mix
(with PUE, without the hardware's making), a water budget both waters, on site and off site. A figure that
isn't known makes the budget unknown and never counts as nothing.
"""

from __future__ import annotations

import re
import time
import warnings
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import msgspec

from negajoule.errors import ConfigError, LedgerError
from negajoule.ledger import Ledger, default_path
from negajoule.units import Carbon, Duration, Energy, Quantity, Water, total
from negajoule.units.text import SCALES, number_text, range_text, value_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from negajoule.ledger import Activity
    from negajoule.units import Footprint

__all__ = [
    "NOTHING_SPENT",
    "Budget",
    "BudgetAlarm",
    "BudgetWarning",
    "Expectation",
    "JudgedOn",
    "Spent",
    "Standing",
    "expect",
    "warning_alarm",
]

NEAR = 0.8
"""The share of a budget from which it is called nearly used."""

JudgedOn = Literal["value", "high"]
"""Whether the best estimate or the upper end is held against the limit."""

State = Literal["within", "near", "over", "unknown"]

_COUNTED: dict[type[Quantity], tuple[str, ...]] = {
    Energy: ("it_energy",),
    Carbon: ("carbon_location",),
    Water: ("water_onsite", "water_offsite"),
}
_UNITS: dict[str, tuple[type[Quantity], float]] = {
    name: (kind, scale) for kind in _COUNTED for scale, name in SCALES[kind.unit]
}
_NAMES: dict[JudgedOn, str] = {"value": "best estimate", "high": "upper end"}
_DAY_S = 86_400.0
_EARLIER = 20
"""How many earlier runs an expectation looks at."""


class BudgetWarning(UserWarning):
    """A budget is nearly used, used up, or can't be judged."""


class Spent(NamedTuple):
    """What is already booked.

    Attributes:
        used: sum of what is known, ``None`` if nothing is booked or nothing known.
        activities: how many activities were counted.
        missing: how many of them don't know the figure; what they used isn't in ``used``.
    """

    used: Quantity | None
    activities: int
    missing: int


NOTHING_SPENT = Spent(None, 0, 0)


class Budget(msgspec.Struct, frozen=True):
    """How much may be used, by one piece of work or by all that the ledger holds of a project.

    Attributes:
        limit: energy [J], carbon [gCO2e] or water [L].
        judged_on: whether the best estimate or the upper end is held against it.
        project: name whose activities count: those labelled ``NAME`` and those labelled ``NAME/...``;
            empty for all activities, ``None`` for the one piece of work alone.
        window_s: how far back the ledger's activities count, ``None`` for ever [s].
    """

    limit: Quantity
    judged_on: JudgedOn = "value"
    project: str | None = None
    window_s: float | None = None

    @classmethod
    def parse(
        cls,
        text: str,
        *,
        judged_on: JudgedOn = "value",
        project: str | None = None,
        window_s: float | None = None,
    ) -> Budget:
        """Read a limit such as ``500 J``, ``0.2 Wh``, ``50 gCO2e`` or ``1.5 L``.

        Raises:
            ConfigError: (C101) if it isn't a positive number with such a unit.
        """
        if judged_on not in get_args(JudgedOn):
            raise ConfigError(f"a budget can't be judged on {judged_on!r}", fix="use value or high")
        found = re.fullmatch(r"\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*([^\W\d_].*?)\s*", text, re.IGNORECASE)
        name = "" if found is None else re.sub(r"\s", "", found[2]).replace("\u03bc", "µ")
        kind, scale = _UNITS.get(name, (None, 0.0))
        if found is None or kind is None:
            raise ConfigError(
                f"{text!r} isn't a budget: it needs a positive number and a unit",
                fix=f'write for example "2 kWh", "50 gCO2e" or "1.5 L"; units: {", ".join(_UNITS)}',
            )
        try:
            limit = float(found[1]) * scale
        except ValueError:
            limit = 0.0
        if not 0 < limit < float("inf"):
            raise ConfigError(f"{text!r} isn't a budget: {found[1]!r} isn't a positive, finite number")
        return cls(kind.exact(limit, "assumed"), judged_on, project, window_s)

    @property
    def scope(self) -> str:
        """What it covers, in words."""
        if self.project is None:
            return "this run"
        whose = f"project {self.project!r}" if self.project else "the whole ledger"
        if self.window_s is None:
            return whose
        days = f"{self.window_s / _DAY_S:g} days"
        span = days if self.window_s > _DAY_S else value_text(Duration.exact(self.window_s), 3)
        return f"{whose} in the last {span}"

    @property
    def text(self) -> str:
        """Limit, scope and what it is judged on, in words."""
        return f"{value_text(self.limit, 3)} for {self.scope}, judged on the {_NAMES[self.judged_on]}"

    def counted(self, footprint: Footprint) -> Quantity | None:
        """What a footprint uses of it; ``None`` if that isn't known."""
        found = [getattr(footprint, name) for name in _COUNTED[type(self.limit)]]
        return None if None in found else total(quantity.within("none") for quantity in found)

    def spent(self, ledger: Ledger, *, now_s: float | None = None) -> Spent:
        """What the ledger holds of its project.

        Args:
            ledger: an open ledger.
            now_s: end of the window, by default now [s since the epoch].
        """
        since_s = None if self.window_s is None else (time.time() if now_s is None else now_s) - self.window_s
        kind = type(self.limit)
        used: list[Quantity] = []
        activities = missing = 0
        labels = [label for label in ledger.labels() if self._covers(label)] if self.project else None
        for group in ledger.totals(since_s=since_s, labels=labels):
            sums = [group.indicators[name] for name in _COUNTED[kind]]
            activities += group.activities
            missing += max(sum_.missing for sum_ in sums)
            for sum_ in sums:
                if sum_.value is not None and sum_.low is not None and sum_.high is not None:
                    # Sums of thousands of rows may be rounded past each other.
                    low, high = min(sum_.low, sum_.value), max(sum_.high, sum_.value)
                    used.append(kind(sum_.value, low, high, "modelled"))
        return Spent(total(used), activities, missing)

    def standing(
        self, own: Quantity | None, before: Spent = NOTHING_SPENT, *, running: bool = True
    ) -> Standing:
        """How it stands.

        Args:
            own: what the work in hand has used, from ``counted``; ``None`` if that isn't known.
            before: what is booked already.
            running: whether there is work in hand at all.
        """
        missing = before.missing + (running and own is None)
        known = total(quantity for quantity in (before.used, own) if quantity is not None)
        if known is None and not missing:
            known = type(self.limit).exact(0.0, "measured")
        return Standing(self, known, before.activities + running, missing)

    def _covers(self, label: str) -> bool:
        return label == self.project or label.startswith(f"{self.project}/")


class Standing(NamedTuple):
    """How a budget stands.

    Attributes:
        budget: which one.
        known: what is known to be used; ``None`` if nothing is known.
        activities: how many pieces of work were counted.
        missing: how many of them don't know what they used.
    """

    budget: Budget
    known: Quantity | None
    activities: int
    missing: int

    @property
    def share(self) -> float | None:
        """The known part as a share of the limit [1]."""
        if self.known is None:
            return None
        judged = self.known.high if self.budget.judged_on == "high" else self.known.value
        return judged / self.budget.limit.value

    @property
    def state(self) -> State:
        """Where it is; what is known can be over already, but only a whole figure can be within."""
        share = self.share
        if share is not None and share > 1:
            return "over"
        if share is None or self.missing:
            return "unknown"
        return "near" if share >= NEAR else "within"

    @property
    def text(self) -> str:
        """One line: used, limit, share, what it was judged on."""
        limit = value_text(self.budget.limit, 3)
        gap = f"; not known for {self.missing} of {self.activities}" if self.missing else ""
        if self.known is None:
            return f"can't be judged against {limit}{gap}"
        start = "can't be judged: at least " if self.state == "unknown" else ""
        percent = 100 * (self.share or 0.0)
        shown = "under 0.1" if 0 < percent < 0.1 else number_text(percent, 3)
        return (
            f"{start}{range_text(self.known)} of {limit} used, {shown} % "
            f"by the {_NAMES[self.budget.judged_on]}{gap}"
        )

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        budget = self.budget
        return {
            "limit": budget.limit.value,
            "unit": budget.limit.unit,
            "judged_on": budget.judged_on,
            "project": budget.project,
            "window_s": budget.window_s,
            "used": None if self.known is None else _bounds(self.known),
            "share": self.share,
            "state": self.state,
            "activities": self.activities,
            "missing": self.missing,
        }


class BudgetAlarm:
    """Tells once when a budget is nearly used, once when it is used up, once if it can't be judged.

    Args:
        budget: what is allowed.
        before: what is booked already.
        say: called with one sentence.
    """

    def __init__(self, budget: Budget, before: Spent, say: Callable[[str], None]) -> None:
        self.budget, self.before = budget, before
        self._say = say
        self._told: set[State] = {"within"}

    def standing(self, footprint: Footprint) -> Standing:
        """Judge what the work in hand has used so far."""
        return self.budget.standing(self.budget.counted(footprint), self.before)

    def tell(self, standing: Standing) -> None:
        """Say how it stands unless that has been said; what raises counts as not said."""
        if standing.state not in self._told:
            self._say(standing.text)
            self._told.add(standing.state)


def warning_alarm(budget: Budget) -> BudgetAlarm:
    """An alarm that warns, for use inside programs; a ledger that can't be read makes the budget unknown.

    Args:
        budget: what is allowed.
    """
    spent = NOTHING_SPENT
    if budget.project is not None and default_path().exists():
        try:
            with Ledger(read_only=True) as ledger:
                spent = budget.spent(ledger)
        except LedgerError as error:
            warnings.warn(f"budget: {error}", BudgetWarning, stacklevel=4)
            spent = Spent(None, 1, 1)
    return BudgetAlarm(
        budget, spent, lambda text: warnings.warn(f"budget: {text}", BudgetWarning, stacklevel=5)
    )


class Expectation(NamedTuple):
    """What work of this name used before.

    Attributes:
        amount: the median, from the lowest lower end to the highest upper end.
        runs: how many were looked at.
    """

    amount: Quantity
    runs: int


def expect(budget: Budget, earlier: Sequence[Activity], *, host: str) -> Expectation | None:
    """What a run will probably use, from earlier ones of its label that went well on this machine.

    Args:
        budget: says which figure is wanted.
        earlier: the ledger's activities of the label, newest first.
        host: hashed identity of this machine.

    Returns:
        ``None`` if there are none, or none that know the figure.
    """
    alike = [one for one in earlier if one.kind == "run" and one.status == "ok" and one.host == host]
    found = [budget.counted(one.footprint) for one in alike[:_EARLIER]]
    known = [quantity for quantity in found if quantity is not None]
    if not known:
        return None
    from statistics import median  # slow to import, and seldom needed

    middle = median(quantity.value for quantity in known)
    low, high = min(quantity.low for quantity in known), max(quantity.high for quantity in known)
    return Expectation(type(budget.limit)(middle, low, high, "inferred"), len(known))


def _bounds(quantity: Quantity) -> dict[str, float]:
    return {"value": quantity.value, "low": quantity.low, "high": quantity.high}
