"""A failing source is left alone, longer each time, and not for ever."""

from __future__ import annotations

import pytest

from negajoule.grid.circuit import Circuit

NOW = 1_000_000_000.0


def wait_s(circuit, source="s", now_s=NOW):
    state = circuit.opened(source, now_s)
    return state.open_until_s - now_s


def test_a_source_that_never_failed_is_asked(tmp_path):
    assert Circuit(tmp_path).opened("s", NOW) is None


def test_waits_double_with_jitter_up_to_a_limit(tmp_path):
    circuit = Circuit(tmp_path)
    for n in range(12):
        circuit.failed("s", NOW, "no")
        middle = min(900.0, 15.0 * 2**n)
        assert 0.5 * middle <= wait_s(circuit) <= 1.5 * middle
    state = circuit.opened("s", NOW)
    assert (state.failures, state.reason) == (12, "no")


def test_jitter_parts_machines(tmp_path):
    waits = set()
    for n in range(10):
        circuit = Circuit(tmp_path / str(n))
        circuit.failed("s", NOW, "no")
        waits.add(wait_s(circuit))
    assert len(waits) == 10


def test_after_the_wait_it_is_asked_again_and_success_forgets(tmp_path):
    circuit = Circuit(tmp_path)
    circuit.failed("s", NOW, "no")
    assert circuit.opened("s", NOW + 60) is None
    circuit.failed("s", NOW + 60, "no")
    assert circuit.opened("s", NOW + 61).failures == 2
    circuit.succeeded("s")
    assert circuit.opened("s", NOW + 61) is None
    circuit.failed("s", NOW + 62, "no")
    assert circuit.opened("s", NOW + 62).failures == 1


@pytest.mark.parametrize(
    ("asked_s", "least", "most"),
    [(3600, 3600, 3600), (1, 7.5, 22.5), (10**9, 86_400, 86_400), (None, 7.5, 22.5)],
)
def test_retry_after_is_honoured_up_to_a_day(tmp_path, asked_s, least, most):
    circuit = Circuit(tmp_path)
    circuit.failed("s", NOW, "no", asked_s)
    assert least <= wait_s(circuit) <= most


def test_it_survives_a_restart_and_sources_are_apart(tmp_path):
    Circuit(tmp_path).failed("s", NOW, "no")
    assert Circuit(tmp_path).opened("s", NOW).reason == "no"
    assert Circuit(tmp_path).opened("t", NOW) is None
    Circuit(tmp_path).succeeded("s")
    assert Circuit(tmp_path).opened("s", NOW) is None


def test_a_clock_set_back_does_not_leave_it_open_for_years(tmp_path):
    Circuit(tmp_path).failed("s", NOW, "no")
    assert Circuit(tmp_path).opened("s", NOW - 10 * 86_400) is None


@pytest.mark.parametrize("damage", [b"", b"{", b"null", b'{"failures": "x"}'])
def test_damage_closes_it(tmp_path, damage):
    Circuit(tmp_path).failed("s", NOW, "no")
    (tmp_path / "s.json").write_bytes(damage)
    assert Circuit(tmp_path).opened("s", NOW) is None


def test_a_folder_that_cannot_be_written_keeps_it_in_memory(tmp_path):
    (tmp_path / "file").write_text("in the way")
    circuit = Circuit(tmp_path / "file")
    circuit.failed("s", NOW, "no")
    assert circuit.opened("s", NOW).failures == 1
    circuit.succeeded("s")
    assert circuit.opened("s", NOW) is None
