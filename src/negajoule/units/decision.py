"""What a decision room answers: a choice that can be argued with."""

from __future__ import annotations

import msgspec

from negajoule.units.footprint import Footprint

__all__ = ["Decision"]


class Decision(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A choice, the best alternative and why.

    Attributes:
        chosen: the option taken.
        runner_up: the best single alternative; None if there was only one option.
        margin: by how much the choice is better than it, as a share of the runner-up's cost; None if unknown.
        margin_low: lower end of the 90 % interval of the margin.
        margin_high: upper end of it.
        reason: one sentence for people.
        footprint: the predicted footprint of the choice, if one was predicted.
    """

    chosen: str
    runner_up: str | None = None
    margin: float | None = None
    margin_low: float | None = None
    margin_high: float | None = None
    reason: str
    footprint: Footprint | None = None
