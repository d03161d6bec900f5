"""``pytest --footprint``: what a test session cost, and its costliest tests.

Loaded by pytest in every project that has negajoule installed, so nothing is imported before it is asked for.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from negajoule.instrument.here import Here
    from negajoule.instrument.session_split import CaseCost, CaseRow
    from negajoule.meter import Meter, Window
    from negajoule.units import Energy, Footprint

__all__ = ["SessionFootprint"]

SCHEMA = "negajoule.pytest/1"
_OUTPUT = "negajoule_tests"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add our options."""
    group = parser.getgroup("negajoule", "energy and carbon of the test session")
    group.addoption("--footprint", action="store_true", help="tell what the session cost, and by test")
    group.addoption(
        "--footprint-top", type=int, default=10, metavar="N", help="how many tests to list (default: 10)"
    )
    group.addoption("--footprint-json", metavar="FILE", help="write all of it to FILE; implies --footprint")


def pytest_configure(config: pytest.Config) -> None:
    """Begin to measure, if we are asked to."""
    if config.getoption("--footprint") or config.getoption("--footprint-json"):
        config.pluginmanager.register(SessionFootprint(config), "negajoule-footprint")


class SessionFootprint:
    """Measures the tests of this process and, unless it's a worker of xdist, the whole session.

    Args:
        config: pytest's configuration.
    """

    def __init__(self, config: pytest.Config) -> None:
        from negajoule.instrument.here import find_here
        from negajoule.meter import Meter

        self._config = config
        self._is_worker = hasattr(config, "workerinput")
        self._rows: list[CaseRow] = []
        self._workers: set[str] = set()
        self._troubles: list[str] = []
        self._meter: Meter = Meter.for_process()
        self._first = self._meter.read()
        self._here: Here | None = None if self._is_worker else find_here()
        self._window: Window | None = None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[Any]:
        """Measure a test with its set-up and tear-down."""
        from negajoule.instrument.session_split import CaseRow

        before = self._meter.read()
        result = yield
        window = self._meter.between(before, self._meter.read())
        parts = [(p.name, p.energy.value, p.energy.low, p.energy.high) for p in window.parts]
        self._rows.append(CaseRow(item.nodeid, window.seconds, window.cpu_s, parts))
        return result

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:  # noqa: ANN401 (a worker of xdist)
        """Take the rows of a worker that has ended; one that crashed has none."""
        from negajoule.instrument.session_split import CaseRow

        output = getattr(node, "workeroutput", {})
        if _OUTPUT in output:
            self._workers.add(node.gateway.id)
            self._rows += [
                CaseRow(name, seconds, cpu_s, [(p[0], p[1], p[2], p[3]) for p in parts])
                for name, seconds, cpu_s, parts in output[_OUTPUT]
            ]

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """Hand the rows to the controller, or end the session's window."""
        output: dict[str, Any] | None = getattr(self._config, "workeroutput", None)
        if output is not None:
            output[_OUTPUT] = [
                [row.name, row.seconds, row.cpu_s, [list(p) for p in row.parts]] for row in self._rows
            ]
            return
        self._window = self._meter.between(self._first, self._meter.read())

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Tell the session's footprint and the costliest tests, and write the file."""
        from negajoule.instrument.session_split import merged, split_session
        from negajoule.units.text import interval_text, range_text

        if self._window is None or self._here is None:
            return
        footprint = self._here.cost_of(self._window)
        workers = max(len(self._workers), 1)
        tests, outside = split_session(merged(self._rows), self._window.parts, workers)
        self._book(footprint)
        say = terminalreporter.write_line
        terminalreporter.section("footprint")
        say(f"session    {self._window.seconds:.2f} s, {self._window.cpu_s:.2f} CPU-s, {len(tests)} tests")
        for label, quantity in (
            ("IT energy", footprint.it_energy),
            ("carbon", footprint.carbon_location),
            ("embodied", footprint.embodied),
        ):
            say(f"{label:<10} {'unknown' if quantity is None else interval_text(quantity)}")
        for note in footprint.notes:
            say(f"note       {note}")
        for cost in tests[: max(self._config.getoption("--footprint-top"), 0)]:
            say(f"{range_text(cost.energy):<28} {cost.seconds:8.2f} s  {cost.name}")
        say(f"{range_text(outside):<28} outside of tests")
        self._write(self._json(footprint, tests, outside, workers))
        for trouble in self._troubles:
            say(trouble)

    def pytest_unconfigure(self) -> None:
        """Give the meter's handles back."""
        self._meter.close()

    def _json(
        self, footprint: Footprint, tests: list[CaseCost], outside: Energy, workers: int
    ) -> dict[str, Any]:
        assert self._window is not None
        return {
            "schema": SCHEMA,
            "seconds": self._window.seconds,
            "cpu_seconds": self._window.cpu_s,
            "workers": workers,
            "footprint": footprint.to_dict(),
            "outside": outside.to_dict(),
            "tests": [
                {
                    "name": cost.name,
                    "seconds": cost.seconds,
                    "cpu_seconds": cost.cpu_s,
                    "it_energy": cost.energy.to_dict(),
                }
                for cost in tests
            ],
        }

    def _write(self, content: dict[str, Any]) -> None:
        target = self._config.getoption("--footprint-json")
        if not target:
            return
        import msgspec

        try:
            with open(target, "wb") as file:  # noqa: PTH123 (a path from the command line)
                file.write(msgspec.json.encode(content) + b"\n")
        except OSError as error:
            self._troubles.append(f"can't write {target}: {error.strerror}")

    def _book(self, footprint: Footprint) -> None:
        from negajoule.errors import NegajouleError
        from negajoule.ledger import Activity, Ledger, new_id

        assert self._window is not None
        assert self._here is not None
        activity = Activity(
            id=new_id("win"),
            started_s=time.time() - self._window.seconds,
            seconds=self._window.seconds,
            kind="window",
            stage="development",
            label=f"pytest {self._config.rootpath.name}",
            host=self._here.host.host_id,
            zone=self._here.factors.zone,
            cpu_seconds=self._window.cpu_s,
            footprint=footprint,
        )
        try:
            with Ledger() as ledger:
                ledger.append([activity])
        except NegajouleError as error:
            self._troubles.append(f"not recorded: {error.message}")
