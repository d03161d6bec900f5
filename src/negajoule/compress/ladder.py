"""A study of one generative model in several formats: tokens for each CPU-second, energy, perplexity, size.

Everything is paired. In a round every file answers the same prompts, each in a process of its own, in an
order that turns from round to round. Every file is judged by the same tokens of the same texts. The
baseline is F32 in the same engine; a change of engine, if wanted, is a row of its own. An interrupted
study goes on: rounds and probabilities that were finished are kept beside the files.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Literal

import msgspec

from negajoule.compress.calibration import load_whole
from negajoule.compress.generative_worker import Found, Job, run_job
from negajoule.compress.gguf_recipes import GgufRecipe, bits_per_weight, make_gguf
from negajoule.compress.paired import CONFIDENCE, DRAWS, SEED, Interval, median_interval
from negajoule.compress.passages import Passages, tokens_of
from negajoule.compress.workshop import Workshop
from negajoule.engine.siblings import file_sha256
from negajoule.errors import CompressError
from negajoule.fingerprint import fingerprint
from negajoule.meter import Meter, Window, read_host
from negajoule.units import Energy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from negajoule.ledger import Stage

__all__ = ["Ladder", "LadderPlan", "LadderResult", "Rung", "perplexity", "perplexity_added"]

BASELINE = GgufRecipe("F32")
OTHER_ENGINE: Literal["transformers"] = "transformers"


class LadderPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is studied, and how.

    Attributes:
        source: a GGUF file.
        recipes: to try, besides F32.
        passages: texts.
        shipped: measure the file itself, too.
        other_engine: measure the baseline in transformers, too: what a change of engine does by itself.
        rounds: how often each file answers the prompts.
        prompts: how many prompts in a round.
        prompt_tokens: length of a prompt, at most.
        answer_tokens: length of an answer.
        judged_tokens: length of a judged text, at most.
        calibration_tokens: length of a calibration text, at most.
        threads: of each process.
    """

    source: Path
    recipes: tuple[GgufRecipe, ...]
    passages: Passages
    shipped: bool = True
    other_engine: bool = False
    rounds: int = 7
    prompts: int = 4
    prompt_tokens: int = 64
    answer_tokens: int = 48
    judged_tokens: int = 128
    calibration_tokens: int = 192
    threads: int = 1


class Rung(msgspec.Struct, frozen=True, kw_only=True):
    """One file.

    Attributes:
        name: of the recipe, or "as shipped".
        recipe: as it is written; empty for what no recipe made.
        file: the file.
        layer_bits: mean bits of a weight in the layers' matrices [bit].
        all_bits: mean bits of a weight of the whole model [bit].
        size_bytes: of the file [B].
        peak_bytes: the most memory that a process with it held [B].
        prefill: prompt tokens for each CPU-second, median of the rounds [1/s].
        decode: produced tokens for each CPU-second, median of the rounds [1/s].
        gain: ratio of that to the baseline's, in the same rounds [1].
        prefill_gain: the same of prompts [1].
        energy: of 1,000 produced tokens with their prompts, with the meter's bounds [J].
        saving: share of the baseline's energy that is saved [1].
        perplexity: on the judged texts [1].
        added: share of perplexity added against the baseline, on the same tokens [1].
        made_j: energy of making it [J].
        made_s: CPU time of making it [s].
        break_even: produced tokens after which making it has paid for itself; ``None`` if it never does.
        claims: what may be said of it.
    """

    name: str
    recipe: str
    file: str
    layer_bits: float
    all_bits: float
    size_bytes: int
    peak_bytes: int
    prefill: float
    decode: float
    gain: Interval
    prefill_gain: Interval
    energy: Energy
    saving: Interval
    perplexity: float
    added: Interval
    made_j: float | None
    made_s: float | None
    break_even: Interval | None
    claims: tuple[str, ...]


class LadderResult(msgspec.Struct, frozen=True, kw_only=True):
    """A study's result.

    Attributes:
        model: the file that was compressed.
        data: the texts' name.
        judged_texts: how many.
        judged_tokens: how many tokens in all.
        rounds: whole ones.
        engine: that ran all files.
        threads: of each process.
        machine: its processor.
        rungs: the baseline first.
        engine_gain: what the engine alone gains: the baseline's tokens for each CPU-second over those of the
            same weights in transformers; ``None`` if that wasn't measured [1].
        notes: what readers must know.
    """

    schema: str = "negajoule.compress-ladder/1"
    model: str
    data: str
    judged_texts: int
    judged_tokens: int
    rounds: int
    engine: str
    threads: int
    machine: str
    rungs: tuple[Rung, ...]
    engine_gain: Interval | None = None
    notes: tuple[str, ...] = ()

    def rung(self, name: str) -> Rung:
        """The rung of a recipe."""
        return next(rung for rung in self.rungs if rung.name == name)


class _Made(msgspec.Struct, frozen=True):
    """What making a file took; ``None`` if it was there before anybody measured."""

    window: Window | None


class Ladder:
    """A study in a folder.

    Args:
        plan: what is studied.
        folder: where; what is finished there isn't done again.
        say: told what happens.

    Raises:
        CompressError: (K107) if the folder holds a study of other texts, lengths or another model.
    """

    def __init__(self, plan: LadderPlan, folder: Path, say: Callable[[str], None] = lambda _: None) -> None:
        self.plan, self.folder, self._say = plan, folder, say
        self.workshop = Workshop(folder)
        self.workshop.keep_plan(
            {
                "schema": "negajoule.compress-ladder-plan/1",
                "model": file_sha256(plan.source),
                "texts": plan.passages.fingerprint,
                "prompts": plan.prompts,
                "prompt_tokens": plan.prompt_tokens,
                "answer_tokens": plan.answer_tokens,
                "judged_tokens": plan.judged_tokens,
                "calibration_tokens": plan.calibration_tokens,
                "threads": plan.threads,
            }
        )

    def run(self) -> LadderResult:
        """Make the files, judge them, measure them in turn.

        Raises:
            CompressError: if a file can't be made or run; what was finished before is kept.
        """
        plan = self.plan
        judged = tokens_of(plan.source, plan.passages.test, plan.judged_tokens)
        prompts = tuple(tuple(ids[: plan.prompt_tokens]) for ids in judged[: plan.prompts])
        files, made = self._make()
        scores = {name: self._judge(name, file, judged) for name, file in files.items()}
        rounds = self._measure(self._jobs(files, prompts))
        rungs = [self._rung(name, files, scores, rounds, made) for name in files]
        return LadderResult(
            model=plan.source.name,
            data=plan.passages.name,
            judged_texts=len(judged),
            judged_tokens=sum(len(ids) - 1 for ids in judged),
            rounds=len(rounds),
            engine=_engine_name(),
            threads=plan.threads,
            machine=read_host().cpu,
            rungs=tuple(rungs),
            engine_gain=_engine_gain(rounds),
            notes=_notes(rounds, plan),
        )

    def _make(self) -> tuple[dict[str, Path], dict[str, _Made]]:
        """The files by name, the baseline first."""
        plan = self.plan
        recipes = dict.fromkeys((BASELINE, *plan.recipes))
        calibration: list[list[int]] = []
        if any(recipe.calibrated for recipe in recipes) and plan.passages.calibration:
            calibration = tokens_of(plan.source, plan.passages.calibration, plan.calibration_tokens)
        files, made = {}, {}
        meter = Meter.for_process()
        for recipe in recipes:
            receipt = self.folder / f"made-{recipe.name}.json"
            started_s, before = time.time(), meter.read()
            files[recipe.name] = make_gguf(
                recipe, plan.source, self.folder / "models", calibration, self._say
            )
            if not receipt.exists():
                self._say(f"{recipe.name}: made")
                window = meter.between(before, meter.read())
                self._spend(f"{recipe.name}/making", "development", started_s, window)
                receipt.write_bytes(msgspec.json.encode(_Made(window)))
            made[recipe.name] = msgspec.json.decode(receipt.read_bytes(), type=_Made)
        if plan.shipped:
            files["as shipped"] = plan.source
            made["as shipped"] = _Made(None)
        return files, made

    def _judge(self, name: str, file: Path, judged: Sequence[Sequence[int]]) -> list[list[float]]:
        """The logarithms of probabilities of every token, by text."""
        asked = fingerprint(msgspec.json.encode((file_sha256(file), judged)))
        kept = self.folder / f"judged-{name.replace(' ', '-')}.json"
        if kept.exists():
            known = msgspec.json.decode(kept.read_bytes(), type=tuple[str, list[list[float]]])
            if known[0] == asked:
                return known[1]
        self._say(f"{name}: judged by {len(judged)} texts")
        job = Job(model=str(file), threads=self.plan.threads, judged=tuple(map(tuple, judged)))
        done = run_job(job, self._log(name))
        found = [list(text) for text in done.log_probabilities]
        self._spend(f"{name}/judged", "evaluation", done.started_s, done.window)
        fresh = kept.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode((asked, found)))
        fresh.replace(kept)
        return found

    def _jobs(self, files: dict[str, Path], prompts: tuple[tuple[int, ...], ...]) -> dict[str, Job]:
        """What each file does in a round; the baseline in another engine among them, if that is wanted."""
        common = Job(
            model="", threads=self.plan.threads, prompts=prompts, answer_tokens=self.plan.answer_tokens
        )
        jobs = {name: msgspec.structs.replace(common, model=str(file)) for name, file in files.items()}
        if self.plan.other_engine:
            folder = self.folder / "models" / OTHER_ENGINE
            if not (folder / "config.json").exists():
                load_whole(self.plan.source).save_pretrained(folder)
            jobs[OTHER_ENGINE] = msgspec.structs.replace(common, engine=OTHER_ENGINE, model=str(folder))
        return jobs

    def _measure(self, jobs: dict[str, Job]) -> list[dict[str, Found]]:
        names = list(jobs)
        rounds = [one for one in self._rounds() if set(one) == set(names)]
        for number in range(len(rounds), self.plan.rounds):
            self._say(f"round {number + 1} of {self.plan.rounds}")
            turn = number % len(names)
            order = names[turn:] + names[:turn]
            seen = {}
            for name in order if number % 2 == 0 else reversed(order):
                done = seen[name] = run_job(jobs[name], self._log(name))
                self._spend(f"{name}/round {number + 1}", "evaluation", done.started_s, done.window)
            rounds.append(seen)
            with (self.folder / "rounds.jsonl").open("ab") as file:
                file.write(msgspec.json.encode(seen) + b"\n")
        return rounds[: self.plan.rounds]

    def _rounds(self) -> list[dict[str, Found]]:
        file = self.folder / "rounds.jsonl"
        if not file.exists():
            return []
        # A line without its end was cut off by whatever interrupted us.
        return [
            msgspec.json.decode(line, type=dict[str, Found]) for line in file.read_bytes().split(b"\n")[:-1]
        ]

    def _spend(self, what: str, stage: Stage, started_s: float, window: Window | None) -> None:
        """Add a piece of work to the list for the ledger."""
        assert window is not None, "all work is metered"
        self.workshop.spend(f"compress/{self.plan.passages.name}/{what}", stage, started_s, window)

    def _log(self, name: str) -> Path:
        return self.folder / "logs" / f"{name.replace(' ', '-')}.log"

    def _rung(
        self,
        name: str,
        files: dict[str, Path],
        scores: dict[str, list[list[float]]],
        rounds: Sequence[dict[str, Found]],
        made: dict[str, _Made],
    ) -> Rung:
        base = BASELINE.name
        mine = [one[name] for one in rounds]
        pairs = [(one[name], one[base]) for one in rounds]
        layer_bits, all_bits = bits_per_weight(files[name])
        saving = median_interval([1 - a.energy_per_token_j / b.energy_per_token_j for a, b in pairs])
        window = made[name].window
        middle = sorted(mine, key=lambda found: found.energy_per_token_j)[len(mine) // 2]
        assert middle.window is not None, "a round answers prompts"
        before_j = median(one[base].energy_per_token_j for one in rounds)
        rung = Rung(
            name=name,
            recipe=next((recipe.text for recipe in self.plan.recipes if recipe.name == name), ""),
            file=str(files[name]),
            layer_bits=layer_bits,
            all_bits=all_bits,
            size_bytes=files[name].stat().st_size,
            peak_bytes=max(found.peak_bytes for found in mine),
            prefill=median(found.prefill_tokens_per_cpu_s for found in mine),
            decode=median(found.decode_tokens_per_cpu_s for found in mine),
            gain=median_interval([a.decode_tokens_per_cpu_s / b.decode_tokens_per_cpu_s for a, b in pairs]),
            prefill_gain=median_interval(
                [a.prefill_tokens_per_cpu_s / b.prefill_tokens_per_cpu_s for a, b in pairs]
            ),
            energy=middle.window.energy * (1000 / middle.output_tokens),
            saving=saving,
            perplexity=perplexity(scores[name]),
            added=perplexity_added(scores[name], scores[base]),
            made_j=None if window is None else window.energy.value,
            made_s=None if window is None else window.cpu_s,
            break_even=_break_even(window, before_j, saving),
            claims=(),
        )
        return msgspec.structs.replace(rung, claims=_claims(rung))


def perplexity(scores: Sequence[Sequence[float]]) -> float:
    """The exponential of the mean of minus the logarithms of probabilities, over all tokens of all texts."""
    tokens = sum(map(len, scores))
    return math.exp(-sum(map(sum, scores)) / tokens)


def perplexity_added(after: Sequence[Sequence[float]], before: Sequence[Sequence[float]]) -> Interval:
    """Share of perplexity added, with a bootstrap interval over texts, each drawn with both of its sides.

    Raises:
        CompressError: (K107) if the two weren't judged by the same tokens.
    """
    import numpy as np

    if [len(text) for text in after] != [len(text) for text in before]:
        raise CompressError("two files were judged by different tokens", code="K107")
    lost = np.array([sum(old) - sum(new) for new, old in zip(after, before, strict=True)])
    tokens = np.array([len(text) for text in after])
    value = math.expm1(lost.sum() / tokens.sum())
    if len(lost) < 2:
        return Interval(value)
    drawn = np.random.default_rng(SEED).integers(len(lost), size=(DRAWS, len(lost)))
    shares = np.expm1(lost[drawn].sum(1) / tokens[drawn].sum(1))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(shares, (tail, 1 - tail))
    return Interval(value, min(float(low), value), max(float(high), value))


def _engine_gain(rounds: Sequence[dict[str, Found]]) -> Interval | None:
    pairs = [(one[BASELINE.name], one[OTHER_ENGINE]) for one in rounds if OTHER_ENGINE in one]
    if not pairs:
        return None
    return median_interval([a.decode_tokens_per_cpu_s / b.decode_tokens_per_cpu_s for a, b in pairs])


def _break_even(window: Window | None, before_j: float, saving: Interval) -> Interval | None:
    """Tokens until the energy of making it is saved again; the meter's scale cancels."""
    if window is None or saving.low is None or saving.high is None or saving.low <= 0:
        return None
    value, low, high = (
        window.energy.value / (before_j * share) for share in (saving.value, saving.high, saving.low)
    )
    return Interval(value, low, high)


def _claims(rung: Rung) -> tuple[str, ...]:
    """Sentences that the intervals allow."""
    if rung.name == BASELINE.name:
        return ()
    said = []
    gain, added = rung.gain, rung.added
    if gain.low is None or gain.high is None:
        said.append("too few rounds to claim a gain")
    elif gain.low > 1 or gain.high < 1:
        said.append(f"{gain.value:.2f} times the tokens of a CPU-second ({gain.low:.2f} to {gain.high:.2f})")
    else:
        said.append("no difference in tokens of a CPU-second beyond noise")
    if added.low is None or added.high is None:
        said.append("too few texts to claim anything of perplexity")
    elif added.low > 0 or added.high < 0:
        said.append(f"perplexity {added.value:+.1%} ({added.low:+.1%} to {added.high:+.1%})")
    else:
        said.append(f"no difference in perplexity seen; up to {added.high:+.1%} can't be excluded")
    return tuple(said)


def _notes(rounds: Sequence[dict[str, Found]], plan: LadderPlan) -> tuple[str, ...]:
    notes = [
        "perplexity is the engine's own, of the file as it is served",
        "F32 is what the source file holds: what its format has lost before, no file here brings back, and "
        "against it that format itself loses nothing",
    ]
    if any(recipe.calibrated for recipe in plan.recipes):
        notes.append(
            f"calibrated on {len(plan.passages.calibration)} other texts of {plan.passages.name}; "
            "on texts of another kind it may lose more"
        )
    windows = [found.window for one in rounds for found in one.values() if found.window is not None]
    if {window.energy.basis for window in windows} != {"measured"}:
        notes.append(
            "energies come of a model, so that their scale is uncertain; CPU time is measured; shares and "
            "break-even counts don't depend on that scale"
        )
    waited = median(window.seconds * plan.threads / window.cpu_s for window in windows if window.cpu_s > 0)
    if waited > 1.3:
        notes.append(f"the machine was busy: {waited:.1f} s passed for each CPU-second")
    return tuple(notes)


def _engine_name() -> str:
    from importlib.metadata import version

    return f"llama.cpp in xllamacpp {version('xllamacpp')}"
