"""Amounts as whole numbers of a small unit, because sums of floats can't promise ``spent <= limit``.

Energy counts in microjoules; carbon, water and money in billionths of their unit. What a request may cost
and did cost is rounded up, a limit to the nearest unit.
"""

from __future__ import annotations

import re
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from math import ceil

from negajoule.errors import ConfigError
from negajoule.units import Carbon, Energy, Quantity, Water
from negajoule.units.text import SCALES, number_text, value_text

__all__ = [
    "LARGEST_AMOUNT",
    "LARGEST_LIMIT",
    "amount_of",
    "amount_text",
    "check_indicator",
    "limit_units",
    "parse_limit",
    "scale_of",
    "units_of",
]

LARGEST_AMOUNT = 2**53
"""Largest amount of one request; beyond it a float holds no whole numbers."""

LARGEST_LIMIT = 2**61
"""Largest limit, so that sums stay within a database's 64-bit integers."""

_KINDS: dict[str, type[Quantity]] = {"J": Energy, "gCO2e": Carbon, "L": Water}
_SCALES = {"J": 10**6}
_SCALE = 10**9
_CURRENCY = re.compile(r"[A-Z]{3}")
_LIMIT = re.compile(r"\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*(\S+)\s*", re.IGNORECASE)


def check_indicator(indicator: str) -> str:
    """Return a valid indicator: ``J``, ``gCO2e``, ``L`` or a currency's code such as ``EUR``.

    Raises:
        ConfigError: (C101) for anything else.
    """
    if indicator in _KINDS or _CURRENCY.fullmatch(indicator):
        return indicator
    raise ConfigError(
        f"a budget can't count {indicator!r}", fix="use J, gCO2e, L or a currency's ISO 4217 code such as EUR"
    )


def scale_of(indicator: str) -> int:
    """How many units make one of the indicator."""
    return _SCALES.get(indicator, _SCALE)


def units_of(scale: int, amount: object) -> int | None:
    """An amount of a request in units, rounded up; ``None`` if it is no amount.

    Missing, negative, infinite and absurdly large figures are no amounts: whoever asks must then assume the
    worst.
    """
    try:
        units = ceil(amount * scale)  # type: ignore[operator]
    except (TypeError, ValueError, OverflowError):
        return None
    return units if 0 <= units <= LARGEST_AMOUNT else None


def limit_units(indicator: str, limit: float) -> int:
    """A limit in units.

    Raises:
        ConfigError: (C101) unless it is a finite number of at least 0 that fits a 64-bit integer.
    """
    try:
        exact = Decimal(repr(float(limit))) * scale_of(indicator)
        units = int(exact.to_integral_value(ROUND_HALF_EVEN))
    except (InvalidOperation, OverflowError, TypeError, ValueError):
        units = -1
    if not 0 <= units <= LARGEST_LIMIT:
        largest = amount_text(indicator, LARGEST_LIMIT)
        raise ConfigError(f"{limit!r} isn't a limit", fix=f"give a number from 0 to {largest}")
    return units


def parse_limit(text: str) -> tuple[str, float]:
    """Read ``2 kWh``, ``50 gCO2e``, ``1.5 L`` or ``20 EUR`` as an indicator and a number of it.

    Raises:
        ConfigError: (C101) if it isn't a number with such a unit.
    """
    found = _LIMIT.fullmatch(text)
    if found is not None:
        name = found[2]
        for indicator in _KINDS:
            for scale, unit in SCALES[indicator]:
                if unit == name:
                    return indicator, _number(text, found[1]) * scale
        if _CURRENCY.fullmatch(name):
            return name, _number(text, found[1])
    raise ConfigError(
        f"{text!r} isn't a limit: it needs a number and a unit",
        fix='write for example "2 kWh", "50 gCO2e", "1.5 L" or "20 EUR"',
    )


def amount_of(indicator: str, units: int) -> float:
    """Units as an amount in the indicator."""
    return units / scale_of(indicator)


def amount_text(indicator: str, units: int) -> str:
    """Units as people read them, e.g. ``1.5 kWh``."""
    amount = amount_of(indicator, units)
    kind = _KINDS.get(indicator)
    if kind is None:
        return f"{number_text(amount, 4)} {indicator}"
    return value_text(kind.exact(amount), 3)


def _number(text: str, digits: str) -> float:
    try:
        return float(digits)
    except ValueError:
        raise ConfigError(f"{text!r} isn't a limit: {digits!r} isn't a number") from None
