"""``negajoule run -- COMMAND``: measure any command, its children included."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from negajoule.cli.card import card
from negajoule.cli.output import say
from negajoule.config import Settings
from negajoule.errors import ConfigError, NegajouleError
from negajoule.instrument import find_here
from negajoule.ledger import Activity, Ledger, new_id
from negajoule.meter import Meter, adopt_orphans

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["run"]

_PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH)


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--label", default=None, help="Name of the work in the ledger; by default the command itself.")
@click.option("--zone", default=None, help="Where the electricity is used, e.g. FR or US-CAL-CISO.")
@click.option("--json", "as_json", is_flag=True, help="Write the card as JSON, to --output or stderr.")
@click.option("--output", type=click.Path(dir_okay=False), default=None, help="File for the card.")
@click.option("--no-record", is_flag=True, help="Leave the ledger alone.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    label: str | None,
    zone: str | None,
    as_json: bool,
    output: str | None,
    no_record: bool,
    command: tuple[str, ...],
) -> None:
    """Run COMMAND and tell what it cost, its children included.

    Standard input, output and signals belong to the command; the card goes to stderr, so that pipes stay
    clean. The exit code is the command's own (128 + N if signal N ended it).

    Example: negajoule run -- python train.py --epochs 3
    """
    here = find_here(Settings({"zone": zone}))
    ledger = None if no_record else Ledger()
    adopt_orphans()
    meter = Meter.for_command()
    started_s = time.time()
    before = meter.read()
    code = _execute(command)
    window = meter.between(before, meter.read())
    activity = Activity(
        id=new_id("run"),
        started_s=started_s,
        seconds=window.seconds,
        kind="run",
        status="ok" if code == 0 else "failed",
        label=label or shlex.join(command)[:500],
        host=here.host.host_id,
        zone=here.factors.zone,
        cpu_seconds=window.cpu_s,
        footprint=here.cost_of(window),
    )
    _show(activity, code, as_json=as_json, output=output)
    if ledger is not None:
        try:
            ledger.append([activity])
        except NegajouleError as error:
            say(str(error))
        finally:
            ledger.close()
    sys.exit(code)


def _execute(command: Sequence[str]) -> int:
    """Start the command, pass signals on, wait; returns an exit code as a shell would."""
    try:
        process = subprocess.Popen(command)
    except FileNotFoundError:
        raise ConfigError(
            f"there is no command {command[0]!r}", code="C105", fix="check the name, or give its whole path"
        ) from None
    except OSError as error:
        raise ConfigError(f"{command[0]!r} can't be started: {error.strerror}", code="C105") from None

    def pass_on(number: int, _: object) -> None:
        with suppress(ProcessLookupError):
            process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in _PASSED_ON}
    # A terminal sends Ctrl-C to the whole group, so the command has it already; we only must not die of it.
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 128 - code if code < 0 else code


def _show(activity: Activity, code: int, *, as_json: bool, output: str | None) -> None:
    if as_json:
        import msgspec

        text = msgspec.json.encode(
            {
                "schema": "negajoule.run/1",
                "id": activity.id,
                "label": activity.label,
                "exit_code": code,
                "seconds": activity.seconds,
                "cpu_seconds": activity.cpu_seconds,
                "footprint": activity.footprint.to_dict(),
            }
        ).decode()
    else:
        title = (
            f"{activity.label}\n  took               {activity.seconds:.2f} s, "
            f"{activity.cpu_seconds or 0.0:.2f} CPU-s, exit code {code}"
        )
        text = card(title, activity.footprint)
    if output is None:
        say(text if as_json else "\n" + text)
        return
    try:
        with open(output, "w", encoding="utf-8") as file:  # noqa: PTH123 (a path from the command line)
            file.write(text + "\n")
    except OSError as error:
        say(text)
        raise ConfigError(f"can't write {output}: {error.strerror}", code="C106") from None
