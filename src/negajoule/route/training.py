"""Training: tasks, scores and lengths from a table of outcomes, with scikit-learn.

What a call chooses, it chooses inside its training data: residuals are fitted on task probabilities that
their own queries didn't shape (cross-fitting), their strength by cross-validation, and what to expect of
tasks never seen by leaving whole tasks out in turn.
"""

from __future__ import annotations

import warnings
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from negajoule.errors import ConfigError
from negajoule.extras import require
from negajoule.route.predict import SURFACE_LIMIT, SURFACE_WEIGHT
from negajoule.route.router_file import RouterFile
from negajoule.route.shrink import shrunk_table
from negajoule.route.text import SURFACE, excerpt, surface, terms, tokens

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from negajoule.route.outcomes import Outcomes

    Floats = NDArray[np.float64]

__all__ = ["train"]

FOLDS = 4
MOST_TERMS = 20_000
LEFT_OUT = 5
MANY_TASKS = 20  # beyond, tasks are left out by halves: each fit takes long and each half has many
SMALLEST_TASK = 15
LEAST_QUERIES = 30
STRENGTHS = (10.0, 30.0, 100.0)
LENGTH_STRENGTH = 10.0
TASK_C = 3.0
ITERATIONS = 40
FAMILIAR = (0.01, 0.2)
SHARPNESS = (1.0, 2.0, 4.0, 8.0, 16.0)
CAUTION = (0.25, 0.5, 1.0)
TRUST = (0.25, 0.5, 0.75, 1.0)
UNKNOWN_VARIANCE = 0.05
LEAST_ERROR = 1e-4
OWN = 0.3  # share of the independent part, for few tasks and many models
PURPOSE = "train a router"


class _Unseen(NamedTuple):
    caution: float
    trust: float
    covariance: Floats


class _Words(NamedTuple):
    matrix: Any
    terms: tuple[str, ...]
    rarity: Floats
    unknown_rarity: float


def train(outcomes: Outcomes, *, seed: int = 0) -> RouterFile:
    """Train a router.

    Gaps are allowed: a query counts for the models that have a score on it. A model with no score at all is
    refused, because nothing can be said of it; leave it out and the router will treat it as new.

    Args:
        outcomes: training queries with their tasks.
        seed: of the folds.

    Raises:
        ConfigError: C106 if there are fewer than 30 queries with a score, a model without any, or a source
            whose authors forbid training on it.
        ExtraMissingError: without scikit-learn.
    """
    outcomes = _usable(outcomes)
    tasks, task = _tasks(outcomes.tasks)
    surfaces = _surfaces(outcomes.prompts)
    mean, scale = surfaces.mean(axis=0), np.maximum(surfaces.std(axis=0), 1e-6)
    words = _words(outcomes.prompts)
    design = _design(words, surfaces, mean, scale)
    rng = np.random.default_rng(seed)
    fold = rng.permutation(len(outcomes)) % FOLDS
    score, lengths = outcomes.score, np.log(np.maximum(outcomes.out_tokens, 1.0))
    lengths = np.where(np.isfinite(lengths), lengths, np.nan)
    mean_score = _mean_over_tasks(score, task, len(tasks))

    logits = np.zeros((len(outcomes), len(tasks)))
    for part in range(FOLDS):
        train_rows, test_rows = fold != part, fold == part
        classifier = _classify(design[train_rows], task[train_rows])
        logits[test_rows] = _logits(classifier, design[test_rows], len(tasks))
    sharpness = min(SHARPNESS, key=lambda factor: _surprise(factor * logits, task))
    crossed = _softmax(sharpness * logits)
    table, error = shrunk_table(score, task, len(tasks), mean_score)
    length_table, _ = shrunk_table(lengths, task, len(tasks), _column_means(lengths))
    residual = score - crossed @ table
    strength, out_of_fold = _strength(design, residual, fold)
    raw = crossed @ table + out_of_fold
    slope, offset = _calibrate(raw, score)
    noise = np.nan_to_num(np.nanvar(score - (offset + slope * raw), axis=0), nan=0.25)
    heads, head_intercept = _heads(design, residual, strength)
    length_residual = lengths - crossed @ length_table
    length_heads, length_intercept = _heads(design, length_residual, LENGTH_STRENGTH)
    spread = np.nan_to_num(np.nanstd(length_residual, axis=0), nan=1.0)

    unseen = _unseen(design, score, task, len(tasks))
    coefficients, intercept = _classify(design, task)
    familiar, low, high, usual = _familiar(words.matrix, task, len(tasks), fold)
    input_j, output_j = _phases(outcomes)
    return RouterFile(
        models=outcomes.models,
        tasks=tasks,
        terms=words.terms,
        rarity=words.rarity,
        unknown_rarity=words.unknown_rarity,
        surface_mean=mean,
        surface_scale=scale,
        weights=np.vstack([coefficients, heads, length_heads]).T.astype(np.float32),
        intercept=np.concatenate([intercept, head_intercept, length_intercept]),
        sharpness=sharpness,
        familiar=familiar,
        familiar_low=low,
        familiar_high=high,
        usual_novelty=usual,
        task_score=table,
        task_error=error,
        task_share=np.bincount(task, minlength=len(tasks)) / len(task),
        mean_score=mean_score,
        mean_energy_j=_mean_energy(outcomes),
        slope=slope,
        offset=offset,
        caution=unseen.caution,
        trust=unseen.trust,
        transfer=unseen.covariance,
        noise=np.maximum(noise, 1e-3),
        task_length=length_table,
        length_spread=spread,
        input_j=input_j,
        output_j=output_j,
        trained_on=len(outcomes),
    )


def _usable(outcomes: Outcomes) -> Outcomes:
    if outcomes.evaluation_only:
        raise ConfigError("the authors of these outcomes allow evaluation only, no training", code="C106")
    scored = np.isfinite(outcomes.score)
    if scored.any(axis=1).sum() < LEAST_QUERIES:
        raise ConfigError(
            f"{scored.any(axis=1).sum()} queries have a score; training needs at least {LEAST_QUERIES}",
            code="C106",
        )
    silent = [model for model, column in zip(outcomes.models, scored.T, strict=True) if not column.any()]
    if silent:
        raise ConfigError(f"no query has a score of {', '.join(silent)}: leave it out", code="C106")
    return outcomes.take(np.asarray(scored.any(axis=1)))


def _tasks(names: NDArray[np.str_]) -> tuple[tuple[str, ...], NDArray[np.intp]]:
    """Number the tasks; what is too small to learn joins its folder, then a task of leftovers."""
    labels = [str(name) for name in names]
    while True:
        counts = Counter(labels)
        small = {label for label, count in counts.items() if count < SMALLEST_TASK and label != "other"}
        if not small:
            break
        labels = [(label.rpartition("/")[0] or "other") if label in small else label for label in labels]
    found = tuple(sorted(set(labels)))
    number = {label: index for index, label in enumerate(found)}
    return found, np.array([number[label] for label in labels], dtype=np.intp)


def _surfaces(prompts: list[str]) -> Floats:
    rows = []
    for prompt in prompts:
        read = excerpt(prompt)
        rows.append(surface(read, tokens(read)))
    return np.array(rows, dtype=float).reshape(len(rows), len(SURFACE))


def _words(prompts: list[str]) -> _Words:
    """TF-IDF of terms that occur in two prompts, at most 20,000; others count as unknown, as when served."""
    text = require("sklearn.feature_extraction.text", extra="route", purpose=PURPOSE)
    sparse = require("scipy.sparse", extra="route", purpose=PURPOSE)
    vectoriser = text.CountVectorizer(analyzer=terms)
    try:
        counts = vectoriser.fit_transform(prompts).astype(float)
    except ValueError as error:
        raise ConfigError("the prompts hold no words to learn from", code="C106") from error
    occurrences = np.bincount(counts.indices, minlength=counts.shape[1])
    kept = np.flatnonzero(occurrences >= 2)
    if len(kept) > MOST_TERMS:
        kept = np.sort(kept[np.argsort(-occurrences[kept], kind="stable")[:MOST_TERMS]])
    if not len(kept):
        raise ConfigError("no word occurs in two prompts, so there is nothing to learn from", code="C106")
    rarity = np.log((1 + len(prompts)) / (1 + occurrences)) + 1.0
    unknown_rarity = float(np.log((1 + len(prompts)) / 2) + 1.0)
    known = counts[:, kept]
    unknown = np.asarray(counts.sum(axis=1) - known.sum(axis=1)).ravel()
    known.data = 1.0 + np.log(known.data)
    weighted = known @ sparse.diags(rarity[kept])
    mass = np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel() + unknown * unknown_rarity**2
    matrix = sparse.diags(1.0 / np.sqrt(np.maximum(mass, 1e-12))) @ weighted
    names = vectoriser.get_feature_names_out()[kept]
    return _Words(matrix.tocsr(), tuple(names.tolist()), rarity[kept], unknown_rarity)


def _design(words: _Words, surfaces: Floats, mean: Floats, scale: Floats) -> Any:  # noqa: ANN401
    sparse = require("scipy.sparse", extra="route", purpose=PURPOSE)
    scaled = np.clip((surfaces - mean) / scale, -SURFACE_LIMIT, SURFACE_LIMIT) * SURFACE_WEIGHT
    return sparse.hstack([words.matrix, sparse.csr_matrix(scaled)], format="csr", dtype=np.float32)


def _classify(design: Any, task: NDArray[np.intp]) -> tuple[Floats, Floats]:  # noqa: ANN401
    """Coefficients (T, D) and intercepts of the task's classifier; tasks absent from it get tiny odds."""
    linear = require("sklearn.linear_model", extra="route", purpose=PURPOSE)
    many = int(task.max()) + 1
    coefficients, intercept = np.zeros((many, design.shape[1])), np.full(many, -30.0)
    present = np.unique(task)
    if len(present) == 1:
        intercept[present] = 0.0
        return coefficients, intercept
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # stopping before convergence regularises
        fitted = linear.LogisticRegression(C=TASK_C, max_iter=ITERATIONS, class_weight="balanced").fit(
            design, task
        )
    if len(present) == 2:
        coefficients[present[1]], intercept[present] = fitted.coef_[0], [0.0, fitted.intercept_[0]]
        return coefficients, intercept
    coefficients[present], intercept[present] = fitted.coef_, fitted.intercept_
    return coefficients, intercept


def _logits(classifier: tuple[Floats, Floats], design: Any, many: int) -> Floats:  # noqa: ANN401
    coefficients, intercept = classifier
    logits = np.full((design.shape[0], many), -30.0)
    logits[:, : len(intercept)] = design @ coefficients.T + intercept
    return logits


def _softmax(logits: Floats) -> Floats:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: Floats = shifted / shifted.sum(axis=1, keepdims=True)
    return probabilities


def _surprise(logits: Floats, task: NDArray[np.intp]) -> float:
    """Mean negative logarithm of the probability of the right task."""
    right = _softmax(logits)[np.arange(len(task)), task]
    return float(-np.log(np.maximum(right, 1e-12)).mean())


def _heads(design: Any, target: Floats, strength: float) -> tuple[Floats, Floats]:  # noqa: ANN401
    """Ridge regressions, one a column; a column with gaps is fitted on what it has."""
    linear = require("sklearn.linear_model", extra="route", purpose=PURPOSE)
    coefficients, intercept = np.zeros((target.shape[1], design.shape[1])), np.zeros(target.shape[1])
    known = np.isfinite(target)
    if known.all():
        fitted = linear.Ridge(alpha=strength, solver="sparse_cg", tol=1e-3).fit(design, target)
        return np.atleast_2d(fitted.coef_), np.atleast_1d(fitted.intercept_)
    for column in range(target.shape[1]):
        rows = known[:, column]
        if rows.sum() >= LEAST_QUERIES:
            fitted = linear.Ridge(alpha=strength, solver="sparse_cg", tol=1e-3).fit(
                design[rows], target[rows, column]
            )
            coefficients[column], intercept[column] = fitted.coef_, fitted.intercept_
    return coefficients, intercept


def _strength(design: Any, residual: Floats, fold: NDArray[np.intp]) -> tuple[float, Floats]:  # noqa: ANN401
    """The ridge's strength with the least squared error out of fold, and its predictions there."""
    best: tuple[float, float, Floats] | None = None
    for strength in STRENGTHS:
        predicted = np.zeros_like(residual)
        for part in range(FOLDS):
            coefficients, intercept = _heads(design[fold != part], residual[fold != part], strength)
            predicted[fold == part] = design[fold == part] @ coefficients.T + intercept
        loss = float(np.nanmean((residual - predicted) ** 2))
        if best is None or loss < best[0]:
            best = loss, strength, predicted
    assert best is not None  # STRENGTHS isn't empty
    return best[1], best[2]


def _calibrate(raw: Floats, score: Floats) -> tuple[Floats, Floats]:
    """Slope and offset per model that make scores out of fold right on average (Platt's idea, linear here).

    A constant score gets slope 1 and the offset that hits it. Slopes are shrunk towards 1 by 50 queries.
    """
    slope, offset = np.ones(raw.shape[1]), np.zeros(raw.shape[1])
    for column in range(raw.shape[1]):
        rows = np.isfinite(score[:, column])
        x, y = raw[rows, column], score[rows, column]
        centred = x - x.mean()
        prior = 50 * float(centred.var())
        total = float(centred @ centred) + prior
        if total > 1e-12:
            slope[column] = (float(centred @ (y - y.mean())) + prior) / total
        offset[column] = y.mean() - slope[column] * x.mean()
    return slope, offset


def _mean_over_tasks(score: Floats, task: NDArray[np.intp], many: int) -> Floats:
    """Each model's mean over tasks, so that a big benchmark doesn't speak for all."""
    means = np.full((many, score.shape[1]), np.nan)
    for number in range(many):
        rows = score[task == number]
        known = np.isfinite(rows)
        if len(rows):
            count = known.sum(axis=0)
            total = np.where(known, rows, 0.0).sum(axis=0)
            means[number] = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
    return _column_means(means)


def _column_means(values: Floats) -> Floats:
    """Mean of each column over what is known; a column without anything gets the mean of the others."""
    known = np.isfinite(values)
    count = known.sum(axis=0)
    total = np.where(known, values, 0.0).sum(axis=0)
    overall = float(total.sum() / count.sum()) if count.sum() else 0.0
    return np.asarray(np.divide(total, count, out=np.full(values.shape[1], overall), where=count > 0))


def _mean_energy(outcomes: Outcomes) -> Floats:
    return _column_means(outcomes.energy_j)


def _familiar(
    matrix: Any,  # noqa: ANN401
    task: NDArray[np.intp],
    many: int,
    fold: NDArray[np.intp],
) -> tuple[NDArray[np.float32], float, float, float]:
    """Directions of the tasks, and the similarities out of fold between which novelty falls.

    Last comes the mean novelty of training itself.
    """
    nearest = np.zeros(len(task))
    for part in range(FOLDS):
        directions = _directions(matrix[fold != part], task[fold != part], many)
        nearest[fold == part] = np.asarray(matrix[fold == part] @ directions).max(axis=1)
    low, high = np.quantile(nearest, FAMILIAR)
    usual = float(np.clip((high - nearest) / max(float(high - low), 1e-9), 0.0, 1.0).mean())
    return _directions(matrix, task, many).astype(np.float32), float(low), float(high), usual


def _directions(matrix: Any, task: NDArray[np.intp], many: int) -> Floats:  # noqa: ANN401
    directions = np.zeros((matrix.shape[1], many))
    for number in np.unique(task).tolist():
        mean = np.asarray(matrix[task == number].mean(axis=0)).ravel()
        norm = float(np.sqrt(mean @ mean))
        if norm > 0:
            directions[:, number] = mean / norm
    return directions


def _unseen(design: Any, score: Floats, task: NDArray[np.intp], many: int) -> _Unseen:  # noqa: ANN401
    """Leave whole tasks out in turn: how far to believe a resemblance, and what remains wrong.

    Caution and trust are those with the least squared error of the differences between models, because only
    differences route. The covariance is shrunk towards independent errors of the mean size; with one task
    it is 0.05 on the diagonal, a standard deviation of 22 points.
    """
    models = score.shape[1]
    nothing = _Unseen(1.0, 1.0, UNKNOWN_VARIANCE * np.eye(models))
    groups = np.arange(many) % min(many, LEFT_OUT if many <= MANY_TASKS else 2)
    errors: dict[tuple[float, float], list[Floats]] = {}
    for group in range(groups.max() + 1):
        left = np.isin(task, np.flatnonzero(groups == group))
        if not left.any() or left.all():
            continue
        centre = _mean_over_tasks(score[~left], task[~left], many)
        table, _ = shrunk_table(score[~left], task[~left], many, centre)
        logits = _logits(_classify(design[~left], task[~left]), design[left], many)
        for caution in CAUTION:
            resembling = _softmax(caution * logits) @ table - centre
            for trust in TRUST:
                wrong = score[left] - centre - trust * resembling
                errors.setdefault((caution, trust), []).extend(
                    _column_means(wrong[task[left] == number]) for number in np.unique(task[left])
                )
    if not errors:
        return nothing
    best = min(errors, key=lambda key: float(np.var(np.array(errors[key]), axis=1).mean()))
    matrix = np.array(errors[best])
    covariance = matrix.T @ matrix / len(matrix)
    size = max(float(np.trace(covariance)) / models, LEAST_ERROR)
    return _Unseen(best[0], best[1], (1 - OWN) * covariance + OWN * size * np.eye(models))


def _phases(outcomes: Outcomes) -> tuple[Floats, Floats]:
    """Energy of a token of the prompt and of the answer [J], by least squares without negative costs."""
    optimise = require("scipy.optimize", extra="route", purpose=PURPOSE)
    models = len(outcomes.models)
    input_j, output_j = np.zeros(models), np.zeros(models)
    for model in range(models):
        tokens_in, tokens_out = outcomes.in_tokens[:, model], outcomes.out_tokens[:, model]
        energy = outcomes.energy_j[:, model]
        rows = np.isfinite(tokens_in) & np.isfinite(tokens_out) & np.isfinite(energy)
        if rows.any():
            matrix = np.column_stack([tokens_in[rows], tokens_out[rows]])
            (input_j[model], output_j[model]), _ = optimise.nnls(matrix, energy[rows])
    return input_j, output_j
