"""Which models answer for each other: the ``[[pool]]`` tables of negajoule.toml.

[[pool]]
name = "negajoule"            # asked for as negajoule/auto, negajoule/frugal, negajoule/best
models = ["large", "small"]   # best first; names as in GET /v1/models
router = "router.npz"         # made by negajoule route train; without it no prompt is looked at
budget = "40 J/request"       # or "2 kWh/day", "500 gCO2e/h": what auto keeps to on average
default = "large"             # answers where nothing can be decided; the first by default
explore = 0.02                # share of joules for answers by chance, to learn of other models
sticky = true                 # whether a conversation stays where its beginning is computed, if that saves
keep_s = 600.0                # how long a model is taken to keep it
shadow = false                # decide and log, but let the default answer
trial = ["new"]               # models that are judged beside the others and don't answer yet
energies = {small = {input_j = 0.01, output_j = 0.2}} # joules of a token, where they were measured
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from negajoule.errors import ConfigError
from negajoule.ledger.accounts.amounts import parse_limit

__all__ = ["WISHES", "Limit", "PoolPlan", "TokenEnergies", "read_limit", "read_pools"]

WISHES = ("auto", "frugal", "best")
"""What can be asked of a pool."""

_PER_S: dict[str, float | None] = {
    "request": None,
    "min": 60.0,
    "h": 3600.0,
    "hour": 3600.0,
    "day": 86_400.0,
    "week": 604_800.0,
}
_UNITS = ("J", "gCO2e")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class Limit(msgspec.Struct, frozen=True):
    """A soft budget.

    Attributes:
        unit: ``J`` or ``gCO2e``.
        amount: how much of it [unit].
        window_s: for how long; ``None`` for each request [s].
    """

    unit: str
    amount: float
    window_s: float | None


class TokenEnergies(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What tokens of a model take.

    Attributes:
        input_j: a token of the prompt [J].
        output_j: a token of the answer [J].
    """

    input_j: float
    output_j: float


class PoolPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One pool as it was asked for; fields as in the table."""

    models: tuple[str, ...]
    name: str = "negajoule"
    router: str | None = None
    budget: str | None = None
    default: str = ""
    explore: float = 0.0
    sticky: bool = True
    keep_s: float = 600.0
    shadow: bool = False
    trial: tuple[str, ...] = ()
    energies: dict[str, TokenEnergies] = {}

    @property
    def limit(self) -> Limit | None:
        """Its budget."""
        return None if self.budget is None else read_limit(self.budget)

    @property
    def fallback(self) -> str:
        """The model that answers where nothing can be decided."""
        return self.default or next(model for model in self.models if model not in self.trial)


def read_limit(text: str) -> Limit:
    """Read ``40 J/request``, ``2 kWh/day`` or ``500 gCO2e/h``.

    Raises:
        ConfigError: (C101) if it is something else.
    """
    amount, _, per = text.rpartition("/")
    try:
        unit, number = parse_limit(amount.strip())
    except ConfigError:
        unit, number = "", 0.0
    if unit not in _UNITS or per.strip() not in _PER_S:
        raise ConfigError(
            f"the budget {text!r} can't be read",
            fix='write for example "40 J/request", "2 kWh/day" or "500 gCO2e/h"',
        )
    return Limit(unit, number, _PER_S[per.strip()])


def read_pools(tables: object, origin: str) -> tuple[PoolPlan, ...]:
    """Read ``[[pool]]`` tables.

    A router's path is relative to the file that names it.

    Args:
        tables: as decoded from TOML.
        origin: the file where they stand.

    Raises:
        ConfigError: (C101) for a wrong or missing field, or a name given twice.
    """
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ConfigError(f"{origin}: pool isn't an array of tables", fix="write [[pool]]")
    plans = tuple(_plan(table, origin, f"{origin}, [[pool]] table {n}") for n, table in enumerate(tables, 1))
    names = [plan.name for plan in plans]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"{origin}: two pools are called {twice[0]!r}", fix="give each a name of its own")
    return plans


def _plan(table: dict[str, Any], origin: str, where: str) -> PoolPlan:
    try:
        plan = msgspec.convert(table, PoolPlan)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {error}", fix=f"fields: {', '.join(_FIELDS)}") from None
    answering = [model for model in plan.models if model not in plan.trial]
    wrong = (
        (not _NAME.fullmatch(plan.name), f"name {plan.name!r} must be letters, digits and . _ -"),
        (not answering, "models must name one that isn't on trial"),
        (len(set(plan.models)) != len(plan.models), "models names one twice"),
        (plan.default and plan.default not in answering, f"default {plan.default!r} isn't one of its models"),
        (not 0.0 <= plan.explore <= 0.5, f"explore must be a share from 0 to 0.5, not {plan.explore!r}"),
        (not plan.keep_s >= 0.0, f"keep_s must be seconds from 0 on, not {plan.keep_s!r}"),
        (set(plan.trial) - set(plan.models), "trial names a model that isn't in models"),
        (set(plan.energies) - set(plan.models), "energies names a model that isn't in models"),
    )
    for is_wrong, said in wrong:
        if is_wrong:
            raise ConfigError(f"{where}: {said}")
    if plan.budget is not None:
        read_limit(plan.budget)
    if plan.router is not None:
        plan = msgspec.structs.replace(plan, router=str(Path(origin).parent / Path(plan.router).expanduser()))
    return plan


_FIELDS = tuple(field.name for field in msgspec.structs.fields(PoolPlan))
