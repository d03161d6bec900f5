"""``negajoule calibrate``: learn this machine's watts from a counter or an external meter."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from negajoule.cli.calibrate_serving import calibrate_deployment, serving_options
from negajoule.cli.output import json_option, print_json, say
from negajoule.errors import ConfigError, MeterError
from negajoule.meter import find_probes, load_calibration, read_host, save_calibration
from negajoule.meter.calibrate import calibrate_machine
from negajoule.meter.calibration import calibration_path, coefficients_for
from negajoule.meter.usage import MachineUsage
from negajoule.units import Power
from negajoule.units.text import number_text, range_text

if TYPE_CHECKING:
    from negajoule.meter import Calibration, Host
    from negajoule.meter.model import Span

__all__ = ["calibrate"]

_NOTHING = "M101"
"""The code of a machine without anything to calibrate against."""


@click.command()
@click.option(
    "--meter-file",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="CSV that an external meter writes meanwhile: a column of times (UTC), one of watts.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.2, 600),
    default=10.0,
    show_default=True,
    help="Length of a load step.",
)
@click.option("--show", is_flag=True, help="Show what is used now; measure nothing.")
@click.option("--forget", is_flag=True, help="Go back to the catalogue's range.")
@click.option("--serving", is_flag=True, help="Calibrate a model where it is served, by three points.")
@serving_options
@json_option
def calibrate(
    meter_file: Path | None,
    seconds: float,
    show: bool,
    forget: bool,
    serving: bool,
    as_json: bool,
    **deployment: Any,  # noqa: ANN401 (what serving_options adds)
) -> None:
    """Fit idle power and power of a busy thread on this machine, against a counter or a meter's file.

    Keeps none, a quarter, half, three quarters and all of the processors busy in turn; let nothing else run.
    Where there is nothing to calibrate against, the catalogue's range stays, and the exit code is 0 all the
    same: nothing has failed.

    With --serving: idle power, power above idle and one factor on time of a model where it is served, from
    three measured points: idle, a batch of one and the largest batch. Predictions use them from then on.

    Example: negajoule calibrate --meter-file wattmeter.csv --seconds 20
    """
    if show + forget + (meter_file is not None) > 1:
        raise click.UsageError("--meter-file, --show and --forget exclude each other")
    if serving:
        if meter_file is not None:
            raise click.UsageError("--serving reads counters here, no --meter-file")
        calibrate_deployment(**deployment, show=show, forget=forget, as_json=as_json)
        return
    host = read_host()
    if show:
        found = load_calibration(host)
        _report(host, "catalogue" if found is None else "calibrated", found, as_json=as_json)
    elif forget:
        state = "forgotten" if _forget() else "catalogue"
        _report(host, state, None, as_json=as_json)
    else:
        fresh = _fit(host, meter_file, seconds)
        _report(
            host, "nothing to calibrate against" if fresh is None else "calibrated", fresh, as_json=as_json
        )


def _fit(host: Host, meter_file: Path | None, seconds: float) -> Calibration | None:
    """Load, fit and save; ``None`` if there is nothing to calibrate against."""
    if meter_file is not None and not meter_file.exists():
        raise ConfigError(
            f"there is no {meter_file}", code="C106", fix="start the recording first; it is read at the end"
        )
    # The processes that load the machine must not outlive us.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    machine, probes = MachineUsage(), find_probes()
    try:
        with click.progressbar(
            length=1, label="load steps", file=sys.stderr, hidden=not sys.stderr.isatty(), show_eta=False
        ) as bar:

            def progress(done: int, steps: int) -> None:
                bar.length = steps
                bar.update(done - bar.pos)

            fresh = calibrate_machine(
                host, machine, probes, meter_file=meter_file, seconds=seconds, progress=progress
            )
    except MeterError as error:
        if error.code != _NOTHING:
            raise
        return None
    finally:
        machine.close()
        for probe in probes:
            probe.close()
    try:
        save_calibration(fresh)
    except OSError as error:
        raise ConfigError(
            f"can't write {calibration_path()}: {error.strerror}",
            code="C106",
            fix="mend the folder's permissions, or set NEGAJOULE_HOME",
        ) from None
    return fresh


def _forget() -> bool:
    """Remove the calibration; whether there was one."""
    try:
        calibration_path().unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise ConfigError(f"can't remove {calibration_path()}: {error.strerror}", code="C106") from None
    return True


def _report(host: Host, state: str, found: Calibration | None, *, as_json: bool) -> None:
    used = coefficients_for(host)
    rows = (
        ("a busy core" if used.active_grade == "D" else "a busy thread", used.active_w, used.active_grade),
        ("idle, for each core", used.idle_w, used.idle_grade),
    )
    if as_json:
        print_json(
            {
                "schema": "negajoule.calibrate/1",
                "state": state,
                "path": str(calibration_path()),
                "calibration": None if found is None else msgspec.to_builtins(found),
                "used": {
                    "active": {
                        **_bounds(used.active_w),
                        "grade": used.active_grade,
                        "source": used.active_source,
                    },
                    "idle": {**_bounds(used.idle_w), "grade": used.idle_grade, "source": used.idle_source},
                },
            }
        )
        return
    if found is not None:
        click.echo(
            f"calibrated {found.created} against {found.reference} ({found.boundary}), {found.points} points"
        )
        click.echo(f"  idle               {_watts(found.idle_w)}")
        click.echo(f"  a busy thread      {_watts(found.thread_w)}")
        click.echo(f"  residual           {number_text(found.residual_w)} W, standard deviation")
        click.echo(f"  kept in            {calibration_path()}")
        return
    click.echo("not calibrated: the catalogue's range is used")
    for name, watts, grade in rows:
        click.echo(f"  {name:<20} {_watts(watts)}, grade {grade}")
    if state == "nothing to calibrate against":
        say(
            "no energy counter can be read here, so there is nothing to calibrate against\n"
            "  better: negajoule doctor says what would make a counter readable; or let an external meter\n"
            "          record watts and run: negajoule calibrate --meter-file FILE"
        )
    elif state == "forgotten":
        say("the calibration was removed")


def _watts(span: Span) -> str:
    return range_text(Power(*span, "inferred", "node"), 3)


def _bounds(span: Span) -> dict[str, Any]:
    return {**span._asdict(), "unit": "W"}
