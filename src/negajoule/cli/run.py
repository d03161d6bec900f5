"""``negajoule run -- COMMAND``: measure any command, its children included."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from negajoule.cli.budgeted import OVER_BUDGET, BudgetedRun, BudgetGuard, budget_of
from negajoule.cli.card import card
from negajoule.cli.look_back import look_back
from negajoule.cli.output import say
from negajoule.config import Settings
from negajoule.errors import ConfigError, NegajouleError
from negajoule.instrument import find_here
from negajoule.instrument.interrupted import done_with
from negajoule.instrument.nesting import OUTER_VARIABLE, outer_of_process
from negajoule.ledger import Activity, Ledger, new_id
from negajoule.meter import Meter, adopt_orphans
from negajoule.meter.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from negajoule.instrument import Here
    from negajoule.units import Footprint

__all__ = ["run"]

_PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH)


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--label", default=None, help="Name of the work in the ledger; by default the command itself.")
@click.option("--project", default=None, help="Put the work under NAME: its label becomes NAME/LABEL.")
@click.option("--budget", default=None, help='What it may use: "500 J", "2 kWh", "50 gCO2e", "1.5 L".')
@click.option(
    "--budget-on",
    type=click.Choice(["value", "high"]),
    default=None,
    help="Judge the budget on the best estimate (default) or on the upper end, for the cautious.",
)
@click.option("--budget-stop", is_flag=True, help="End the command when the budget is used up.")
@click.option(
    "--budget-window", default=None, help="The budget is the project's (or label's) of the last 12h, 7d, 4w."
)
@click.option("--zone", default=None, help="Where the electricity is used, e.g. FR or US-CAL-CISO.")
@click.option("--json", "as_json", is_flag=True, help="Write the card as JSON, to --output or stderr.")
@click.option("--output", type=click.Path(dir_okay=False), default=None, help="File for the card.")
@click.option("--no-record", is_flag=True, help="Leave the ledger alone.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    label: str | None,
    project: str | None,
    budget: str | None,
    budget_on: str | None,
    budget_stop: bool,
    budget_window: str | None,
    zone: str | None,
    as_json: bool,
    output: str | None,
    no_record: bool,
    command: tuple[str, ...],
) -> None:
    """Run COMMAND and tell what it cost, its children included.

    Standard input, output and signals belong to the command; the card goes to stderr, so that pipes stay
    clean. The exit code is the command's own (128 + N if signal N ended it); but 3 if it went well and used
    more than its budget, or if --budget-stop ended it.

    A budget is for this run, or with --project for all that the ledger holds of the project. A run that is
    killed stands in a journal, from which the next start books it.

    Example: negajoule run --budget "2 Wh" -- python train.py --epochs 3
    """
    allowed = budget_of(
        budget, judged_on=budget_on, stop=budget_stop, project=project, window=budget_window, label=label
    )
    name = "/".join(part for part in (project, label or shlex.join(command)[:500]) if part)
    here = find_here(Settings({"zone": zone}))
    ledger = None if no_record else Ledger()
    try:
        if ledger is not None:
            look_back(ledger, here)
        plan = None if allowed is None else BudgetedRun.plan(allowed, name, here.host.host_id)
        if plan is not None:
            if not as_json:
                plan.announce()
            if budget_stop and plan.exhausted:
                say("budget: nothing is left, so the command isn't started")
                sys.exit(OVER_BUDGET)
        code = _measure(command, name, here, ledger, plan, stop=budget_stop, as_json=as_json, output=output)
    finally:
        if ledger is not None:
            ledger.close()
    sys.exit(code)


def _measure(
    command: Sequence[str],
    label: str,
    here: Here,
    ledger: Ledger | None,
    plan: BudgetedRun | None,
    *,
    stop: bool,
    as_json: bool,
    output: str | None,
) -> int:
    """Run, show and book; returns the exit code."""
    adopt_orphans()
    meter = Meter.for_command()
    started_s = time.time()
    before = meter.read()
    run_id = new_id("run")
    journal = None
    if ledger is not None:
        journal = Journal(meter, run=run_id, label=label, zone=here.location.zone or "", first=before)
    guard = None
    if plan is not None:

        def look() -> Footprint:
            window = meter.between(before, meter.read())
            return here.cost(window.parts, window.seconds)

        guard = BudgetGuard(plan, look, stop=stop)
    try:
        code = _execute(command, run_id, None if guard is None else guard.watch)
    except ConfigError:
        if journal is not None:
            done_with(journal)
        raise
    finally:
        if guard is not None:
            guard.close()
    stopped = guard is not None and guard.stopped
    window = meter.between(before, meter.read())
    activity = Activity(
        id=run_id,
        started_s=started_s,
        seconds=window.seconds,
        kind="run",
        status="cancelled" if stopped else "ok" if code == 0 else "failed",
        label=label,
        host=here.host.host_id,
        zone=here.factors.zone,
        inside=outer_of_process(),
        cpu_seconds=window.cpu_s,
        footprint=here.cost_of(window),
    )
    standing = None if guard is None else guard.judge(activity.footprint)
    account = None if plan is None or standing is None else plan.to_dict(standing, stopped=stopped)
    if ledger is not None and journal is not None:
        try:
            ledger.append([activity])
            done_with(journal)
        except NegajouleError as error:
            say(str(error))
    title = (
        f"{activity.label}\n  took               {activity.seconds:.2f} s, "
        f"{activity.cpu_seconds or 0.0:.2f} CPU-s, exit code {code}"
    )
    if standing is not None:
        title += f"\n  budget             {standing.text}"
    _show(activity, code, account, title, as_json=as_json, output=output)
    over = standing is not None and standing.state == "over"
    return OVER_BUDGET if stopped or (over and code == 0) else code


def _execute(
    command: Sequence[str], run_id: str, started: Callable[[subprocess.Popen[bytes]], None] | None
) -> int:
    """Start the command, pass signals on, wait; returns an exit code as a shell would."""
    try:
        process = subprocess.Popen(command, env={**os.environ, OUTER_VARIABLE: run_id})
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
    if started is not None:
        started(process)
    try:
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 128 - code if code < 0 else code


def _show(
    activity: Activity,
    code: int,
    account: dict[str, Any] | None,
    title: str,
    *,
    as_json: bool,
    output: str | None,
) -> None:
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
                "budget": account,
                "footprint": activity.footprint.to_dict(),
            }
        ).decode()
    else:
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
