"""What a step of a serving engine costs, in a form whose sums are closed.

While nobody joins or leaves, a batch of B sequences grows by B tokens of context a step. If time and energy
of a step are affine in that context, any number of steps is summed without a loop. C is the context of the
whole batch, n the new prompt tokens, p those kept from before [tokens]:

    decode step   time   = decode_s[B] + decode_context_s[B] x C
                  energy = decode_j[B] + decode_context_j[B] x C
    prompt part   time   = prefill_token_s x n + prefill_context_s x (2 p n + n^2)
                  energy = prefill_token_j x n + prefill_context_j x (2 p n + n^2)

A step that computes a prompt part and decodes costs the sum of both; one that doesn't decode costs
``prefill_step_s`` and ``prefill_step_j`` besides. The predictor writes such a table for a deployment,
``negajoule profile`` for a measured engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["StepTable"]


class StepTable(msgspec.Struct, frozen=True, kw_only=True):
    """Costs of the steps of one replica, all its accelerators together.

    Attributes:
        decode_s: time of a decode step by batch, at no context; the first is 0, the last the limit [s].
        decode_context_s: time added for each token of context of the whole batch, by batch [s].
        decode_j: energy of a decode step by batch, at no context [J].
        decode_context_j: energy added for each token of context of the whole batch, by batch [J].
        prefill_token_s: time of a prompt token [s].
        prefill_context_s: time of attention for each squared prompt token [s].
        prefill_step_s: time of a step that only computes a prompt part, beside its tokens [s].
        prefill_token_j: energy of a prompt token [J].
        prefill_context_j: energy of attention for each squared prompt token [J].
        prefill_step_j: energy of a step that only computes a prompt part, beside its tokens [J].
        idle_w: power between requests, weights resident [W].
        sleep_w: power while asleep [W].
        wake_s: time from asleep to ready [s].
        wake_j: energy of waking [J].
        kv_tokens: tokens of context that fit in memory at once.
        title: what was deployed, in words.
        basis: how the numbers came about: measured, modelled or assumed.
        doubt: half-width of the 90 % interval of energies at the smallest measured batch, as a logarithm.
    """

    decode_s: tuple[float, ...]
    decode_context_s: tuple[float, ...]
    decode_j: tuple[float, ...]
    decode_context_j: tuple[float, ...]
    prefill_token_s: float
    prefill_context_s: float
    prefill_step_s: float
    prefill_token_j: float
    prefill_context_j: float
    prefill_step_j: float
    idle_w: float
    sleep_w: float
    wake_s: float
    wake_j: float
    kv_tokens: int
    title: str
    basis: str
    doubt: float

    @property
    def max_batch(self) -> int:
        """The most sequences in a step."""
        return len(self.decode_s) - 1

    def arrays(self) -> tuple[Floats, Floats, Floats, Floats]:
        """The four tables by batch: time, time per context token, energy, energy per context token."""
        return (
            np.asarray(self.decode_s, dtype=np.float64),
            np.asarray(self.decode_context_s, dtype=np.float64),
            np.asarray(self.decode_j, dtype=np.float64),
            np.asarray(self.decode_context_j, dtype=np.float64),
        )
