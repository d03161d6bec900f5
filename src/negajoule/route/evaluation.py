"""Judging a router on a table of outcomes: curve, equal accuracy, fair split, regret, calibration, baselines.

A lambda that was picked on the queries it is judged on flatters. So besides the curve there is the fair
split: the price is chosen on one half, with a margin, and read on the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from negajoule.errors import ConfigError
from negajoule.route.curve import Curve, Frame, frame_of, gap_recovered, hypervolume, share_needed
from negajoule.route.energy import expected_energy_j
from negajoule.route.mix import CAUTION, doubt_of, mixed_choice, safe_choice
from negajoule.route.predict import Prediction, Predictor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from negajoule.route.outcomes import Outcomes
    from negajoule.route.router_file import RouterFile

    Floats = NDArray[np.float64]

__all__ = ["Evaluation", "FairSplit", "evaluate", "fair_split", "frontier", "price_grid", "table_text"]

SPLITS = 40
TOLERANCE = 0.005
SAVED = 0.18
GRID = 81
NORMAL_95 = 1.645
BINS = 10
CURVE_SHARES = (0.2, 0.4, 0.6, 0.8)


class FairSplit(msgspec.Struct, frozen=True):
    """Price chosen on one half of the queries, read on the other.

    Attributes:
        energy_share: energy used, as a share of the best single model's.
        change: mean change of accuracy against that model.
        change_low: lower 95 % bound of it (one-sided; queries are the sample).
        passes: at least 18 % saved and no more than half a point lost at the lower bound.
    """

    energy_share: float
    change: float
    change_low: float
    passes: bool


class Evaluation(msgspec.Struct, frozen=True):
    """What a router is worth on a table of outcomes.

    Attributes:
        queries: complete queries, on which everything here rests.
        left_out: queries with a gap.
        best: best single model.
        best_accuracy: its accuracy.
        best_energy_j: its mean energy [J per query].
        cheapest: cheapest single model.
        cheapest_accuracy: its accuracy.
        cheapest_energy_j: its mean energy [J per query].
        area: mean accuracy over budgets between these two energies.
        blind_area: the same of the query-blind mix fitted on these very queries.
        line_area: the same of a random mix of cheapest and best.
        oracle_area: the same of one that knows every outcome.
        energy_at_best: share of the best model's energy at which its accuracy is reached; None if never.
        accuracy_at: accuracy with 20, 40, 60 and 80 % of the best model's energy.
        blind_accuracy_at: the same of the query-blind mix.
        regret: mean distance to the oracle's accuracy over budgets.
        calibration_error: expected error of calibration over ten bins, mean of models.
        energy_bias: predicted over real energy less 1, all models.
        hypervolume: dominated area, energy as a share of the best single's.
        recovered: APGR, for pools of two; else None.
        needed_50: CPT50, likewise.
        needed_80: CPT80, likewise.
        fair: the fair split.
        curve_energy_j: points of the curve [J per query].
        curve_accuracy: likewise.
        blind_curve_energy_j: of the query-blind mix.
        blind_curve_accuracy: likewise.
    """

    queries: int
    left_out: int
    best: str
    best_accuracy: float
    best_energy_j: float
    cheapest: str
    cheapest_accuracy: float
    cheapest_energy_j: float
    area: float
    blind_area: float
    line_area: float
    oracle_area: float
    energy_at_best: float | None
    accuracy_at: tuple[float, ...]
    blind_accuracy_at: tuple[float, ...]
    regret: float
    calibration_error: float
    energy_bias: float
    hypervolume: float
    recovered: float | None
    needed_50: float | None
    needed_80: float | None
    fair: FairSplit
    curve_energy_j: tuple[float, ...]
    curve_accuracy: tuple[float, ...]
    blind_curve_energy_j: tuple[float, ...]
    blind_curve_accuracy: tuple[float, ...]


def price_grid(score: Floats, energy_j: Floats) -> Floats:
    """Prices [score per J] from nothing to where only the cheapest is taken."""
    spread = float(np.ptp(energy_j.mean(axis=0)))
    top = max(float(np.ptp(score)), 1e-3) / max(spread, 1e-12)
    return np.concatenate([[0.0], np.geomspace(1e-4, 100.0, GRID - 1) * top])


def frontier(worth_of: Floats, expected_j: Floats, score: Floats, energy_j: Floats) -> tuple[Floats, Floats]:
    """Mean energy and accuracy at every price, when each query takes its best worth."""
    rows = np.arange(len(score))
    points = []
    for price in price_grid(worth_of, expected_j):
        choice = np.argmax(worth_of - price * expected_j, axis=1)
        points.append((energy_j[rows, choice].mean(), score[rows, choice].mean()))
    energy, accuracy = np.array(points).T
    return energy, accuracy


def safe_frontier(
    file: RouterFile, prediction: Prediction, expected_j: Floats, score: Floats, energy_j: Floats
) -> tuple[Floats, Floats, NDArray[np.intp]]:
    """The same for the safe choice: the mix of training rules where prompts or traffic are new.

    The third part holds the choices at every price, the safe ones and then the learned ones without guard:
    who has judged answers, as the fair split has, may choose between them.
    """
    rows = np.arange(len(score))
    doubt = doubt_of(prediction.novelty, float(prediction.novelty.mean()), file.usual_novelty)
    safe, learned = [], []
    for price in price_grid(prediction.score, expected_j):
        blind = np.full(len(score), mixed_choice(file.mean_score, file.mean_energy_j, price))
        worth = prediction.score - price * expected_j
        safe.append(safe_choice(worth, prediction.error, doubt, blind, caution=CAUTION).chosen)
        learned.append(np.argmax(worth, axis=1))
    energy = np.array([energy_j[rows, choice].mean() for choice in safe])
    accuracy = np.array([score[rows, choice].mean() for choice in safe])
    return energy, accuracy, np.array(safe + learned)


def expected_j_of(file: RouterFile, prediction: Prediction, outcomes: Outcomes) -> Floats:
    """Expected energy of each query and model [J], from the router's own phases and lengths."""
    in_tokens = np.nan_to_num(outcomes.in_tokens, nan=0.0)
    return expected_energy_j(
        in_tokens, prediction.log_tokens, file.length_spread, file.input_j, file.output_j
    )


def fair_split(choices: NDArray[np.intp], score: Floats, energy_j: Floats, *, seed: int = 0) -> FairSplit:
    """Choose a price on one half so that accuracy surely holds there, read it on the other; 40 splits.

    On the first half the cheapest price is taken whose lower 95 % bound of the change against that half's
    best single model is no more than half a point down (a test of non-inferiority); if there is none, the
    best single model itself. The lower bound of the result takes each query's mean change over the splits
    that read it as one sample.

    Args:
        choices: prices x queries: which model each query gets at each price.
        score: queries x models.
        energy_j: queries x models [J].
        seed: of the splits.
    """
    rng = np.random.default_rng(seed)
    rows = np.arange(len(score))
    taken_score, taken_j = score[rows, choices], energy_j[rows, choices]
    change_sum, count = np.zeros(len(score)), np.zeros(len(score))
    shares = []
    for _ in range(SPLITS):
        first = rng.permutation(len(score)) < len(score) // 2
        second = ~first
        best = frame_of(score[first], energy_j[first]).best
        difference = taken_score[:, first] - score[first, best]
        low = difference.mean(axis=1) - NORMAL_95 * difference.std(axis=1) / np.sqrt(first.sum())
        passing = np.flatnonzero(low >= -TOLERANCE)
        if len(passing):
            row = passing[np.argmin(taken_j[passing][:, first].mean(axis=1))]
            change, used = taken_score[row, second] - score[second, best], taken_j[row, second]
        else:
            change, used = np.zeros(int(second.sum())), energy_j[second, best]
        change_sum[second] += change
        count[second] += 1
        shares.append(used.mean() / energy_j[second, best].mean())
    each = change_sum[count > 0] / count[count > 0]
    low_bound = float(each.mean() - NORMAL_95 * each.std() / np.sqrt(len(each)))
    share = float(np.mean(shares))
    return FairSplit(share, float(each.mean()), low_bound, share <= 1 - SAVED and low_bound >= -TOLERANCE)


def evaluate(file: RouterFile, outcomes: Outcomes, *, safe: bool = True) -> Evaluation:
    """Judge a router on outcomes of the models it knows.

    Args:
        file: a trained router.
        outcomes: what happened; queries with a gap in score or energy are left out and counted.
        safe: whether the mix of training rules where prompts or traffic are new.

    Raises:
        ConfigError: C106 if no query is complete or the pools don't share a model.
    """
    shared = [model for model in file.models if model in outcomes.models]
    if not shared:
        raise ConfigError("the router and the outcomes have no model in common", code="C106")
    known = [file.models.index(model) for model in shared]
    complete = _of_models(outcomes, shared).complete()
    if not len(complete):
        raise ConfigError("no query has a score and an energy of every model", code="C106")
    file = _of_columns(file, known)
    prediction = Predictor(file).predict_all(complete.prompts)
    score, energy_j = complete.score, complete.energy_j
    expected = expected_j_of(file, prediction, complete)
    if safe:
        energy, accuracy, choices = safe_frontier(file, prediction, expected, score, energy_j)
    else:
        grid = price_grid(prediction.score, expected)
        choices = np.array([np.argmax(prediction.score - price * expected, axis=1) for price in grid])
        energy, accuracy = frontier(prediction.score, expected, score, energy_j)
    return _judge(file, complete, prediction, expected, energy, accuracy, choices, len(outcomes))


def _of_models(outcomes: Outcomes, models: list[str]) -> Outcomes:
    columns = [outcomes.models.index(model) for model in models]
    return type(outcomes)(
        outcomes.prompts,
        outcomes.tasks,
        tuple(models),
        outcomes.score[:, columns],
        outcomes.in_tokens[:, columns],
        outcomes.out_tokens[:, columns],
        outcomes.energy_j[:, columns],
        outcomes.evaluation_only,
    )


def _of_columns(file: RouterFile, columns: list[int]) -> RouterFile:
    """The same router for some of its models."""
    if len(columns) == len(file.models):
        return file
    from dataclasses import replace

    tasks, models = len(file.tasks), len(file.models)
    kept = [*range(tasks), *(tasks + c for c in columns), *(tasks + models + c for c in columns)]
    vectors = (
        "mean_score",
        "mean_energy_j",
        "slope",
        "offset",
        "noise",
        "length_spread",
        "input_j",
        "output_j",
    )
    changed = {name: getattr(file, name)[columns] for name in vectors}
    tables = {name: getattr(file, name)[:, columns] for name in ("task_score", "task_error", "task_length")}
    return replace(
        file,
        models=tuple(file.models[column] for column in columns),
        weights=file.weights[:, kept],
        intercept=file.intercept[kept],
        transfer=file.transfer[np.ix_(columns, columns)],
        **changed,
        **tables,
    )


def _judge(
    file: RouterFile,
    outcomes: Outcomes,
    prediction: Prediction,
    expected: Floats,
    energy: Floats,
    accuracy: Floats,
    choices: NDArray[np.intp],
    total: int,
) -> Evaluation:
    score, energy_j = outcomes.score, outcomes.energy_j
    frame = frame_of(score, energy_j)
    singles_j, singles = energy_j.mean(axis=0), score.mean(axis=0)
    curve, blind = Curve(energy, accuracy), Curve(singles_j, singles)
    oracle = Curve(*frontier(score, energy_j, score, energy_j))
    ends = [frame.cheapest, frame.best]
    line = Curve(singles_j[ends], singles[ends])
    shares = np.array(CURVE_SHARES) * frame.high_j
    reached = curve.energy_at(frame.best_accuracy) / frame.high_j
    pair = _pair(prediction, score, frame) if len(file.models) == 2 else (None, None, None)
    area, oracle_area = (_area(each, frame) for each in (curve, oracle))
    return Evaluation(
        queries=len(outcomes),
        left_out=total - len(outcomes),
        best=file.models[frame.best],
        best_accuracy=frame.best_accuracy,
        best_energy_j=frame.high_j,
        cheapest=file.models[frame.cheapest],
        cheapest_accuracy=float(singles[frame.cheapest]),
        cheapest_energy_j=frame.low_j,
        area=area,
        blind_area=_area(blind, frame),
        line_area=_area(line, frame),
        oracle_area=oracle_area,
        energy_at_best=float(reached) if np.isfinite(reached) else None,
        accuracy_at=tuple(curve.accuracy_at(shares).tolist()),
        blind_accuracy_at=tuple(blind.accuracy_at(shares).tolist()),
        regret=oracle_area - area,
        calibration_error=calibration_error(prediction.score, score),
        energy_bias=float(expected.sum() / energy_j.sum() - 1.0),
        hypervolume=hypervolume(energy, accuracy, frame.high_j),
        recovered=pair[0],
        needed_50=pair[1],
        needed_80=pair[2],
        fair=fair_split(choices, score, energy_j),
        curve_energy_j=tuple(curve.energy_j.tolist()),
        curve_accuracy=tuple(curve.accuracy.tolist()),
        blind_curve_energy_j=tuple(blind.energy_j.tolist()),
        blind_curve_accuracy=tuple(blind.accuracy.tolist()),
    )


def _area(curve: Curve, frame: Frame) -> float:
    return curve.area(frame.low_j, max(frame.high_j, frame.low_j))


def _pair(
    prediction: Prediction, score: Floats, frame: Frame
) -> tuple[float | None, float | None, float | None]:
    strong, weak = frame.best, 1 - frame.best
    gain = prediction.score[:, strong] - prediction.score[:, weak]
    values = [gap_recovered(gain, score[:, weak], score[:, strong])]
    values += [share_needed(gain, score[:, weak], score[:, strong], part) for part in (0.5, 0.8)]
    finite = [value if np.isfinite(value) else None for value in values]
    return finite[0], finite[1], finite[2]


def calibration_error(predicted: Floats, score: Floats) -> float:
    """Mean distance of predicted and real scores over ten bins of the predicted, weighted, mean of models."""
    errors = []
    for model in range(score.shape[1]):
        bins = np.minimum((predicted[:, model] * BINS).astype(int), BINS - 1)
        distance = score[:, model] - predicted[:, model]
        totals = np.bincount(bins, weights=distance, minlength=BINS)
        errors.append(float(np.abs(totals).sum() / len(score)))
    return float(np.mean(errors))


def table_text(evaluation: Evaluation) -> str:
    """The evaluation as lines for people."""
    e = evaluation
    share = "never" if e.energy_at_best is None else f"{e.energy_at_best:.1%}"
    rows = [
        ("queries (left out for gaps)", f"{e.queries} ({e.left_out})"),
        ("best single model", f"{e.best}: {e.best_accuracy:.3f} for {e.best_energy_j:.4g} J"),
        ("cheapest single model", f"{e.cheapest}: {e.cheapest_accuracy:.3f} for {e.cheapest_energy_j:.4g} J"),
        ("area: router", f"{e.area:.4f}"),
        ("area: query-blind mix, fitted here", f"{e.blind_area:.4f}"),
        ("area: cheapest and best at random", f"{e.line_area:.4f}"),
        ("area: oracle", f"{e.oracle_area:.4f}"),
        ("energy at the best single's accuracy", share),
        ("accuracy at 20/40/60/80 % energy", " ".join(f"{value:.3f}" for value in e.accuracy_at)),
        ("the same, query-blind mix", " ".join(f"{value:.3f}" for value in e.blind_accuracy_at)),
        ("regret against the oracle", f"{e.regret:.4f}"),
        ("calibration error", f"{e.calibration_error:.4f}"),
        ("energy bias", f"{e.energy_bias:+.1%}"),
        ("hypervolume", f"{e.hypervolume:.4f}"),
        (
            "fair split: energy; change; lower bound",
            f"{e.fair.energy_share:.1%}; {e.fair.change:+.2%}; {e.fair.change_low:+.2%}",
        ),
    ]
    if e.recovered is not None:
        rows.append(("APGR", f"{e.recovered:.4f}"))
    width = max(len(label) for label, _ in rows)
    return "\n".join(f"{label:<{width}}  {value}" for label, value in rows)
