"""Not looking at the query: the mix of single models, and when looking may overrule it.

A learned router can lose to a mix of single models when traffic changes. So the mix is the rule and looking the
exception: the learned choice is taken where its gain over the mix's choice, at the same price, is positive at
the lower confidence bound. The bound widens with how new the traffic is, because errors do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["CAUTION", "Choice", "caution_after", "doubt_of", "mixed_choice", "safe_choice"]

CAUTION = 2.0
SHIFT_BEGINS = 2.0
SHIFT_ENDS = 3.0
LONE_DOUBT = 0.25
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


def doubt_of(novelty: Floats, recent: float, usual: float) -> Floats:
    """How far to distrust predictions, 0..1: by how new traffic is, and less by how new a prompt is.

    A benchmark can be new although each of its prompts resembles an old one, so the mean novelty of recent
    traffic is asked: no doubt up to twice training's own, full doubt from three times on. A single strange
    prompt in familiar traffic gets a quarter: such prompts occurred in training, too.

    Args:
        novelty: of the prompts, 0..1.
        recent: mean novelty of recent traffic.
        usual: mean novelty of the training queries, out of fold.
    """
    shift = (recent / max(usual, LEAST_USUAL) - SHIFT_BEGINS) / (SHIFT_ENDS - SHIFT_BEGINS)
    return np.maximum(min(max(shift, 0.0), 1.0), LONE_DOUBT * np.asarray(novelty))


def caution_after(judged: int) -> float:
    """Standard deviations to demand of a gain after so many judged answers.

    Feedback corrects the predictions themselves, so the mix's guard fades as it comes in.
    """
    return CAUTION * float(np.exp(-judged / FADES_WITHIN))
