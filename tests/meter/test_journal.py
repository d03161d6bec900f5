import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from negajoule.meter import Meter
from negajoule.meter.journal import Journal, journal_folder, merge_journals, read_journal, unfinished


@pytest.fixture
def meter():
    meter = Meter.for_process(probes=[])
    yield meter
    meter.close()


def test_totals_grow_and_end_marked(meter, tmp_path):
    journal = Journal(meter, tmp_path, label="training", heartbeat_s=60)
    journal.beat()
    journal.close()
    journal.close()
    entries = read_journal(journal.path)
    assert [entry.sequence for entry in entries] == [0, 1, 2]
    assert [entry.final for entry in entries] == [False, False, True]
    energies = [sum(part.energy.value for part in entry.parts) for entry in entries]
    assert energies == sorted(energies)
    assert energies[-1] > 0
    assert entries[-1].label == "training"
    assert entries[-1].host_id == meter.host.host_id
    assert journal.error == ""


def test_it_beats_by_itself(meter, tmp_path):
    with Journal(meter, tmp_path, heartbeat_s=0.02) as journal:
        end = time.monotonic() + 5
        while len(read_journal(journal.path)) < 4 and time.monotonic() < end:
            time.sleep(0.01)
        assert len(read_journal(journal.path)) >= 4


def test_by_default_it_lives_in_the_data_folder(meter, fresh_home):
    journal = Journal(meter)
    journal.close()
    assert journal.path.parent == fresh_home / "journal" == journal_folder()


def test_a_torn_last_line_is_dropped(meter, tmp_path):
    with Journal(meter, tmp_path, heartbeat_s=60) as journal:
        journal.beat()
    whole = journal.path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for cut in random.Random(1).sample(range(len(lines[-1]) - 1), 50):
        journal.path.write_bytes(b"".join(lines[:-1]) + lines[-1][:cut])
        assert [entry.sequence for entry in read_journal(journal.path)] == [0, 1]


@pytest.mark.parametrize(
    "rubbish", [b"", b"\n\n", b"{}", b"null\n", b'{"schema":"other/1"}\n', b"\xff\x00\n"]
)
def test_rubbish_is_left_out(meter, tmp_path, rubbish):
    with Journal(meter, tmp_path, heartbeat_s=60) as journal:
        pass
    lines = journal.path.read_bytes().splitlines(keepends=True)
    journal.path.write_bytes(lines[0] + rubbish + b"\n" + lines[1])
    assert [entry.sequence for entry in read_journal(journal.path)] == [0, 1]


def test_merging_again_changes_nothing(meter, tmp_path):
    paths = []
    for run in ("a", "b"):
        with Journal(meter, tmp_path, run=run, heartbeat_s=60) as journal:
            paths.append(journal.path)
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(paths[0].read_bytes().splitlines(keepends=True)[0])
    merged = merge_journals(paths)
    assert set(merged) == {"a", "b"}
    assert all(entry.final for entry in merged.values())
    assert merge_journals([copy, *reversed(paths), *paths, copy]) == merged


def test_a_full_disk_doesn_t_disturb_the_run(meter, tmp_path, monkeypatch):
    journal = Journal(meter, tmp_path, heartbeat_s=60)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    journal.beat()
    assert "No space left" in journal.error
    monkeypatch.undo()
    journal.beat()
    assert journal.error == ""
    assert [entry.sequence for entry in read_journal(journal.path)] == [0, 1]
    journal.close()


def test_a_folder_that_can_t_be_made_doesn_t_disturb_the_run(meter, tmp_path):
    (tmp_path / "file").write_text("")
    journal = Journal(meter, tmp_path / "file" / "journal", heartbeat_s=60)
    assert journal.error
    journal.close()


def test_killed_runs_are_found(meter, tmp_path):
    code = """
        import sys, time
        from pathlib import Path
        from negajoule.meter import Meter
        from negajoule.meter.journal import Journal
        Journal(Meter.for_process(probes=[]), Path(sys.argv[1]), run="killed", heartbeat_s=0.3)
        print("ready", flush=True)
        time.sleep(60)
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "ready\n"
    boot_id = meter.host.boot_id
    assert unfinished(tmp_path, boot_id) == []
    time.sleep(0.4)
    child.send_signal(signal.SIGKILL)
    killed_s = time.time()
    child.wait()
    child.stdout.close()
    (entry,) = unfinished(tmp_path, boot_id)
    assert entry.run == "killed"
    assert killed_s - (entry.started_s + entry.seconds) < 1.0
    assert [found.run for found in unfinished(tmp_path, "another boot")] == ["killed"]


def test_a_run_that_ended_in_order_isn_t_unfinished(meter, tmp_path):
    Journal(meter, tmp_path, heartbeat_s=60).close()
    assert unfinished(tmp_path, "another boot") == []


def test_a_living_run_is_known_by_its_lock_even_when_its_pid_means_nothing(meter, tmp_path):
    with Journal(meter, tmp_path, run="elsewhere", heartbeat_s=60) as journal:
        # As seen from another container: another boot, so the process number tells nothing.
        assert unfinished(tmp_path, "another boot") == []
        torn = journal.path.read_bytes()
    journal.path.write_bytes(torn)
    assert [entry.run for entry in unfinished(tmp_path, "another boot")] == ["elsewhere"]


def test_a_journal_that_starts_late_holds_the_run_from_its_beginning(meter, tmp_path):
    first = meter.read()
    time.sleep(0.05)
    threads = set(threading.enumerate())
    with Journal(meter, tmp_path, first=first, zone="FRA", heartbeat_s=None) as journal:
        assert set(threading.enumerate()) == threads
        (entry,) = read_journal(journal.path)
    assert entry.seconds >= 0.05
    assert (entry.started_s, entry.zone) == (first.wall_s, "FRA")


def test_a_forked_child_leaves_the_journal_alone(meter, tmp_path):
    journal = Journal(meter, tmp_path, heartbeat_s=60)
    pid = os.fork()
    if pid == 0:
        journal.beat(final=True)
        os._exit(0)
    os.waitpid(pid, 0)
    assert len(read_journal(journal.path)) == 1
    journal.close()
