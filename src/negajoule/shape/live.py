"""Live shaping in the server's own terms: which calls are held, by which policy, for which promise.

A plan is a file, or tables of the settings file:

    [[shape]]
    model = "*"
    class = "batch"
    policy = "join"
    wait_s = 26.5
    running = 32
    promise = "p95<=30s"
    predicted_s = 29.1
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from negajoule.errors import ConfigError
from negajoule.shape.policies import (
    AtOnce,
    CleanerHours,
    ControlLimit,
    Deadline,
    Gated,
    JoinBusy,
    TokenBucket,
)
from negajoule.shape.promise import Promise, parse_promise
from negajoule.simulate import Policy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from negajoule.shape.search import Shaped

__all__ = ["POLICIES", "HoldRule", "read_rules", "rules_of", "write_rules"]

POLICIES: dict[str, Any] = {
    "at-once": AtOnce,
    "cleaner-hours": CleanerHours,
    "control-limit": ControlLimit,
    "deadline": Deadline,
    "gated": Gated,
    "join": JoinBusy,
    "token-bucket": TokenBucket,
}
"""Policies by the name that they have in files."""

_FIELDS = ("model", "class", "policy", "promise", "predicted_s")


class HoldRule(msgspec.Struct, frozen=True, kw_only=True):
    """Which calls are held, and how.

    Attributes:
        policy: when they go.
        promise: what they are promised.
        model: the model they ask for; ``*`` for any.
        kind: their class, as they say in ``x-negajoule-class``; ``*`` for any.
        predicted_s: the promised quantile as the simulation foresaw it [s].
    """

    policy: Policy
    promise: Promise
    model: str = "*"
    kind: str = "*"
    predicted_s: float | None = None

    def fits(self, model: str, kind: str) -> bool:
        """Whether it is for calls of this model and class."""
        return self.model in ("*", model) and self.kind in ("*", kind)


def read_rules(tables: object, origin: str = "the plan") -> tuple[HoldRule, ...]:
    """Read ``[[shape]]`` tables.

    Args:
        tables: as decoded from TOML.
        origin: where they stand, for messages.

    Raises:
        ConfigError: (C101) for an unknown policy, a missing or wrong field, or a wait that breaks its own
            promise.
    """
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ConfigError(f"{origin}: shape isn't an array of tables", fix="write [[shape]]")
    return tuple(_rule(table, f"{origin}, [[shape]] table {n}") for n, table in enumerate(tables, 1))


def rules_of(shaped: Shaped, promises: Sequence[Promise], classes: Sequence[str]) -> tuple[HoldRule, ...]:
    """The rules that make a server do what was chosen; none for classes that go at once.

    Args:
        shaped: the choice.
        promises: what it keeps, in the order that ``shape`` had them.
        classes: of the trace.
    """
    rules = []
    for place, (kind, policy) in enumerate(zip(classes, shaped.plan.policies, strict=True)):
        theirs = [
            (promise, kept)
            for promise, kept in zip(promises, shaped.kept, strict=True)
            if promise.kind in (None, kind)
        ]
        if isinstance(policy, AtOnce) or not theirs:
            continue
        promise, kept = min(theirs, key=lambda pair: pair[0].limit_s)
        rules.append(
            HoldRule(
                policy=policy,
                promise=promise,
                kind="*" if len(classes) == 1 and promise.kind is None else classes[place],
                predicted_s=kept.reached_s if 0.0 < kept.reached_s < math.inf else None,
            )
        )
    return tuple(rules)


def write_rules(rules: Sequence[HoldRule]) -> str:
    """The tables of rules, as ``read_rules`` reads them."""
    return "\n".join(_written(rule) for rule in rules)


def _rule(table: Mapping[str, Any], where: str) -> HoldRule:
    name = table.get("policy")
    made = POLICIES.get(name) if isinstance(name, str) else None
    if made is None:
        raise ConfigError(f"{where}: policy {name!r} isn't known", fix=f"one of {', '.join(POLICIES)}")
    if not isinstance(table.get("promise"), str):
        raise ConfigError(f"{where}: a promise is missing", fix='promise = "p95<=30s"')
    rest = {key: value for key, value in table.items() if key not in _FIELDS}
    try:
        policy = msgspec.convert(rest, made) if _known(rest, made) else None
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {error}") from None
    if policy is None:
        fields = ", ".join(field.name for field in msgspec.structs.fields(made) if field.name != "memory")
        raise ConfigError(
            f"{where}: the policy {name} has no field {', '.join(sorted(rest))}",
            fix=f"fields of {name}: {fields or 'none'}",
        )
    promise = parse_promise(table["promise"])
    wait_s = getattr(policy, "wait_s", 0.0)
    if wait_s >= promise.limit_s:
        raise ConfigError(
            f"{where}: a wait of {wait_s:g} s breaks the promise {promise}", fix="wait less, or promise more"
        )
    predicted = table.get("predicted_s")
    if predicted is not None and not (isinstance(predicted, int | float) and predicted > 0):
        raise ConfigError(f"{where}: predicted_s must be seconds above 0, not {predicted!r}")
    return HoldRule(
        policy=policy,
        promise=promise,
        model=str(table.get("model", "*")),
        kind=str(table.get("class", "*")),
        predicted_s=predicted,
    )


def _known(rest: Mapping[str, Any], made: Any) -> bool:  # noqa: ANN401 (a class of policies)
    return rest.keys() <= {field.name for field in msgspec.structs.fields(made)} - {"memory"}


def _written(rule: HoldRule) -> str:
    name = next(name for name, made in POLICIES.items() if isinstance(rule.policy, made))
    percent, measure = 100 * rule.promise.quantile, rule.promise.measure
    lines = {
        "model": f'"{rule.model}"',
        "class": f'"{rule.kind}"',
        "policy": f'"{name}"',
        **{
            key: f"{value:.6g}" if isinstance(value, float) else str(value)
            for key, value in msgspec.to_builtins(rule.policy).items()
            if key != "memory"
        },
        "promise": f'"{measure}-p{percent:g}<={rule.promise.limit_s:g}s"',
    }
    if rule.predicted_s is not None:
        lines["predicted_s"] = f"{rule.predicted_s:.6g}"
    return "\n".join(["[[shape]]", *(f"{key} = {value}" for key, value in lines.items()), ""])
