"""Not looking at the query: the mix of single models, and when looking may overrule it.

A learned router can lose to a mix of single models when traffic changes. So the mix is the rule and looking
the exception: the learned choice is taken where its gain over the mix's choice, at the same price, is
positive at the lower confidence bound. The bound widens with how new the traffic is, because errors do.
"""

from __future__ import annotations

from math import hypot, inf
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = [
    "CAUTION",
    "Choice",
    "caution_after",
    "choose_one",
    "doubt_of",
    "mixed_choice",
    "safe_choice",
    "traffic_doubt",
]

CAUTION = 2.0
SHIFT_BEGINS = 1.25
SHIFT_ENDS = 1.75
LONE_DOUBT = 0.1
LEAST_USUAL = 0.02
FADES_WITHIN = 5.0


class Choice(NamedTuple):
    """What was chosen for each prompt.

    Attributes:
        chosen: index of the model.
        blind: what the mix would have chosen.
        gain: expected worth of the chosen over the blind choice, in score.
        bound: its lower confidence bound before the choice was made.
    """

    chosen: NDArray[np.intp]
    blind: NDArray[np.intp]
    gain: Floats
    bound: Floats


def mixed_choice(mean_score: Floats, mean_energy_j: Floats, price: float) -> int:
    """The single model that is best at a price [score per J], by means over recent traffic."""
    worth = mean_score - price * mean_energy_j
    return int(np.lexsort((mean_energy_j, -worth))[0])


def safe_choice(
    worth: Floats, error: Floats, doubt: Floats, blind: NDArray[np.intp], *, caution: float = CAUTION
) -> Choice:
    """Take the learned choice where it is surely better, else the mix's.

    Args:
        worth: expected score less price times expected use, prompts x models; -inf where not offered.
        error: standard deviation of the expected score, prompts x models.
        doubt: 0..1 by prompt.
        blind: the mix's choice by prompt.
        caution: standard deviations that a gain must exceed at full doubt.
    """
    rows = np.arange(len(worth))
    learned = np.argmax(worth, axis=1)
    gain = worth[rows, learned] - worth[rows, blind]
    deviation = np.hypot(error[rows, learned], error[rows, blind])
    bound = gain - caution * doubt * deviation
    take = (bound > 0) | ~np.isfinite(worth[rows, blind])
    chosen = np.where(take, learned, blind)
    return Choice(chosen, blind, np.where(take, gain, 0.0), bound)


def choose_one(worth: list[float], error: list[float], doubt: float, blind: int, caution: float) -> int:
    """``safe_choice`` for one prompt, in plain numbers because it is asked on every request."""
    learned = max(range(len(worth)), key=worth.__getitem__)
    if learned == blind or worth[blind] == -inf:
        return learned
    margin = caution * doubt * hypot(error[learned], error[blind])
    return learned if worth[learned] - worth[blind] > margin else blind


def traffic_doubt(recent: float, usual: float) -> float:
    """How far to distrust predictions because traffic is new, 0..1.

    A benchmark can be new although each of its prompts resembles an old one, so the mean over recent traffic
    is asked: no doubt up to 1.25 times training's own novelty, full doubt from 1.75 times on.

    Args:
        recent: mean novelty of recent prompts.
        usual: mean novelty of the training queries, out of fold.
    """
    shift = (recent / max(usual, LEAST_USUAL) - SHIFT_BEGINS) / (SHIFT_ENDS - SHIFT_BEGINS)
    return min(max(shift, 0.0), 1.0)


def doubt_of(novelty: Floats, recent: float, usual: float) -> Floats:
    """Doubt of each prompt: the traffic's, or a tenth of the prompt's own novelty if that is more.

    A single strange prompt in familiar traffic is no shift: such prompts occurred in training, too.
    """
    return np.maximum(traffic_doubt(recent, usual), LONE_DOUBT * novelty)


def caution_after(judged: int) -> float:
    """Standard deviations to demand of a gain after so many judged answers.

    Feedback corrects the predictions themselves, so the mix's guard fades as it comes in.
    """
    return CAUTION * float(np.exp(-judged / FADES_WITHIN))
