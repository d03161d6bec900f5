"""Which number format does a piece of work at the least cost, by a profile of this machine.

The law of every format is fitted to the same rounds, and refitted to resampled rounds, so that noise common
to all formats cancels in the margin. What the law itself leaves is added to the interval. Formats that can't
be told apart are a tie, and of these the widest is chosen: it costs no more and can't answer worse. Quality
isn't judged here otherwise.
"""

from __future__ import annotations

from math import exp, hypot, log
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal

from negajoule.errors import ConfigError
from negajoule.profile.bootstrap import CONFIDENCE, interval, resampled_rounds
from negajoule.units import Decision

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from negajoule.profile.law import Cost, CostLaw, CostTable
    from negajoule.profile.profile import Profile

__all__ = ["Part", "best_precision", "is_tie", "width_bits"]

Part = Literal["request", "prefill", "decode"]
"""What is compared: a whole request or one phase of it."""

_DRAWS = 200
_UNITS = {"energy": "energy", "cpu": "CPU time", "time": "machine time"}


def best_precision(
    profile: Profile,
    batch: float,
    prompt_tokens: float,
    output_tokens: float,
    *,
    cost: Cost | None = None,
    part: Part = "request",
) -> Decision:
    """Choose the format that does this at the least cost on the profiled machine.

    Args:
        profile: of one model in at least one format.
        batch: requests at once.
        prompt_tokens: length of a prompt [tokens].
        output_tokens: length of an answer [tokens].
        cost: what to save; default energy where it was measured or modelled, else CPU time, else time.
        part: of a request.

    Returns:
        A decision; ``is_tie`` tells whether it is one. The margin of a profile of one round has no interval.

    Raises:
        ConfigError: (C113) beyond twice the measured ranges, (C107) if that cost isn't in the profile.
    """
    beyond = profile.reach().beyond(batch, prompt_tokens, output_tokens)
    wanted = cost or profile.cheapest_known()
    found = {name: profile.table(name, wanted) for name in profile.formats}
    tables = {name: table for name, table in found.items() if table is not None}
    known = {name: table.fit() for name, table in tables.items()}
    if len(known) < len(found):
        raise ConfigError(
            f"the profile holds no {_UNITS[wanted]} of {', '.join(sorted(set(found) - set(known)))}",
            code="C107",
            fix="choose by another cost: time is always there",
        )
    if len(known) == 1:
        only = next(iter(known))
        return Decision(chosen=only, reason=f"{only} is the only format in the profile")
    work = (batch, prompt_tokens, output_tokens)
    values = {name: _cost(law, part, *work) for name, law in known.items()}
    draws = _drawn(tables, part, work)
    cheapest = min(values, key=values.__getitem__)
    if not draws:
        return _without_interval(values, cheapest, wanted, part, beyond)
    margins = {
        name: _margin(cheapest, name, values, draws, _doubt(known, part, work, cheapest, name))
        for name in values
        if name != cheapest
    }
    tied = [cheapest, *(name for name, (_, low, _) in margins.items() if low <= 0)]
    chosen = max(tied, key=lambda name: (width_bits(name), -values[name]))
    rival = min((name for name in values if name != chosen), key=values.__getitem__)
    margin = _margin(chosen, rival, values, draws, _doubt(known, part, work, chosen, rival))
    what = _what(wanted, part)
    if margin[1] <= 0:
        reason = f"a tie of {', '.join(sorted(tied))} in {what}: the widest costs no more that could be shown"
    else:
        bounds = f"{margin[1]:.0%} to {margin[2]:.0%}"
        reason = f"{chosen} takes {margin[0]:.0%} less {what} than {rival} ({bounds})"
    return Decision(
        chosen=chosen,
        runner_up=rival,
        margin=margin[0],
        margin_low=margin[1],
        margin_high=margin[2],
        reason=f"{reason}; {beyond}" if beyond else reason,
    )


def _without_interval(
    values: Mapping[str, float], cheapest: str, cost: Cost, part: Part, beyond: str
) -> Decision:
    """The cheapest, of a profile of a single round."""
    rival = min((name for name in values if name != cheapest), key=values.__getitem__)
    margin = 1 - values[cheapest] / values[rival]
    reason = f"{cheapest} takes {margin:.0%} less {_what(cost, part)} than {rival}, by a single round"
    return Decision(
        chosen=cheapest,
        runner_up=rival,
        margin=margin,
        reason=f"{reason}; {beyond}" if beyond else reason,
    )


def _what(cost: Cost, part: Part) -> str:
    return f"{_UNITS[cost]} of {'a request' if part == 'request' else part}"


def is_tie(decision: Decision) -> bool:
    """Whether the choice can't be told from its best alternative."""
    return decision.margin_low is not None and decision.margin_low <= 0


def width_bits(format_: str) -> float:
    """Bits of a weight by the format's name: F16 16, Q8_0 8, Q4_K_M 4; 0 if it holds no number."""
    digits = ""
    for letter in format_.lower().removeprefix("b").lstrip("abcdefghijklmnopqrstuvwxyz"):
        if not letter.isdigit():
            break
        digits += letter
    return float(digits or 0)


def _cost(law: CostLaw, part: Part, batch: float, prompt_tokens: float, output_tokens: float) -> float:
    if part == "prefill":
        return law.prefill(batch, prompt_tokens)
    if part == "decode":
        return output_tokens * law.decode_token(batch, prompt_tokens, output_tokens)
    return law.request(batch, prompt_tokens, output_tokens)


def _doubt(
    laws: Mapping[str, CostLaw], part: Part, work: tuple[float, float, float], one: str, other: str
) -> float:
    """Half-width, as a logarithm, of what both laws leave."""
    left = hypot(*(_error(laws[name], part, work) for name in (one, other)))
    return NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * left


def _error(law: CostLaw, part: Part, work: tuple[float, float, float]) -> float:
    if part == "request":
        return law.error(*work)
    return law.prefill_error if part == "prefill" else law.decode_error


def _drawn(
    tables: Mapping[str, CostTable], part: Part, work: tuple[float, float, float]
) -> list[dict[str, float]]:
    """The costs of all formats, by laws refitted to resampled rounds; none of a single round."""
    rounds = sorted({number for table in tables.values() for number in table.rounds})
    if len(rounds) < 2:
        return []
    return [
        {name: _cost(table.fit(draw), part, *work) for name, table in tables.items()}
        for draw in resampled_rounds(rounds, draws=_DRAWS)
    ]


def _margin(
    one: str,
    other: str,
    values: Mapping[str, float],
    draws: Sequence[Mapping[str, float]],
    doubt: float,
) -> tuple[float, float, float]:
    """By which share ``one`` is cheaper than ``other``, with its interval."""
    ratio = log(values[one] / values[other])
    low, high = interval([log(draw[one] / draw[other]) for draw in draws])
    down = hypot(ratio - min(low, ratio), doubt)
    up = hypot(max(high, ratio) - ratio, doubt)
    return 1 - exp(ratio), 1 - exp(ratio + up), 1 - exp(ratio - down)
