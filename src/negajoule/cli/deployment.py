"""Options that say what serves: a model on accelerators, or a profile of this machine; and its step table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from negajoule.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from negajoule.physics.serving import ModelShape, ServingSetup, StepTable

__all__ = ["deployment_options", "model_shape", "serving_setup", "step_table"]

_OPTIONS = (
    click.option("--model", default=None, help="A model's name, or its config.json."),
    click.option("--accelerator", default=None, help="Its name, such as H100."),
    click.option("--count", type=click.IntRange(1), default=1, show_default=True, help="Of accelerators."),
    click.option("--format", "weight_format", default=None, help="Of the weights: bf16, fp8, nvfp4."),
    click.option(
        "--max-batch", type=click.IntRange(1), default=256, show_default=True, help="Sequences in a step."
    ),
    click.option("--idle-w", type=click.FloatRange(0), default=None, help="Power while idle, in W."),
    click.option("--sleep-w", type=click.FloatRange(0), default=None, help="Power while asleep, in W."),
    click.option(
        "--profile",
        "profile_path",
        type=click.Path(dir_okay=False, path_type=Path),
        default=None,
        help="A profile by 'negajoule profile', instead of --model and --accelerator.",
    ),
)


def deployment_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that ``step_table`` takes."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def model_shape(model: str) -> ModelShape:
    """The shape of a model of this name, or of this ``config.json``."""
    from negajoule.physics.serving import shape_from_config, shape_of

    path = Path(model)
    if path.is_dir():
        path = path / "config.json"
    return shape_from_config(path) if path.suffix == ".json" else shape_of(model)


def serving_setup(
    model: str | None,
    accelerator: str | None,
    count: int = 1,
    weight_format: str | None = None,
    max_batch: int | None = None,
) -> ServingSetup:
    """A model on accelerators, as the options say.

    Raises:
        ConfigError: (C101) if an option is missing.
    """
    from negajoule.physics.serving import ServingSetup

    if model is None or accelerator is None:
        missing = "--model" if model is None else "--accelerator"
        raise ConfigError(
            f"{missing} is missing", fix="--model llama-3.1-8b --accelerator h100, or --profile FILE"
        )
    return ServingSetup(
        shape=model_shape(model),
        accelerator=accelerator,
        count=count,
        weight_format=weight_format,
        batch_limit=max_batch,
    )


def step_table(
    model: str | None,
    accelerator: str | None,
    count: int,
    weight_format: str | None,
    max_batch: int,
    idle_w: float | None,
    sleep_w: float | None,
    profile_path: Path | None,
) -> StepTable:
    """Costs of the steps of what the options say: predicted, or measured here.

    Raises:
        ConfigError: (C101) if options are missing or contradict each other, and as the predictor.
    """
    import msgspec

    if profile_path is not None:
        from negajoule.profile import load_profile

        if accelerator is not None:
            raise ConfigError("a profile says what serves: --accelerator contradicts it", fix="leave it out")
        table = load_profile(profile_path).step_table(weight_format)
    else:
        from negajoule.physics.serving import load_predictor

        setup = serving_setup(model, accelerator, count, weight_format, max_batch)
        table = load_predictor().step_table(setup, max_batch, sleep_w=sleep_w)
    changed = {"idle_w": idle_w, "sleep_w": sleep_w}
    return msgspec.structs.replace(
        table, **{name: value for name, value in changed.items() if value is not None}
    )
