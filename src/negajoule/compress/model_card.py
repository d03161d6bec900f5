"""The card that goes with an artefact: what it is, how right, what it takes, what making it took."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from negajoule.units.text import interval_text, number_text

if TYPE_CHECKING:
    from negajoule.compress.paired import Interval
    from negajoule.compress.result import Line, Result

__all__ = ["card_of", "count_text", "share_text", "write_cards"]


def write_cards(result: Result) -> list[Path]:
    """Write ``README.md`` into the folder of every recipe's artefact; returns the files."""
    files = []
    for line in result.lines:
        if line.recipe:
            file = Path(line.folder) / "README.md"
            file.write_text(card_of(line, result), encoding="utf-8")
            files.append(file)
    return files


def card_of(line: Line, result: Result) -> str:
    """A model card in Markdown."""
    base = result.lines[0]
    quality, accuracy = line.quality, line.quality.accuracy
    phases = ", ".join(f"{phase} {number_text(joules)} J" for phase, joules in line.phases_j.items())
    even = "never: no saving is proved" if line.break_even is None else count_text(line.break_even)
    rows = [
        ("made from", f"{result.model}, by `{line.recipe}`"),
        ("engine, precision", f"{line.engine}, {line.precision}"),
        ("size", f"{line.size_bytes / 1e6:.1f} MB, before {base.size_bytes / 1e6:.1f} MB"),
        (
            "accuracy",
            f"{share_text(accuracy)} on {quality.texts} test texts, before "
            f"{share_text(base.quality.accuracy)}",
        ),
        ("macro F1", share_text(quality.macro_f1)),
        ("accuracy lost", f"{_points(line.lost)}, McNemar p = {number_text(line.p_value)}"),
        ("energy of 1,000 texts", f"{interval_text(line.energy)}; {phases}"),
        ("before", interval_text(base.energy)),
        ("energy saved", share_text(line.saving)),
        ("CPU time of 1,000 texts", f"{number_text(line.cpu_s, 3)} s, before {number_text(base.cpu_s, 3)} s"),
        (
            "a single text",
            f"{1e3 * line.latency_s[0]:.1f} ms (median), {1e3 * line.latency_s[1]:.1f} ms (95 %)",
        ),
        ("peak memory", f"{line.peak_bytes / 1e6:.0f} MB"),
        ("making it took", f"{interval_text(line.made_j)}; {number_text(line.made_s, 3)} CPU-s"),
        ("pays for itself after", even),
    ]
    if line.engine_saving is not None and line.rest_saving is not None:
        rows.insert(
            9,
            (
                "of which",
                f"engine alone {share_text(line.engine_saving)}; the rest, in that engine, "
                f"{share_text(line.rest_saving)}",
            ),
        )
    table = "\n".join(f"| {name} | {text} |" for name, text in rows)
    claims = "\n".join(f"- {claim}" for claim in line.claims)
    notes = "\n".join(f"- {note}" for note in result.notes)
    return f"""# {line.name}

Measured by negajoule on {result.machine}: {result.rounds} paired rounds of {result.measured_texts} texts of
{result.data} in batches of {result.batch}, cut at {result.max_length} tokens, {result.threads} thread(s).
Intervals hold with 95 %, but for those of energies, which are the meter's.

| | |
|---|---|
{table}

{claims}

## Notes

{notes}
- labels, length and a few answers to check it by stand in `negajoule.json`
"""


def share_text(share: Interval) -> str:
    """A share with its interval, e.g. ``64.1 % (62.0 to 66.3)``."""
    if share.low is None or share.high is None:
        return f"{100 * share.value:.1f} % (no interval)"
    return f"{100 * share.value:.1f} % ({100 * share.low:.1f} to {100 * share.high:.1f})"


def _points(lost: Interval) -> str:
    return f"{lost.value:.2f} points ({lost.low:.2f} to {lost.high:.2f})"


def count_text(texts: Interval) -> str:
    """A count of texts with its interval."""
    assert texts.low is not None, "a break-even has bounds"
    assert texts.high is not None, "both of them"
    return f"{texts.value:,.0f} texts ({texts.low:,.0f} to {texts.high:,.0f})"
