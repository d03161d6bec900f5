"""The card that goes with a GGUF file: what it is, what it takes, what it loses, what making it took."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from negajoule.compress.model_card import share_text
from negajoule.units.text import interval_text, number_text

if TYPE_CHECKING:
    from negajoule.compress.ladder import LadderResult, Rung
    from negajoule.compress.paired import Interval

__all__ = ["gguf_card", "ratio_text", "write_gguf_cards"]


def write_gguf_cards(result: LadderResult) -> list[Path]:
    """Write a card beside each file that a recipe made; returns the cards."""
    cards = []
    for rung in result.rungs:
        if rung.recipe:
            card = Path(rung.file).with_suffix(".md")
            card.write_text(gguf_card(rung, result), encoding="utf-8")
            cards.append(card)
    return cards


def gguf_card(rung: Rung, result: LadderResult) -> str:
    """A model card in Markdown."""
    base = result.rungs[0]
    even = "never: no saving is proved"
    if rung.break_even is not None:
        even = f"{rung.break_even.value:,.0f} produced tokens"
    rows = [
        ("made from", f"{result.model}, by `{rung.recipe}`"),
        ("engine", result.engine),
        ("bits of a weight", f"{rung.layer_bits:.2f} in the layers, {rung.all_bits:.2f} in all"),
        ("size", f"{rung.size_bytes / 1e6:.1f} MB, in 32 bits {base.size_bytes / 1e6:.1f} MB"),
        ("peak memory", f"{rung.peak_bytes / 1e6:.0f} MB, in 32 bits {base.peak_bytes / 1e6:.0f} MB"),
        ("tokens of a CPU-second", f"{rung.decode:.1f}, {ratio_text(rung.gain)} times those in 32 bits"),
        (
            "prompt tokens of a CPU-second",
            f"{rung.prefill:.0f}, {ratio_text(rung.prefill_gain)} times those in 32 bits",
        ),
        ("energy of 1,000 tokens", f"{interval_text(rung.energy)}, prompts included"),
        ("energy saved", share_text(rung.saving)),
        ("perplexity", f"{rung.perplexity:.2f}, in 32 bits {base.perplexity:.2f}"),
        ("perplexity added", share_text(rung.added)),
        (
            "making it took",
            "not measured"
            if rung.made_j is None or rung.made_s is None
            else f"{number_text(rung.made_j, 3)} J, {number_text(rung.made_s, 3)} CPU-s",
        ),
        ("pays for itself after", even),
    ]
    table = "\n".join(f"| {name} | {text} |" for name, text in rows)
    claims = "\n".join(f"- {claim}" for claim in rung.claims)
    notes = "\n".join(f"- {note}" for note in result.notes)
    return f"""# {Path(rung.file).stem}

Measured by negajoule on {result.machine}: {result.rounds} paired rounds with {result.threads} thread(s);
perplexity on {result.judged_tokens:,} tokens of {result.judged_texts} texts of {result.data}. Intervals hold
with 95 %, but for those of energies, which are the meter's.

| | |
|---|---|
{table}

{claims}

Serve it: `negajoule serve --model {Path(rung.file).name}`

## Notes

{notes}
"""


def ratio_text(ratio: Interval) -> str:
    """A ratio with its interval, e.g. ``2.34 (2.30 to 2.41)``."""
    if ratio.low is None or ratio.high is None:
        return f"{ratio.value:.2f} (no interval)"
    return f"{ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"
