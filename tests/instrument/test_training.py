"""The account of a training: no gap between segments, no step twice, one rank for all, no exception."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from negajoule.instrument.callbacks import TrainingAccount
from negajoule.instrument.callbacks.ranks import LocalRank, local_rank, meter_of_ranks
from negajoule.ledger import Ledger


def spin(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def rows():
    with Ledger(read_only=True) as ledger:
        return ledger.latest(1000)[::-1]


def test_stages_and_epochs_are_rows_that_follow_one_another():
    account = TrainingAccount("bert")
    account.begin(epoch=1, step=0)
    spin(0.02)
    account.stepped(10)
    account.turn_to("evaluation")
    spin(0.02)
    account.turn_back()
    account.stepped(20)
    account.train(epoch=2, step=20)
    account.stepped(40)
    account.end()
    assert [(s.stage, s.epoch, s.first_step, s.last_step) for s in account.segments] == [
        ("training", 1, 0, 10),
        ("evaluation", 1, 10, 10),
        ("training", 1, 10, 20),
        ("training", 2, 20, 40),
    ]
    booked = rows()
    assert [(row.label, row.stage, row.status) for row in booked] == [
        ("bert/epoch 1", "training", "ok"),
        ("bert/epoch 1", "evaluation", "ok"),
        ("bert/epoch 1", "training", "ok"),
        ("bert/epoch 2", "training", "ok"),
    ]
    assert all(row.kind == "window" and row.host for row in booked)
    total = account.footprint.it_energy.value
    assert total == pytest.approx(sum(row.footprint.it_energy.value for row in booked), rel=1e-9)
    assert booked[1].footprint.it_energy.value > booked[3].footprint.it_energy.value


def test_what_lies_between_an_evaluation_and_the_next_epoch_belongs_to_that_epoch():
    account = TrainingAccount("bert", record=False)
    account.begin(epoch=1, step=0)
    account.stepped(5)
    account.turn_to("evaluation")
    account.turn_back()
    spin(0.01)
    account.train(epoch=2, step=5)
    account.stepped(9)
    account.end()
    assert [(s.stage, s.epoch, s.first_step, s.last_step) for s in account.segments] == [
        ("training", 1, 0, 5),
        ("evaluation", 1, 5, 5),
        ("training", 2, 5, 9),
    ]
    assert account.segments[2].seconds >= 0.01


def test_segments_leave_no_gap_and_do_not_overlap():
    account = TrainingAccount("x", record=False)
    began_s = time.monotonic()
    account.begin(epoch=1, step=0)
    for _ in range(20):
        account.turn_to("evaluation")
        account.turn_back()
    account.end()
    took_s = time.monotonic() - began_s
    whole_s = sum(segment.seconds for segment in account.segments)
    assert len(account.segments) == 41
    assert whole_s <= took_s
    assert account.segments[0].seconds > 0


@given(
    st.lists(st.sampled_from(["step", "epoch", "evaluate", "back", "end", "begin", "predict"]), max_size=25)
)
def test_in_any_order_of_events_each_step_is_counted_once(events):
    account = TrainingAccount("x", record=False)
    step, epoch = 0, 1
    for event in events:
        if event == "step":
            step += 1
            account.stepped(step)
        elif event == "epoch":
            epoch += 1
            account.train(epoch=epoch, step=step)
        elif event == "begin":
            account.begin(epoch=epoch, step=step)
        elif event == "evaluate":
            account.turn_to("evaluation", step=step)
        elif event == "predict":
            account.turn_to("inference", step=step)
        elif event == "back":
            account.turn_back()
        else:
            account.end()
    account.end()
    spans = [(segment.first_step, segment.last_step) for segment in account.segments]
    assert all(first <= last for first, last in spans)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    assert all(segment.seconds >= 0 for segment in account.segments)


def test_a_resumed_training_books_only_what_it_does_itself():
    first = TrainingAccount("bert")
    first.begin(epoch=1, step=0)
    first.stepped(50)
    first.end("failed")
    resumed = TrainingAccount("bert")
    resumed.begin(epoch=1, step=50)
    resumed.stepped(100)
    resumed.end()
    assert [(s.first_step, s.last_step) for s in (*first.segments, *resumed.segments)] == [
        (0, 50),
        (50, 100),
    ]
    booked = rows()
    assert [row.status for row in booked] == ["failed", "ok"]
    assert booked[0].started_s + booked[0].seconds <= booked[1].started_s + 0.05


def test_a_training_that_raised_is_booked_as_failed_when_the_next_begins():
    account = TrainingAccount("bert")
    account.begin(epoch=1, step=0)
    account.begin(epoch=1, step=0)
    account.end()
    assert [row.status for row in rows()] == ["failed", "ok"]


def test_other_ranks_measure_nothing(fresh_home):
    account = TrainingAccount("bert", rank=LocalRank(3, 4))
    account.begin(epoch=1, step=0)
    account.end()
    assert (account.segments, account.footprint) == ([], None)
    assert not (fresh_home / "ledger.sqlite").exists()


def test_what_fails_is_told_once_and_training_goes_on(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NEGAJOULE_HOME", str(tmp_path / "file" / "home"))
    account = TrainingAccount("bert")
    account.begin(epoch=1, step=0)
    with pytest.warns(RuntimeWarning, match="isn't measured any more") as caught:
        account.train(epoch=2, step=1)
    account.train(epoch=3, step=2)
    account.end()
    assert len(caught) == 1


@pytest.mark.parametrize(
    ("environment", "rank"),
    [
        ({}, (0, 1)),
        ({"LOCAL_RANK": "2", "LOCAL_WORLD_SIZE": "4"}, (2, 4)),
        ({"LOCAL_RANK": "1"}, (1, 1)),
        ({"OMPI_COMM_WORLD_LOCAL_RANK": "0", "OMPI_COMM_WORLD_LOCAL_SIZE": "8"}, (0, 8)),
        ({"SLURM_LOCALID": "3", "SLURM_NTASKS_PER_NODE": "4(x2)"}, (3, 1)),
        ({"LOCAL_RANK": "", "SLURM_LOCALID": "1", "SLURM_NTASKS_PER_NODE": "2"}, (1, 2)),
        ({"LOCAL_RANK": "-1"}, (0, 1)),
    ],
)
def test_launchers_tell_which_rank_this_is(environment, rank):
    assert local_rank(environment) == rank


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the process tree of Linux")
def test_four_ranks_on_a_host_are_one_host(fresh_home, tmp_path):
    """A launcher starts four processes, as torchrun does: one row, with the CPU time of all four."""
    rank = textwrap.dedent(
        """
        import os, sys, time
        from pathlib import Path
        from negajoule.instrument.callbacks import TrainingAccount

        def wait_for(*names):
            until = time.monotonic() + 60
            while not all((folder / name).exists() for name in names):
                assert time.monotonic() < until, "the other ranks never came"
                time.sleep(0.01)

        folder, number = Path(sys.argv[1]), os.environ["LOCAL_RANK"]
        account = TrainingAccount("ddp")
        account.begin(epoch=1, step=0)
        (folder / f"begun {number}").touch()
        wait_for("begun 0")
        end = time.thread_time() + 0.3
        while time.thread_time() < end:
            pass
        (folder / f"done {number}").touch()
        wait_for(*(f"done {n}" for n in range(4)))
        time.sleep(0.1)
        account.end()
        """
    )
    launcher = textwrap.dedent(
        """
        import os, subprocess, sys
        ranks = [
            subprocess.Popen([sys.executable, "-c", *sys.argv[1:]],
                             env={**os.environ, "LOCAL_RANK": str(n), "LOCAL_WORLD_SIZE": "4"})
            for n in range(4)
        ]
        sys.exit(max(rank.wait() for rank in ranks))
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", launcher, rank, str(tmp_path)],
        env={**os.environ, "NEGAJOULE_HOME": str(fresh_home)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    (row,) = rows()
    assert row.cpu_seconds > 1.1, "rank 0 alone took 0.3 s"
    idle = [part.energy.value for part in row.footprint.parts if part.name == "machine idle"]
    assert len(idle) <= 1


def test_the_meter_of_a_single_rank_is_that_of_this_process():
    meter = meter_of_ranks(LocalRank(0, 1))
    first = meter.read()
    spin(0.05)
    assert meter.between(first, meter.read()).cpu_s >= 0.05
    meter.close()
