"""``negajoule calibrate --serving``: three measured points of a model where it is served."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from negajoule.cli.output import print_json, print_table, say
from negajoule.errors import ConfigError
from negajoule.units.text import number_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from negajoule.physics.serving import ModelShape, ServingSetup
    from negajoule.profile import ServingCalibration

__all__ = ["calibrate_deployment", "serving_options"]

_Command = TypeVar("_Command", bound="Callable[..., Any]")


def serving_options(command: _Command) -> _Command:
    """Add the options that only ``--serving`` reads."""
    for option in reversed(
        (
            click.option(
                "--model", default="smollm2-135m-instruct", help="What to calibrate, as of profile."
            ),
            click.option("--format", "format_", default=None, help="Number format of the weights."),
            click.option("--max-batch", type=int, default=8, show_default=True, help="The largest batch."),
            click.option("--accelerator", default=None, help="What serves it, e.g. H100."),
            click.option("--count", type=click.IntRange(1), default=1, help="How many accelerators."),
            click.option(
                "--shape", default=None, help="The model's name in the catalogue, or its config.json."
            ),
            click.option(
                "--profile",
                "profile_file",
                type=click.Path(dir_okay=False, path_type=Path),
                default=None,
                help="An earlier profile of this model here, to be corrected.",
            ),
            click.option("--served-model", default=None, help="Which of a server's models."),
            click.option("--key-variable", default=None, help="Environment variable with the server's key."),
        )
    ):
        command = option(command)
    return command


def calibrate_deployment(
    *,
    model: str,
    format_: str | None,
    max_batch: int,
    accelerator: str | None,
    count: int,
    shape: str | None,
    profile_file: Path | None,
    served_model: str | None,
    key_variable: str | None,
    show: bool,
    forget: bool,
    as_json: bool,
) -> None:
    """Measure, fit and keep; or show or remove what is kept."""
    from negajoule.profile import load_serving_calibrations

    if show:
        _report(load_serving_calibrations(), as_json=as_json)
    elif forget:
        _forget(as_json=as_json)
    else:
        fresh = _measured(
            model, format_, max_batch, accelerator, count, shape, profile_file, served_model, key_variable
        )
        _report((fresh,), as_json=as_json)


def _measured(
    model: str,
    format_: str | None,
    max_batch: int,
    accelerator: str | None,
    count: int,
    shape: str | None,
    profile_file: Path | None,
    served_model: str | None,
    key_variable: str | None,
) -> ServingCalibration:
    from negajoule.cli.profile import server_key
    from negajoule.profile import (
        Sweep,
        calibrate_serving,
        load_profile,
        open_target,
        save_serving_calibration,
    )

    prompt_tokens, output_tokens = 64, 32
    setup = None if accelerator is None else _setup(accelerator, count, shape or served_model, format_)
    profile = None if profile_file is None else load_profile(profile_file)
    if max_batch < 2:
        raise ConfigError(f"--max-batch {max_batch} leaves no second point", fix="2 or more")
    sweep = Sweep(batches=(1, max_batch), prompts=(prompt_tokens,), outputs=(output_tokens,), repeats=1)
    if "://" not in model and format_ is None:
        format_ = "Q8_0" if not Path(model).exists() else None
    with open_target(
        model,
        sweep,
        formats=() if format_ is None else (format_,),
        served_model=served_model,
        key=server_key(key_variable),
        parts="gpu" if setup is not None else "",
    ) as target:
        fresh = calibrate_serving(
            target,
            max_batch=max_batch,
            prompt_tokens=prompt_tokens,
            output_tokens=output_tokens,
            setup=setup,
            profile=profile,
        )
    path = save_serving_calibration(fresh)
    say(f"kept in {path}")
    return fresh


def _setup(accelerator: str, count: int, shape: str | None, format_: str | None) -> ServingSetup:
    from negajoule.physics.serving import ServingSetup

    if shape is None:
        raise ConfigError(
            "the model's shape isn't known", fix="--shape NAME of the catalogue, or --shape config.json"
        )
    return ServingSetup(shape=_shape(shape), accelerator=accelerator, count=count, weight_format=format_)


def _shape(name: str) -> ModelShape:
    from negajoule.physics.serving import shape_from_config, shape_of

    path = Path(name)
    if path.suffix != ".json":
        return shape_of(name)
    try:
        return shape_from_config(msgspec.json.decode(path.read_bytes()), path.parent.name)
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(f"can't read {path}: {error}", code="C106") from None


def _forget(*, as_json: bool) -> None:
    from negajoule.profile.serving_calibration import serving_calibrations_path

    path = serving_calibrations_path()
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"can't remove {path}: {error.strerror}", code="C106") from None
    if as_json:
        _report((), as_json=True)
    else:
        say("the calibrations of serving were removed")


def _report(found: tuple[ServingCalibration, ...], *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "schema": "negajoule.calibrate_serving/1",
                "calibrations": [msgspec.to_builtins(one) for one in found],
            }
        )
        return
    if not found:
        click.echo("no model is calibrated where it is served")
        return
    print_table(
        (
            "model",
            "format",
            "on",
            "idle W",
            "above idle W",
            "step ms, batch 1",
            "step ms, largest",
            "time factor",
        ),
        [
            (
                one.model,
                one.format,
                one.where if one.setup is None else f"{one.setup.count} x {one.setup.accelerator}",
                number_text(one.idle_w, 3),
                number_text(one.active_w, 3),
                number_text(one.step_s[0] * 1e3, 3),
                f"{number_text(one.step_s[1] * 1e3, 3)} at {one.batches[1]}",
                "none" if one.time_factor is None else number_text(one.time_factor, 3),
            )
            for one in found
        ],
    )
    click.echo(f"watts are {' or '.join(sorted({one.basis for one in found}))}")
