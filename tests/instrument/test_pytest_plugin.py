"""``pytest --footprint`` in sessions of its own, alone and under xdist."""

from __future__ import annotations

import json
from importlib.metadata import entry_points

import pytest

from negajoule.ledger import Ledger

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.slow

TESTS = """
    import time
    import pytest

    def spin(seconds):
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass

    def test_cheap():
        pass

    @pytest.mark.parametrize("n", range(3))
    def test_costly(n):
        spin(0.15)

    @pytest.fixture
    def costly():
        spin(0.1)

    def test_with_a_costly_fixture(costly):
        pass
"""


@pytest.fixture
def run(pytester):
    """Run pytest with the plugin on a file of tests."""
    pytester.makeini("[pytest]")
    pytester.makepyfile(TESTS)
    known = any(entry.name == "negajoule" for entry in entry_points(group="pytest11"))
    plugin = () if known else ("-p", "negajoule.instrument.pytest_plugin")

    def run(*arguments):
        return pytester.runpytest_subprocess(*plugin, *arguments, timeout=120)

    return run


def energies(pytester, name: str = "footprint.json"):
    content = json.loads((pytester.path / name).read_text())
    return content, {
        test["name"].rpartition("::")[2]: test["it_energy"]["value"] for test in content["tests"]
    }


def check(content) -> None:
    """What holds in every session: tests and the rest are the whole."""
    parts = sum(test["it_energy"]["value"] for test in content["tests"]) + content["outside"]["value"]
    whole = content["footprint"]["it_energy"]["value"]
    assert parts == pytest.approx(whole, rel=1e-9)
    assert content["schema"] == "negajoule.pytest/1"


def test_a_session_tells_its_footprint_and_its_costliest_tests(run, pytester):
    result = run("--footprint", "--footprint-top", "2", "--footprint-json", "footprint.json")
    result.assert_outcomes(passed=5)
    result.stdout.re_match_lines([r".* footprint .*", r"session +.* 5 tests", r"IT energy +.* to .*, \w+"])
    lines = [line for line in result.outlines if "test_a_session" in line and " s  " in line]
    assert len(lines) == 2
    assert all("test_costly" in line for line in lines)
    content, joules = energies(pytester)
    check(content)
    assert content["workers"] == 1
    assert joules["test_with_a_costly_fixture"] > joules["test_cheap"], "fixtures are part of a test"
    assert min(joules[f"test_costly[{n}]"] for n in range(3)) > joules["test_cheap"]
    assert content["tests"][0]["cpu_seconds"] >= 0.1


def test_workers_are_merged_and_nothing_is_counted_twice(run, pytester):
    pytest.importorskip("xdist")
    result = run("-n", "2", "--footprint-json", "footprint.json")
    result.assert_outcomes(passed=5)
    content, joules = energies(pytester)
    check(content)
    assert content["workers"] == 2
    assert len(joules) == 5
    inside_s = sum(test["cpu_seconds"] for test in content["tests"])
    assert 0.55 <= inside_s <= content["cpu_seconds"]
    assert sum(line.startswith("session ") for line in result.outlines) == 1
    with Ledger(read_only=True) as ledger:
        (row,) = ledger.latest(10)
    assert (row.kind, row.stage) == ("window", "development")
    assert row.label.startswith("pytest ")
    assert row.footprint.it_energy.value == content["footprint"]["it_energy"]["value"]


def test_without_the_option_nothing_is_said_and_nothing_is_loaded(run, pytester):
    pytester.makepyfile(
        """
        import sys

        def test_light():
            heavy = {"negajoule.meter", "negajoule.physics", "negajoule.ledger", "numpy", "msgspec"}
            assert not heavy & set(sys.modules)
        """
    )
    result = run()
    result.assert_outcomes(passed=1)
    assert not any("footprint" in line for line in result.outlines)


def test_a_crashed_worker_costs_its_rows_and_not_the_session(run, pytester):
    pytest.importorskip("xdist")
    pytester.makepyfile(
        """
        import os
        import pytest

        @pytest.mark.parametrize("n", range(4))
        def test_it(n):
            if n == 1:
                os._exit(1)
        """
    )
    result = run("-n", "2", "--footprint-json", "footprint.json")
    assert result.ret == 1
    content, _ = energies(pytester)
    check(content)


def test_what_cannot_be_written_is_said_and_the_exit_code_is_pytests_own(
    run, pytester, tmp_path, monkeypatch
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NEGAJOULE_HOME", str(tmp_path / "file" / "home"))
    pytester.makepyfile("def test_wrong(): assert 0")
    result = run("--footprint-json", "no/such/folder/x.json")
    result.assert_outcomes(failed=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*1 tests", "not recorded: *", "can't write no/such/folder/x.json: *"])
