from __future__ import annotations

import pytest

from negajoule.errors import ConfigError
from negajoule.profile.quiet import free_load, wait_until_quiet


def loads(*values):
    left = list(values)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


def test_a_free_machine_is_not_waited_for():
    assert wait_until_quiet(8, wait_s=0, load=loads(1.9), sleep=pytest.fail)


def test_a_busy_machine_is_waited_for():
    slept, told = [], []
    waited = wait_until_quiet(
        8, wait_s=60, load=loads(6.0, 4.0, 1.0), sleep=slept.append, waiting=lambda *seen: told.append(seen)
    )
    assert waited
    assert len(slept) == 2
    assert told == [(6.0, 2.0), (4.0, 2.0)]


def test_a_machine_that_stays_busy_is_refused_with_its_load():
    slept = []
    with pytest.raises(ConfigError, match=r"9\.0 programs want its 2 processors, 0\.5") as caught:
        wait_until_quiet(2, wait_s=20, load=loads(9.0), sleep=slept.append)
    assert caught.value.code == "C114"
    assert "--allow-load" in caught.value.fix
    assert sum(slept) == 20


def test_load_can_be_accepted_and_is_remembered():
    assert not wait_until_quiet(2, wait_s=60, allow_load=True, load=loads(9.0), sleep=pytest.fail)


def test_one_processor_may_have_half_a_program():
    assert free_load(1) == 0.5
    assert free_load(64) == 16.0
