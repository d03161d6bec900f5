"""A trained router in one file: arrays and a header, nothing that can run code.

The file is a zip of NumPy arrays (``.npz``) read with pickles refused. It holds what a decision needs and
nothing of the training queries but terms that occur in at least two of them.
"""

from __future__ import annotations

import io
import json
import os
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from negajoule.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["SCHEMA", "RouterFile", "load_router_file"]

SCHEMA = "negajoule.router/1"


@dataclass(frozen=True)
class RouterFile:
    """What training learned. T tasks, M models, V terms, F features of the surface.

    Attributes:
        models: names of the models.
        tasks: names of the tasks, largest groups of queries that were told apart in training.
        terms: the vocabulary.
        rarity: inverse document frequency of each term (V).
        unknown_rarity: what every other term counts as.
        surface_mean: means of the surface's features (F).
        surface_scale: their scales (F).
        weights: terms and features to task logits, score residuals, log-length residuals (V + F, T + 2M).
        intercept: of the same (T + 2M).
        sharpness: what the logits of tasks are multiplied with where a prompt isn't new.
        caution: the same where it's wholly new.
        trust: share of a known task's deviation that is believed of a wholly new prompt resembling it.
        familiar: direction of each task in the space of terms (V, T), for novelty.
        familiar_low: similarity to the nearest task below which a prompt is wholly new.
        familiar_high: similarity above which it isn't new at all.
        usual_novelty: mean novelty of the training queries, out of fold.
        task_score: mean score of each model on each task, shrunk to the model's mean (T, M).
        task_error: standard error of the same (T, M).
        task_share: share of each task in training (T).
        mean_score: score of each model, mean over tasks (M).
        mean_energy_j: energy of each model on the training traffic [J] (M).
        slope: calibration, score = offset + slope * raw (M).
        offset: likewise (M).
        transfer: covariance of what predictions for whole unseen tasks were wrong by (M, M).
        noise: variance of a single outcome around its prediction (M).
        task_length: mean logarithm of answers' tokens by task and model (T, M).
        length_spread: standard deviation of the logarithm left over (M).
        input_j: energy of a token of the prompt [J] (M).
        output_j: energy of a token of the answer [J] (M).
        trained_on: queries in training.
    """

    models: tuple[str, ...]
    tasks: tuple[str, ...]
    terms: tuple[str, ...]
    rarity: Floats
    unknown_rarity: float
    surface_mean: Floats
    surface_scale: Floats
    weights: NDArray[np.float32]
    intercept: Floats
    sharpness: float
    caution: float
    trust: float
    familiar: NDArray[np.float32]
    familiar_low: float
    familiar_high: float
    usual_novelty: float
    task_score: Floats
    task_error: Floats
    task_share: Floats
    mean_score: Floats
    mean_energy_j: Floats
    slope: Floats
    offset: Floats
    transfer: Floats
    noise: Floats
    task_length: Floats
    length_spread: Floats
    input_j: Floats
    output_j: Floats
    trained_on: int

    def save(self, path: Path) -> None:
        """Write the file; an interrupted write leaves the old one.

        Raises:
            ConfigError: C106 if it can't be written.
        """
        header: dict[str, Any] = {"schema": SCHEMA}
        arrays: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                arrays[field.name] = value
            else:
                header[field.name] = value
        buffer = io.BytesIO()
        text = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
        np.savez_compressed(buffer, header=text, **arrays)
        waiting = path.with_name(path.name + ".new")
        try:
            waiting.write_bytes(buffer.getvalue())
            os.replace(waiting, path)  # noqa: PTH105 (one atomic step)
        except OSError as error:
            raise ConfigError(f"the router can't be written to {path}: {error}", code="C106") from error


def load_router_file(path: Path) -> RouterFile:
    """Read a trained router.

    Raises:
        ConfigError: C106 if the file is missing, cut short, of another schema or inconsistent.
    """
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            header = json.loads(bytes(archive["header"]))
            arrays = {name: archive[name] for name in archive.files if name != "header"}
    except (OSError, ValueError, KeyError, EOFError, UnicodeDecodeError) as error:
        raise _broken(path, str(error)) from error
    except Exception as error:  # zipfile and zlib raise classes of their own
        raise _broken(path, f"{type(error).__name__}: {error}") from error
    if not isinstance(header, dict) or header.pop("schema", None) != SCHEMA:
        raise _broken(path, f"its schema isn't {SCHEMA}")
    for name in ("models", "tasks", "terms"):
        header[name] = tuple(header.get(name, ()))
    try:
        file = RouterFile(**header, **arrays)
    except TypeError as error:
        raise _broken(path, str(error)) from error
    _check(path, file)
    return file


def _broken(path: Path, why: str) -> ConfigError:
    return ConfigError(
        f"{path} isn't a router that can be read: {why}",
        code="C106",
        fix="negajoule route train",
    )


def _check(path: Path, file: RouterFile) -> None:
    tasks, models, terms = len(file.tasks), len(file.models), len(file.terms)
    width, features = tasks + 2 * models, len(file.surface_mean)
    shapes = {
        "rarity": (terms,),
        "surface_scale": (features,),
        "weights": (terms + features, width),
        "intercept": (width,),
        "familiar": (terms, tasks),
        "task_score": (tasks, models),
        "task_error": (tasks, models),
        "task_share": (tasks,),
        "task_length": (tasks, models),
        "transfer": (models, models),
    }
    for name in (
        "mean_score",
        "mean_energy_j",
        "slope",
        "offset",
        "noise",
        "length_spread",
        "input_j",
        "output_j",
    ):
        shapes[name] = (models,)
    for name, shape in shapes.items():
        array = getattr(file, name)
        if array.shape != shape:
            raise _broken(path, f"{name} has shape {array.shape}, expected {shape}")
        if not np.isfinite(array).all():
            raise _broken(path, f"{name} holds values that aren't finite")
