from __future__ import annotations

import pytest

from negajoule.engine import FakeEngine
from negajoule.errors import ConfigError, EngineError
from negajoule.meter import Meter
from negajoule.profile import Sweep, Target, run_sweep, summarise
from negajoule.profile.profile import EngineFacts, WeightsFacts
from negajoule.profile.prompts import TokenPrompts
from steady_engine import SteadyEngine


def fake_target(*formats, meter=True, kind=SteadyEngine, **options):
    """The engines say "fake": nothing that they give is a measurement of a model."""
    engines = {name: kind(model_id=name, **options) for name in formats or ("Q8_0",)}
    first = next(iter(engines.values()))
    return Target(
        "fake",
        engines,
        weights=[
            WeightsFacts(format=name, sha256="", size_bytes=None, parameters=None, kv_bytes_per_token=None)
            for name in engines
        ],
        facts=EngineFacts(
            name=first.name,
            version="",
            slots=first.slots,
            threads=1,
            context_tokens=first.models[0].context_tokens,
            step_tokens=128,
            where="here",
        ),
        prompts=TokenPrompts(),
        meter=Meter.for_process(probes=[]) if meter else None,
        engine_here=meter,
    )


TINY = Sweep(batches=(1, 3), prompts=(8, 24), outputs=(12,), repeats=2)


@pytest.fixture(scope="module")
def profile():
    with fake_target("F16", "Q8_0", step_s=0.004) as target:
        target.idle_window = lambda: type(target).idle_window(target, 0.02)
        told = []
        yield run_sweep(target, TINY, progress=lambda done, whole: told.append((done, whole)))
        assert told[0] == (0, 16)
        assert told[-1] == (16, 16)


def test_every_cell_is_measured_in_every_round(profile):
    seen = [(one.cell, one.repeat) for one in profile.samples]
    assert len(seen) == len(set(seen)) == 2 * 2 * 2 * 2
    assert profile.formats == ("F16", "Q8_0")


def test_formats_of_a_cell_follow_each_other(profile):
    cells = [one.cell for one in profile.samples]
    for first, second in zip(cells[::2], cells[1::2], strict=True):
        assert {first.format, second.format} == {"F16", "Q8_0"}
        assert (first.batch, first.prompt_tokens) == (second.batch, second.prompt_tokens)


def test_phases_hold_what_was_asked(profile):
    for one in profile.samples:
        cell = one.cell
        assert one.prefill.tokens == cell.batch * cell.prompt_tokens
        assert one.decode.tokens <= cell.batch * cell.output_tokens
        assert one.decode.tokens >= 1
        assert one.decode.context_tokens > cell.batch * cell.prompt_tokens
        assert 0.003 < one.itl_s < 1.0
        assert one.prefill.cpu_s >= 0.0
        value, low, high = one.decode.energy_j
        assert 0 <= low <= value <= high


def test_the_profile_says_how_its_joules_came_about(profile):
    assert profile.energy_basis == "modelled"
    assert "cpu." in profile.energy_source
    value, low, high = profile.idle_w
    assert 0 < low <= value <= high
    assert profile.engine.name == "fake"


def test_the_summary_has_a_row_for_each_cell(profile):
    rows = summarise(profile)
    assert [row.cell.format for row in rows] == ["F16"] * 4 + ["Q8_0"] * 4
    for row in rows:
        assert row.rounds == 2
        assert row.itl_s.low <= row.itl_s.value <= row.itl_s.high
        assert row.decode_j.value > 0


def test_an_engine_elsewhere_has_no_cpu_time_and_no_energy():
    with fake_target(meter=False) as target:
        found = run_sweep(target, Sweep(batches=(1,), prompts=(8,), outputs=(2,), repeats=1))
    assert {(one.prefill.cpu_s, one.decode.energy_j) for one in found.samples} == {(None, None)}
    assert (found.energy_basis, found.idle_w) == (None, None)
    assert summarise(found)[0].decode_j is None
    assert found.cheapest_known() == "time"


def test_the_order_is_mixed_and_repeatable():
    sweep = Sweep(repeats=2)
    first = list(sweep.round(("F16", "Q4_0"), 0))
    assert first == list(sweep.round(("F16", "Q4_0"), 0))
    assert first != list(sweep.round(("F16", "Q4_0"), 1))
    assert len(first) == sweep.cells(("F16", "Q4_0")) / 2


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"batches": (0,)}, "--batch 0"),
        ({"batches": (100_000,)}, "--batch 100000"),
        ({"batches": ()}, "--batch is empty"),
        ({"prompts": (-3,)}, "--prompt -3"),
        ({"outputs": (1,)}, "--output 1"),
        ({"repeats": 0}, "--repeats 0"),
    ],
)
def test_impossible_sweeps_are_refused(given, name):
    with pytest.raises(ConfigError, match=name):
        Sweep(**given)


def test_a_batch_or_length_beyond_the_engine_is_refused():
    with fake_target(slots=2, context_tokens=100) as target:
        with pytest.raises(ConfigError, match=r"--batch 3 is more than .* \(2\)"):
            run_sweep(target, Sweep(batches=(3,), prompts=(8,), outputs=(2,)))
        with pytest.raises(ConfigError, match="don't fit the context of 100"):
            run_sweep(target, Sweep(batches=(1,), prompts=(98,), outputs=(2,)))


def test_too_many_measurements_are_refused():
    with pytest.raises(ConfigError, match="too many"):
        Sweep(batches=tuple(range(1, 100)), prompts=tuple(range(1, 50)), outputs=(2, 3, 4)).cells(("F16",))


def test_what_the_engine_raises_comes_through():
    failure = EngineError("out of order")
    with (
        fake_target(kind=FakeEngine, failure=failure) as target,
        pytest.raises(EngineError, match="out of order"),
    ):
        run_sweep(target, Sweep(batches=(1,), prompts=(8,), outputs=(2,), repeats=1))


def test_answers_too_short_for_the_batch_are_named():
    with fake_target(slots=1) as target:
        target.engines["Q8_0"].slots = 2  # promises more than it works on at once
        with pytest.raises(EngineError, match="before the whole batch had begun") as caught:
            run_sweep(target, Sweep(batches=(2,), prompts=(8,), outputs=(2,), repeats=1))
    assert caught.value.code == "E104"
