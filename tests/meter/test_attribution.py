import pytest
from hypothesis import given
from hypothesis import strategies as st
from trees import coefficients, host

from negajoule.meter.attribution import (
    Claim,
    Counted,
    CpuShare,
    machine_slices,
    modelled,
    reserved_cores,
    reserved_share,
    split,
)
from negajoule.meter.model import ONE, ZERO, Span, from_catalog


def exactly(value):
    return Span(value, value, value)


def counted(component, energy_j, domain=None, grade="A"):
    domain = domain or component
    return Counted(component, domain, f"counter {domain}", grade, energy_j)


def claim(cpu=0.0, reserved=0.0, memory=0.0, gpu=0.0):
    return Claim(exactly(cpu), exactly(reserved), exactly(memory), {"gpu 0": exactly(gpu)})


def energy_of(slices):
    return sum(item.energy_j.value for item in slices)


def by_name(slices):
    return {item.name: item.energy_j.value for item in slices}


def test_active_by_cpu_time_and_idle_by_reservation():
    result = split(
        [counted("cpu", exactly(100.0)), counted("memory", exactly(20.0))],
        [claim(cpu=0.5, reserved=0.25, memory=0.1)],
        idle_j=exactly(40.0),
        server_idle_j=exactly(80.0),
    )
    assert by_name(result.claims[0]) == pytest.approx({"cpu active": 30.0, "cpu idle": 10.0, "memory": 2.0})
    assert by_name(result.unattributed) == pytest.approx(
        {"cpu active": 30.0, "cpu idle": 30.0, "memory": 18.0}
    )


def test_idle_power_doesn_t_vanish_under_load():
    """Idle is configured or measured, not what is left: it stays the same at any load."""
    idle = [
        by_name(
            split(
                [counted("cpu", exactly(whole))],
                [claim(cpu=1.0, reserved=1.0)],
                idle_j=exactly(40.0),
                server_idle_j=ZERO,
            ).claims[0]
        )["cpu idle"]
        for whole in (50.0, 100.0, 400.0)
    ]
    assert idle == [40.0, 40.0, 40.0]


def test_a_platform_contains_the_others():
    items = [
        counted("platform", exactly(300.0)),
        counted("cpu", exactly(100.0)),
        counted("memory", exactly(20.0)),
        counted("gpu", exactly(80.0), "gpu 0"),
        counted("check", exactly(250.0), "psys"),
    ]
    slices = machine_slices(items)
    assert energy_of(slices) == pytest.approx(300.0)
    assert by_name(slices)["rest of the machine"] == pytest.approx(100.0)
    result = split(items, [claim(1, 1, 1, 1)], idle_j=exactly(10.0), server_idle_j=exactly(80.0))
    assert energy_of(result.claims[0]) == pytest.approx(300.0)


def test_a_platform_alone_is_split_into_active_and_idle():
    result = split(
        [counted("platform", exactly(300.0))],
        [claim(cpu=0.5, reserved=0.25)],
        idle_j=exactly(10.0),
        server_idle_j=exactly(100.0),
    )
    assert by_name(result.claims[0]) == pytest.approx({"machine active": 100.0, "machine idle": 25.0})


def test_a_board_nobody_claims_is_unattributed():
    result = split(
        [counted("gpu", exactly(50.0), "gpu 1")], [claim(gpu=1.0)], idle_j=ZERO, server_idle_j=ZERO
    )
    assert energy_of(result.claims[0]) == 0.0
    assert energy_of(result.unattributed) == 50.0


def test_claims_beyond_the_whole_are_scaled_down():
    result = split(
        [counted("cpu", exactly(100.0))],
        [claim(cpu=0.8, reserved=1.0), claim(cpu=0.8, reserved=1.0)],
        idle_j=exactly(40.0),
        server_idle_j=ZERO,
    )
    assert energy_of(result.claims[0]) == pytest.approx(50.0)
    assert energy_of(result.unattributed) == pytest.approx(0.0)


SHARE = st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)).map(
    lambda three: Span(sorted(three)[1], sorted(three)[0], sorted(three)[2])
)
JOULES = st.tuples(st.floats(0, 1e6), st.floats(0, 0.2)).map(
    lambda pair: Span(pair[0], pair[0] * (1 - pair[1]), pair[0] * (1 + pair[1]))
)
CLAIMS = st.lists(
    st.builds(Claim, SHARE, SHARE, SHARE, st.dictionaries(st.just("gpu 0"), SHARE)), min_size=0, max_size=6
)


@given(JOULES, JOULES, JOULES, JOULES, JOULES, CLAIMS, st.booleans())
def test_claims_and_the_unattributed_add_to_the_machine(cpu, memory, gpu, rest, idle, claims, with_platform):
    items = [counted("cpu", cpu), counted("memory", memory), counted("gpu", gpu, "gpu 0")]
    whole = cpu.value + memory.value + gpu.value
    if with_platform:
        whole += rest.value
        items.append(counted("platform", exactly(whole)))
    result = split(items, claims, idle_j=idle, server_idle_j=idle)
    parts = sum(map(energy_of, result.claims)) + energy_of(result.unattributed)
    assert parts == pytest.approx(whole, rel=1e-9, abs=1e-9)
    for piece in (*result.unattributed, *(piece for own in result.claims for piece in own)):
        assert 0.0 <= piece.energy_j.low <= piece.energy_j.value * (1 + 1e-12) + 1e-12
        assert piece.energy_j.value <= piece.energy_j.high * (1 + 1e-12) + 1e-12
    assert energy_of(machine_slices(items)) == pytest.approx(whole, rel=1e-9, abs=1e-9)


def test_counted_energy_that_was_bridged_is_assumed():
    result = split([counted("cpu", exactly(10.0), grade="E")], [claim(1, 1)], idle_j=ZERO, server_idle_j=ZERO)
    assert {piece.basis for piece in result.claims[0]} == {"assumed"}
    assert {piece.grade for piece in result.claims[0]} == {"E"}


def model(seconds=10.0, cpu_s=0.0, cores=32.0, memory=0.0, counted=frozenset()):
    return modelled(
        coefficients(),
        seconds=seconds,
        cpu_s=cpu_s,
        cores=exactly(cores),
        memory_bytes=exactly(memory),
        counted=frozenset(counted),
    )


def test_the_model_s_three_terms():
    parts = {piece.name: piece for piece in model(cpu_s=8.0, memory=10e9)}
    assert parts["cpu active"].energy_j == pytest.approx((8 * 0.75 * 4, 8 * 0.5 * 3, 8 * 1.0 * 5))
    assert parts["machine idle"].energy_j == pytest.approx((32 * 2 * 10, 32 * 1 * 10, 32 * 3 * 10))
    assert parts["memory"].energy_j == pytest.approx((30.0, 20.0, 40.0))
    assert {piece.grade for piece in parts.values()} == {"D"}


def test_sleeping_costs_less_than_spinning():
    assert energy_of(model(cpu_s=0.0)) < energy_of(model(cpu_s=10.0))


@given(st.floats(0, 2e12), st.floats(0, 2e12))
def test_memory_is_monotone_in_its_size(first, second):
    low, high = sorted((first, second))
    assert energy_of(model(memory=low)) <= energy_of(model(memory=high))


def test_measured_memory_replaces_the_model_s():
    assert "memory" not in by_name(model(memory=1e9, counted={"cpu", "memory"}))
    assert "memory" in by_name(model(memory=1e9, counted={"cpu"}))


def test_beside_a_package_counter_only_the_rest_of_the_machine_is_modelled():
    parts = {piece.name: piece for piece in model(counted={"cpu"})}
    assert set(parts) == {"rest of the machine", "memory"}
    assert parts["rest of the machine"].energy_j == pytest.approx((320.0, 0.0, 32 * 2.5 * 10))


def test_beside_a_platform_nothing_is_modelled():
    assert model(counted={"platform"}) == ()


def test_a_container_bills_its_share_and_not_the_host():
    """A quota of two threads on a host of 64 reserves one core of 32."""
    limited = host(quota_cpus=2.0)
    assert reserved_cores(limited, coefficients(), cpu_s=0.0, seconds=1.0) == (1.0, 1.0, 1.0)
    assert reserved_share(limited, cpu_s=0.0, seconds=1.0) == (2 / 64, 2 / 64, 2 / 64)


def test_affinity_is_a_reservation():
    assert reserved_cores(host(affinity=8), coefficients(), cpu_s=0.0, seconds=1.0).value == 4.0


def test_without_a_reservation_the_lower_bound_is_what_was_busy():
    cores = reserved_cores(host(), coefficients(), cpu_s=20.0, seconds=10.0)
    assert cores == (32.0, 1.0, 32.0)
    assert reserved_share(host(), cpu_s=20.0, seconds=10.0) == (1.0, 2 / 64, 1.0)


def test_a_vm_s_processors_are_threads():
    found = from_catalog(host(virtual=True, threads=8, threads_per_core=1))
    assert found.cores_per_reserved_thread.low == 0.5
    assert found.cores_per_reserved_thread.high == 1.0
    assert found.cores_per_busy_thread.low == 0.5
    assert "virtual processor" in found.notes[0]


def test_bare_cores_are_whole_cores():
    found = from_catalog(host(threads_per_core=1))
    assert found.cores_per_busy_thread == ONE
    assert found.cores_per_reserved_thread == ONE
    assert found.notes == ()


def test_a_machine_s_full_load_lies_within_the_bounds_of_its_threads():
    """64 busy threads on 32 cores are 32 busy cores."""
    span = from_catalog(host()).cores_per_busy_thread.scaled(64)
    assert span.low <= 32 <= span.high


def test_cpu_share_needs_no_fine_clock():
    shares = CpuShare(0.0, 0.0, 0.0)
    first = shares.since(0.001, 0.001, 0.0)
    assert first.value == 1.0
    assert first.low < 0.1
    time_s = 0.0
    for step in range(1, 2001):
        time_s = step * 0.001
        share = shares.since(time_s, 0.25 * time_s, round(time_s, 2))
    assert share.value == pytest.approx(0.25, abs=0.01)
    assert share.low <= 0.25 <= share.high


def test_cpu_share_of_a_sleeper_is_nothing():
    assert CpuShare(0.0, 0.0, 0.0).since(1.0, 0.0, 5.0) == ZERO


@given(st.lists(st.tuples(st.floats(0, 2), st.floats(0, 4), st.floats(0, 8)), min_size=1, max_size=50))
def test_cpu_share_stays_a_share(steps):
    shares = CpuShare(0.0, 0.0, 0.0)
    time_s = tree_s = machine_s = 0.0
    for seconds, tree, machine in steps:
        time_s, tree_s, machine_s = time_s + seconds, tree_s + tree, machine_s + machine
        share = shares.since(time_s, tree_s, machine_s)
        assert 0.0 <= share.low <= share.value <= share.high <= 1.0
