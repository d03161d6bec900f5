"""``negajoule compress MODEL.gguf``: a generative model in other formats, measured in pairs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from negajoule.cli.output import print_json, print_table, say
from negajoule.units.text import number_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from negajoule.compress.ladder import LadderResult, Rung
    from negajoule.compress.workshop import Spent

__all__ = ["DEFAULT_LADDER", "climb", "is_for_gguf"]

DEFAULT_LADDER = ("gguf:Q8_0", "gguf:Q4_0", "gguf:Q4_0:calibrated")
PACKAGED = "smollm2-135m-instruct"
CALIBRATION_TEXTS, TEXTS = 32, 24


def is_for_gguf(model: str, recipes: Sequence[str]) -> bool:
    """Whether a command is about a GGUF file."""
    return model.endswith(".gguf") or model == PACKAGED or any(text.startswith("gguf:") for text in recipes)


def climb(
    model: str,
    data: str | None,
    recipes: Sequence[str],
    *,
    folder: Path,
    data_folder: Path,
    rounds: int,
    texts: int | None,
    longest: int,
    threads: int,
    book: Callable[[list[Spent], str], None] | None,
    as_json: bool,
) -> None:
    """Study a GGUF file.

    Args:
        model: the file, or the packaged model's name.
        data: texts to judge and calibrate by; GSM8K by default.
        recipes: to try.
        folder: the study's.
        data_folder: where named texts lie.
        rounds: how often everything is measured.
        texts: how many judge.
        longest: text, in tokens.
        threads: of each process.
        book: puts what was measured into the ledger.
        as_json: print the result as JSON.

    Raises:
        CompressError: for recipes, models or texts that can't be used.
    """
    import msgspec

    from negajoule.compress.gguf_card import write_gguf_cards
    from negajoule.compress.gguf_recipes import GgufRecipe
    from negajoule.compress.ladder import Ladder, LadderPlan
    from negajoule.compress.passages import read_passages
    from negajoule.engine.packaged import packaged_model

    wanted = tuple(GgufRecipe.parse(text) for text in recipes or DEFAULT_LADDER)
    source = packaged_model() if model == PACKAGED else Path(model)
    passages = read_passages(
        data or "gsm8k", folder=data_folder, calibration=CALIBRATION_TEXTS, test=texts or TEXTS
    )
    plan = LadderPlan(
        source=source,
        recipes=wanted,
        passages=passages,
        rounds=rounds,
        judged_tokens=longest,
        threads=threads,
    )
    study = Ladder(plan, folder, say)
    try:
        result = study.run()
    finally:
        # What was used was used, also by a study that was broken off.
        if book is not None:
            book(study.workshop.spent(), source.name)
    (folder / "result.json").write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1))
    cards = write_gguf_cards(result)
    if as_json:
        print_json(result)
        return
    _show(result)
    for card in cards:
        say(f"artefact and card: {card.with_suffix('.gguf')}")


def _show(result: LadderResult) -> None:
    headers = (
        "", "bits", "MB", "peak MB", "tokens/CPU-s", "gain", "prompt tokens/CPU-s", "J/1,000", "perplexity",
        "added %", "made CPU-s", "pays after",
    )  # fmt: skip
    print_table(headers, [_row(rung) for rung in result.rungs])
    for rung in result.rungs[1:]:
        say(f"{rung.name}: {'; '.join(rung.claims)}")
    for note in result.notes:
        say(f"note: {note}")


def _row(rung: Rung) -> tuple[str, ...]:
    from negajoule.compress.gguf_card import ratio_text

    even = "-" if rung.break_even is None else f"{rung.break_even.value:,.0f}"
    return (
        rung.name,
        f"{rung.layer_bits:.2f}",
        f"{rung.size_bytes / 1e6:.1f}",
        f"{rung.peak_bytes / 1e6:.0f}",
        f"{rung.decode:.1f}",
        ratio_text(rung.gain),
        f"{rung.prefill:.0f}",
        number_text(rung.energy.value, 3),
        f"{rung.perplexity:.2f}",
        f"{100 * rung.added.value:+.1f}",
        "-" if rung.made_s is None else number_text(rung.made_s, 3),
        even,
    )
