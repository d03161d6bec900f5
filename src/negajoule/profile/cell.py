"""What is measured: a cell of the sweep, and what one repeat of it gave."""

from __future__ import annotations

import msgspec

__all__ = ["Cell", "PhaseSample", "Sample"]


class Cell(msgspec.Struct, frozen=True, order=True):
    """One point of the sweep.

    Attributes:
        format: number format of the weights ("Q8_0"), or the name under which an endpoint's model is kept.
        batch: requests at once.
        prompt_tokens: length of each prompt [tokens].
        output_tokens: length of each answer [tokens].
    """

    format: str
    batch: int
    prompt_tokens: int
    output_tokens: int


class PhaseSample(msgspec.Struct, frozen=True, kw_only=True):
    """One phase of one repeat, all requests of the batch together.

    Attributes:
        tokens: prompt tokens computed, or tokens produced.
        context_tokens: context of the whole batch, mean over the phase [tokens].
        seconds: length [s].
        cpu_s: CPU time of the engine; ``None`` if it runs elsewhere [s].
        energy_j: value, low and high; ``None`` if nothing tells [J].
        others_busy: threads that others kept busy on this machine meanwhile.
    """

    tokens: int
    context_tokens: float
    seconds: float
    cpu_s: float | None
    energy_j: tuple[float, float, float] | None
    others_busy: float


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One repeat of a cell.

    Attributes:
        cell: which.
        repeat: in which round; samples of one round were taken close together.
        prefill: from sending the prompts to the last first token.
        decode: from the last first token to the end of the first answer: the whole batch decodes throughout.
        ttft_s: time to first token, median of the batch; all prompts come at once [s].
        itl_s: time between tokens of an answer, median [s].
        itl_p95_s: likewise, the 95th percentile [s].
    """

    cell: Cell
    repeat: int
    prefill: PhaseSample
    decode: PhaseSample
    ttft_s: float
    itl_s: float
    itl_p95_s: float
