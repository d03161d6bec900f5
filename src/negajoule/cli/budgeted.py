"""A budget around a command: said before, watched while it runs, judged at the end."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from negajoule.cli.output import say
from negajoule.cli.span import span_s
from negajoule.instrument.budget import NOTHING_SPENT, Budget, BudgetAlarm, expect
from negajoule.ledger import Ledger, default_path
from negajoule.meter import reap_orphans, tree_of
from negajoule.units.text import range_text, value_text

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from negajoule.instrument.budget import Expectation, Spent, Standing
    from negajoule.units import Footprint

__all__ = ["OVER_BUDGET", "BudgetGuard", "BudgetedRun", "budget_of"]

OVER_BUDGET = 3
"""Exit code of a command that went well but used more than its budget, or that was stopped for it."""

PERIOD_S = 1.0
GRACE_S = 10.0
POLL_S = 0.1


def budget_of(
    text: str | None,
    *,
    judged_on: str | None,
    stop: bool,
    project: str | None,
    window: str | None,
    label: str | None,
) -> Budget | None:
    """The budget that the options of ``run`` describe; ``None`` without ``--budget``.

    Raises:
        ConfigError: (C101) for an amount or a span that isn't one.
        UsageError: for options that need others.
    """
    if text is None:
        if judged_on or stop or window:
            raise click.UsageError("--budget-on, --budget-stop and --budget-window need --budget")
        return None
    name = project or (label if window else None)
    if window and name is None:
        raise click.UsageError("--budget-window needs --project or --label")
    return Budget.parse(
        text,
        judged_on="high" if judged_on == "high" else "value",
        project=name,
        window_s=None if window is None else span_s(window, "--budget-window"),
    )


class BudgetedRun(NamedTuple):
    """A budget and what the ledger knows before the start."""

    budget: Budget
    spent: Spent
    expected: Expectation | None

    @classmethod
    def plan(cls, budget: Budget, label: str, host: str) -> BudgetedRun:
        """Look into the ledger, if there is one.

        Args:
            budget: what is allowed.
            label: of the run.
            host: hashed identity of this machine.

        Raises:
            LedgerError: if the ledger can't be read.
        """
        if not default_path().exists():
            return cls(budget, NOTHING_SPENT, None)
        with Ledger(read_only=True) as ledger:
            spent = NOTHING_SPENT if budget.project is None else budget.spent(ledger)
            return cls(budget, spent, expect(budget, ledger.of_label(label, 100), host=host))

    @property
    def exhausted(self) -> bool:
        """Whether nothing is left before the start."""
        return self.budget.standing(None, self.spent, running=False).state == "over"

    def announce(self) -> None:
        """Say the budget, what is used of it already, and what the run will probably use."""
        budget = self.budget
        say(f"budget: {budget.text}")
        if budget.project is not None:
            before = budget.standing(None, self.spent, running=False)
            say(f"budget: before this run {before.text}, rows counted: {self.spent.activities}")
        if self.expected is None:
            say("budget: what this run will use isn't known: no earlier run of this label went well here")
            return
        count, amount = self.expected.runs, self.expected.amount
        whole = budget.standing(amount, self.spent)
        runs = "an earlier run" if count == 1 else f"the median of {count} earlier runs"
        warning = "; that would be too much" if whole.state == "over" else ""
        say(f"budget: {range_text(amount)} expected, {runs}{warning}")

    def to_dict(self, standing: Standing, *, stopped: bool) -> dict[str, Any]:
        """The JSON form."""
        expected = None
        if self.expected is not None:
            amount = self.expected.amount
            bounds = {"value": amount.value, "low": amount.low, "high": amount.high}
            expected = {**bounds, "unit": amount.unit, "runs": self.expected.runs}
        return {**standing.to_dict(), "expected": expected, "stopped": stopped}


class BudgetGuard:
    """Watches a command once a second; if asked to, ends it when its budget is used up.

    Args:
        plan: the budget and what was used before.
        look: the footprint up to now.
        stop: whether to end the command.
    """

    def __init__(self, plan: BudgetedRun, look: Callable[[], Footprint], *, stop: bool) -> None:
        self._alarm = BudgetAlarm(plan.budget, plan.spent, lambda text: say(f"budget: {text}"))
        self._look, self._stop = look, stop
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self.stopped = False
        """Whether the command was ended for its budget."""

    def watch(self, process: subprocess.Popen[bytes]) -> None:
        """Begin to watch."""
        self._thread = threading.Thread(
            target=self._run, args=(process,), name="negajoule-budget", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop watching; what was asked to end is waited for."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def judge(self, footprint: Footprint) -> Standing:
        """The last word."""
        standing = self._alarm.standing(footprint)
        self._alarm.tell(standing)
        return standing

    def _run(self, process: subprocess.Popen[bytes]) -> None:
        while not self._over.wait(PERIOD_S):
            if self.judge(self._look()).state == "over" and self._stop:
                limit = value_text(self._alarm.budget.limit, 3)
                say(f"budget: {limit} are used up, the command is asked to end")
                self.stopped = True
                _end_all(process)
                return


def _end_all(process: subprocess.Popen[bytes]) -> None:
    """Ask the command and all it started to end, and kill what is left after the grace."""
    for pid in _living(process):
        _send(pid, signal.SIGTERM)
    deadline_s = time.monotonic() + GRACE_S
    while (left := _living(process)) and time.monotonic() < deadline_s:
        time.sleep(POLL_S)
    for pid in left:
        _send(pid, signal.SIGKILL)


def _living(process: subprocess.Popen[bytes]) -> frozenset[int]:
    reap_orphans(keep=process.pid)
    tree = tree_of(only_descendants=True)
    try:
        tree.read()
        return tree.pids()
    finally:
        tree.close()


def _send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
