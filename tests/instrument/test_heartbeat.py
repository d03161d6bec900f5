"""Work that lasts is looked after by one thread; short work starts nothing and leaves nothing."""

from __future__ import annotations

import os
import threading
import time

from negajoule.instrument.heartbeat import PERIOD_S, YOUNGEST_S, Heartbeat
from negajoule.meter.journal import HEARTBEAT_S


class Counted:
    def __init__(self) -> None:
        self.beats = 0

    def beat(self) -> None:
        self.beats += 1


def until(condition, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()


def threads() -> int:
    return sum(thread.name == "negajoule-heartbeat" for thread in threading.enumerate())


def test_it_keeps_the_journals_promise():
    assert PERIOD_S + YOUNGEST_S < HEARTBEAT_S


def test_many_share_one_thread_which_ends_with_them():
    before = threads()
    heartbeat = Heartbeat(period_s=0.02, youngest_s=0.0)
    members = [Counted() for _ in range(5)]
    for member in members:
        heartbeat.add(member)
    assert threads() == before + 1
    assert until(lambda: all(member.beats >= 2 for member in members))
    for member in members:
        heartbeat.remove(member)
    assert until(lambda: threads() == before)
    last = [member.beats for member in members]
    again = Counted()
    heartbeat.add(again)
    assert until(lambda: again.beats >= 1)
    assert [member.beats for member in members] == last
    heartbeat.remove(again)
    assert until(lambda: threads() == before)


def test_the_young_are_passed_over():
    heartbeat = Heartbeat(period_s=0.02, youngest_s=60.0)
    young = Counted()
    heartbeat.add(young)
    time.sleep(0.1)
    heartbeat.remove(young)
    heartbeat.remove(young)
    assert young.beats == 0


def test_a_forked_child_has_none_of_its_parents_members():
    heartbeat = Heartbeat(period_s=60.0, youngest_s=0.0)
    mine = Counted()
    heartbeat._since_s[id(mine)] = (mine, 0.0)
    pid = os.fork()
    if pid == 0:
        os._exit(len(heartbeat._since_s))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert len(heartbeat._since_s) == 1
