"""Budgets on the command line: warnings, exit codes for CI, the stop, and journals of killed runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from negajoule.ledger import Activity, Ledger
from negajoule.meter import Journal, Meter
from negajoule.meter.journal import journal_folder, read_journal
from negajoule.units import Energy, Footprint

SPIN = "import time\nend = time.monotonic() + {}\nwhile time.monotonic() < end: pass\n"


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def book(*rows: tuple[str, float | None]) -> None:
    with Ledger() as ledger:
        ledger.append(
            Activity(
                id=f"run-{number}",
                started_s=time.time() - 60,
                seconds=1.0,
                kind="run",
                label=label,
                footprint=Footprint(
                    boundary="facility",
                    it_energy=None
                    if joules is None
                    else Energy(joules, joules / 2, joules * 2, "modelled", "node"),
                ),
            )
            for number, (label, joules) in enumerate(rows)
        )


class TestRun:
    def test_within_budget_the_exit_code_is_the_commands(self, nj):
        done = nj("run", "--budget", "5 kWh", "--", *python("raise SystemExit(0)"))
        assert done.returncode == 0
        assert "budget: 5 kWh for this run, judged on the best estimate" in done.stderr
        assert "no earlier run of this label" in done.stderr

    def test_over_budget_it_is_3_if_the_command_went_well(self, nj):
        done = nj("run", "--budget", "1 µJ", "--", *python("print('done')"))
        assert (done.returncode, done.stdout) == (3, "done\n")
        assert "of 1 µJ used" in done.stderr

    def test_over_budget_a_failure_keeps_its_own_code(self, nj):
        assert nj("run", "--budget", "1 µJ", "--", *python("raise SystemExit(7)")).returncode == 7

    def test_the_cautious_are_over_where_others_arent(self, nj, tmp_path):
        path = tmp_path / "card.json"
        nj("run", "--json", "--output", str(path), "--", *python(SPIN.format(0.3)))
        energy = json.loads(path.read_text())["footprint"]["it_energy"]
        limit = f"{(energy['value'] * energy['high']) ** 0.5} J"
        for judged_on, code in (("value", 0), ("high", 3)):
            done = nj("run", "--budget", limit, "--budget-on", judged_on, "--", *python(SPIN.format(0.3)))
            assert done.returncode == code, done.stderr

    def test_it_warns_while_the_command_runs(self, nj):
        done = nj(
            "run",
            "--budget",
            "1 µJ",
            "--",
            *python(SPIN.format(1.5) + "import sys; print('end', file=sys.stderr)"),
        )
        warning, end = done.stderr.index("of 1 µJ used"), done.stderr.index("\nend\n")
        assert warning < end
        assert done.stderr[:end].count("of 1 µJ used") == 1

    def test_the_stop_ends_the_command_and_its_children(self, nj, tmp_path):
        mark = tmp_path / "pid"
        code = (
            "import os, signal, subprocess, sys, time\n"
            "sleeper = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
            "child = subprocess.Popen(sleeper, start_new_session=True)\n"
            f"open({str(mark)!r}, 'w').write(str(child.pid))\n"
            "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
            "while True: pass\n"
        )
        started = time.monotonic()
        done = nj("run", "--budget", "1 J", "--budget-stop", "--label", "x", "--", *python(code))
        assert done.returncode == 3, done.stderr
        assert time.monotonic() - started < 30
        assert "asked to end" in done.stderr
        with pytest.raises(ProcessLookupError):
            os.kill(int(mark.read_text()), 0)
        with Ledger(read_only=True) as ledger:
            assert ledger.latest(1)[0].status == "cancelled"

    @pytest.mark.slow
    def test_who_doesnt_listen_is_killed_after_the_grace(self, nj):
        code = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: pass\n"
        done = nj("run", "--budget", "1 J", "--budget-stop", "--", *python(code))
        assert done.returncode == 3
        assert "exit code 137" in done.stderr

    def test_a_project_counts_what_the_ledger_holds_and_says_so(self, nj):
        book(("thesis/first", 3.6e6), ("thesisms", 1e9))
        done = nj("run", "--project", "thesis", "--budget", "1.5 kWh", "--", *python("pass"))
        assert done.returncode == 0
        assert "before this run 1 kWh (0.5 to 2) of 1.5 kWh used, 66.7 %" in done.stderr
        done = nj(
            "run", "--project", "thesis", "--budget", "1 kWh", "--budget-window", "7d", "--", *python("pass")
        )
        assert done.returncode == 3
        with Ledger(read_only=True) as ledger:
            assert ledger.latest(1)[0].label.startswith("thesis/")

    def test_with_nothing_left_and_the_stop_it_isnt_even_started(self, nj, tmp_path):
        book(("thesis", 3.6e6))
        mark = tmp_path / "mark"
        done = nj("run", "--project", "thesis", "--budget", "1 Wh", "--budget-stop", "--", "touch", str(mark))
        assert done.returncode == 3
        assert "isn't started" in done.stderr
        assert not mark.exists()

    def test_rows_that_dont_know_make_the_budget_unknown_and_never_nothing(self, nj):
        book(("thesis", None))
        done = nj("run", "--project", "thesis", "--budget", "1 kWh", "--", *python("pass"))
        assert done.returncode == 0
        assert "can't be judged" in done.stderr
        assert "not known for 1 of 2" in done.stderr

    def test_earlier_runs_tell_what_to_expect(self, nj, tmp_path):
        for _ in range(2):
            nj("run", "--label", "x", "--", *python(SPIN.format(0.2)))
        path = tmp_path / "card.json"
        done = nj("run", "--label", "x", "--budget", "1 mJ", "--", *python(SPIN.format(0.2)))
        assert "expected, the median of 2 earlier runs; that would be too much" in done.stderr
        done = nj(
            "run", "--label", "x", "--budget", "1 kWh", "--json", "--output", str(path), "--", *python("pass")
        )
        assert done.stderr == ""
        budget = json.loads(path.read_text())["budget"]
        expected = budget["expected"]
        assert expected["runs"] == 3
        assert 0 < expected["low"] <= expected["value"] <= expected["high"]
        assert (budget["state"], budget["limit"], budget["unit"], budget["stopped"]) == (
            "within",
            3.6e6,
            "J",
            False,
        )

    @pytest.mark.parametrize(
        ("arguments", "code", "text"),
        [
            (("--budget", "much"), 1, "error[C101]"),
            (("--budget", "5 J", "--project", "x", "--budget-window", "soon"), 1, "isn't a span"),
            (("--budget", "5 J", "--budget-window", "7d"), 2, "needs --project or --label"),
            (("--budget-stop",), 2, "need --budget"),
            (("--budget", "5 J", "--budget-on", "low"), 2, "Invalid value"),
        ],
    )
    def test_mistakes_are_said_before_anything_runs(self, nj, tmp_path, arguments, code, text):
        mark = tmp_path / "mark"
        done = nj("run", *arguments, "--", "touch", str(mark))
        assert (done.returncode, mark.exists()) == (code, False)
        assert text in done.stderr
        assert "Traceback" not in done.stderr


class TestJournal:
    def test_a_killed_run_is_booked_by_the_next_one_exactly_once(self, nj):
        with subprocess.Popen(
            [
                *(sys.executable, "-m", "negajoule", "run", "--label", "doomed", "--zone", "FR", "--"),
                *python("import time; print('up', flush=True); time.sleep(20)"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        ) as process:
            assert process.stdout.readline() == "up\n"
            (path,) = journal_folder().iterdir()
            assert read_journal(path)
            process.kill()
            process.wait()
            os.killpg(process.pid, signal.SIGKILL)
        assert "booked from its journal: doomed" in nj("run", "--", *python("pass")).stderr
        assert "doomed" not in nj("run", "--", *python("pass")).stderr
        with Ledger(read_only=True) as ledger:
            rows = ledger.latest(5)
        (row,) = [row for row in rows if row.label == "doomed"]
        assert (len(rows), row.kind, row.status, row.zone) == (3, "run", "failed", "FRA")
        assert any("interrupted" in note for note in row.footprint.notes)
        assert list(journal_folder().iterdir()) == []

    def test_a_report_counts_what_was_killed_before_it(self, nj):
        meter = Meter.for_process(probes=[])
        path = Journal(meter, run="run-dead", label="doomed", heartbeat_s=None).path
        # As another boot left it.
        path.write_text(path.read_text().replace(f'"boot_id":"{meter.host.boot_id}"', '"boot_id":"before"'))
        copy = path.read_bytes()
        path.unlink()
        path.write_bytes(copy)
        done = nj("report", "--by", "label")
        assert "booked from its journal: doomed" in done.stderr
        assert "doomed" in done.stdout
        assert nj("report").stderr == ""

    def test_runs_that_end_or_never_start_leave_no_journal(self, nj):
        nj("run", "--", *python("pass"))
        nj("run", "--", "no-such-command-anywhere")
        assert list(journal_folder().iterdir()) == []

    def test_without_a_record_there_is_none(self, nj):
        nj("run", "--no-record", "--", *python("pass"))
        assert not journal_folder().exists()


class TestCheck:
    @pytest.mark.parametrize(
        ("arguments", "code", "word"),
        [
            (("--limit", "2 kWh"), 0, "within"),
            (("--limit", "1.1 kWh"), 0, "near"),
            (("--limit", "0.9 kWh"), 3, "over"),
            (("--limit", "1.1 kWh", "--budget-on", "high"), 3, "over"),
            (("--limit", "1 J", "--label", "nobody"), 0, "within"),
            (("--limit", "1 mJ", "--label", "thesis", "--since", "1m"), 3, "over"),
        ],
    )
    def test_the_exit_code_tells(self, nj, arguments, code, word):
        book(("thesis", 3.6e6))
        if "1m" in arguments:
            nj("run", "--label", "thesis", "--", *python(SPIN.format(1.0)))
        done = nj("budget", "check", *arguments)
        assert (done.returncode, done.stdout.split(":")[0]) == (code, word), done.stderr

    def test_json(self, nj):
        book(("thesis", 3.6e6))
        done = nj("budget", "check", "--limit", "2 kWh", "--json")
        found = json.loads(done.stdout)
        assert (found["schema"], found["state"], found["share"]) == ("negajoule.budget/1", "within", 0.5)
        assert found["used"] == {"value": 3.6e6, "low": 1.8e6, "high": 7.2e6}

    def test_what_isnt_known_cant_pass(self, nj):
        book(("thesis", 3.6e6), ("thesis", None))
        done = nj("budget", "check", "--limit", "2 kWh")
        assert done.returncode == 1
        assert "error[C107]" in done.stderr
        assert "at least 1 kWh" in done.stdout
        assert nj("budget", "check", "--limit", "0.5 kWh").returncode == 3

    def test_without_a_ledger_there_is_nothing_to_check(self, nj):
        done = nj("budget", "check", "--limit", "2 kWh")
        assert done.returncode == 1
        assert "there is no ledger" in done.stderr
