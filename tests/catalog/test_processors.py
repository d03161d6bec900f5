"""From the names processors give themselves to their rows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from negajoule.catalog import architecture_of, core_power, cpu_tdp, gpu_tdp, lookup, search


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("AMD EPYC 7601 32-Core Processor", "epyc-1"),
        ("AMD EPYC 7R13 Processor", "epyc-3"),
        ("AMD EPYC 9654 96-Core Processor", "epyc-4"),
        ("AMD EPYC 8024P 8-Core Processor", "epyc-4"),
        ("AMD EPYC 9965 192-Core Processor", "epyc-5"),
        ("AMD EPYC-Rome Processor", "epyc-2"),
        ("AMD EPYC", "epyc"),
        ("AMD EPYC 4564P 16-Core Processor", "desktop"),
        ("Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz", "broadwell"),
        ("Intel(R) Xeon(R) CPU E5-2660 0 @ 2.20GHz", "sandy-bridge"),
        ("Intel(R) Xeon(R) Platinum 8175M CPU @ 2.50GHz", "skylake"),
        ("Intel(R) Xeon(R) Gold 6248 CPU @ 2.50GHz", "cascade-lake"),
        ("Intel(R) Xeon(R) Platinum 8380H CPU @ 2.90GHz", "cooper-lake"),
        ("Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz", "ice-lake"),
        ("Intel(R) Xeon(R) Platinum 8488C", "sapphire-rapids"),
        ("INTEL(R) XEON(R) PLATINUM 8592+", "emerald-rapids"),
        ("Intel(R) Xeon(R) 6980P", "granite-rapids"),
        ("Intel(R) Xeon(R) 6780E", "sierra-forest"),
        ("Intel(R) Xeon(R) E-2388G CPU @ 3.20GHz", "desktop"),
        ("Intel(R) Xeon(R) CPU @ 2.20GHz", "xeon"),
        ("Intel(R) Xeon(R) CPU E3-1240 V2 @ 3.40GHz", "desktop"),
        ("Neoverse-N1", "ampere-altra"),
        ("13th Gen Intel(R) Core(TM) i9-13900K", "desktop"),
        ("AMD Ryzen 9 7950X 16-Core Processor", "desktop"),
        ("11th Gen Intel(R) Core(TM) i7-1165G7 @ 2.80GHz", None),
        ("Intel(R) Core(TM) Ultra 7 155H", None),
        ("AMD Ryzen 7 PRO 4750U with Radeon Graphics", None),
        ("AMD Ryzen Threadripper PRO 5995WX 64-Cores", None),
        ("QEMU Virtual CPU version 2.5+", None),
        ("", None),
    ],
)
def test_names_tell_the_architecture(name, expected):
    assert architecture_of(name) == expected


@pytest.mark.parametrize(
    ("name", "family", "model", "expected"),
    [
        ("AMD EPYC", 25, 17, "epyc-4"),
        ("AMD EPYC Processor", 26, 2, "epyc-5"),
        ("Intel(R) Xeon(R) Processor", 6, 143, "sapphire-rapids"),
        ("Intel(R) Xeon(R) CPU @ 2.20GHz", 6, 85, "xeon"),  # Skylake, Cascade Lake or Cooper Lake
        ("AMD EPYC 7763 64-Core Processor", 25, 17, "epyc-3"),  # the name says more
        ("AMD EPYC", 99, 1, "epyc"),
        ("Common KVM processor", 25, 17, None),
    ],
)
def test_numbers_help_where_the_name_hides_the_model(name, family, model, expected):
    assert architecture_of(name, family=family, model=model) == expected


def test_power_comes_from_the_architecture_or_else_from_all_servers():
    active, idle = core_power("AMD EPYC 9654 96-Core Processor")
    assert active.key == "cpu.architecture.epyc-4.core.active_power"
    assert idle.key == "cpu.architecture.epyc-4.core.idle_power"
    assert [fact.key for fact in core_power("")] == ["cpu.core.active_power", "cpu.core.idle_power"]


@pytest.mark.parametrize(
    ("name", "measured_w_per_core"),
    [
        # Package watts at full load over cores, from CodeCarbon's load sweeps (docs/design/catalog.md).
        ("AMD EPYC 8024P 8-Core Processor", 5.7),
        ("AMD Ryzen Threadripper 1950X 16-Core Processor", 10.3),
        ("Intel(R) Xeon(R) CPU E3-1240 V2 @ 3.40GHz", 12.0),
        ("Intel(R) Xeon(R) CPU E5-2620 v3 @ 2.40GHz", 9.7),
    ],
)
def test_the_interval_holds_what_was_measured(name, measured_w_per_core):
    active, _ = core_power(name)
    assert active.low <= measured_w_per_core <= active.high


def test_a_part_with_few_cores_may_draw_its_tdp():
    active, _ = core_power("AMD EPYC 8024P 8-Core Processor")
    assert active.high == 90 / 8
    assert "cpu.tdp.amd-epyc-8024p" in active.note
    usual, _ = core_power("AMD EPYC 9654 96-Core Processor")
    assert usual == lookup(usual.key)


@given(st.text(max_size=40), st.integers(0, 30), st.integers(0, 255))
def test_any_name_has_some_power(name, family, model):
    active, idle = core_power(name, family=family, model=model)
    assert 0 < active.low <= active.value <= active.high
    assert 0 <= idle.low <= idle.value <= idle.high


def test_every_architecture_has_both_rows():
    starts = {fact.key.rpartition(".")[0] for fact in search("cpu.architecture.")}
    assert len(starts) >= 20
    for start in starts:
        assert lookup(f"{start}.idle_power").value < lookup(f"{start}.active_power").value


def test_the_rows_of_all_servers_span_the_architectures_of_today():
    everything = lookup("cpu.core.active_power")
    for name in ("epyc-4", "epyc-5", "sapphire-rapids", "emerald-rapids", "granite-rapids"):
        value = lookup(f"cpu.architecture.{name}.core.active_power").value
        assert everything.low <= value <= everything.high


@pytest.mark.parametrize(
    ("name", "watts"),
    [
        ("AMD EPYC 9654 96-Core Processor", 360),
        ("Intel(R) Xeon(R) Gold 6548Y+", 250),
        ("Intel(R) Xeon(R) CPU Max 9480", 350),
        ("13th Gen Intel(R) Core(TM) i9-13900K", 125),
        ("AMD Ryzen 9 7950X 16-Core Processor", 170),
        ("AMD Ryzen Threadripper PRO 5995WX 64-Cores", 280),
    ],
)
def test_listed_processors_have_their_tdp(name, watts):
    fact = cpu_tdp(name)
    assert fact is not None
    assert fact.value == watts


@pytest.mark.parametrize("name", ["AMD EPYC", "Intel(R) Xeon(R) CPU @ 2.20GHz", "", "no such thing"])
def test_a_name_without_a_model_is_nobodys_tdp(name):
    assert cpu_tdp(name) is None


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA H100 NVL", "h100-nvl"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA A100 80GB PCIe", "a100-pcie-80gb"),
        ("NVIDIA A100-PCIE-40GB", "a100-pcie-40gb"),
        ("Tesla V100-SXM2-16GB", "v100"),
        ("Tesla T4", "t4"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA GeForce RTX 3080 Ti", "rtx-3080-ti"),
        ("NVIDIA GeForce RTX 3080", "rtx-3080"),
        ("NVIDIA RTX 6000 Ada Generation", "rtx-6000-ada"),
        ("AMD Instinct MI300X", "mi300x"),
        ("NVIDIA TITAN X (Pascal)", "titan-x-pascal"),
    ],
)
def test_accelerators_are_found_by_their_drivers_name(name, key):
    fact = gpu_tdp(name)
    assert fact is not None
    assert fact.key == f"gpu.tdp.{key}"


@pytest.mark.parametrize(
    "name", ["NVIDIA GeForce RTX 3080 Laptop GPU", "NVIDIA GeForce RTX 4080 SUPER", "", "GPU"]
)
def test_another_product_is_not_taken_for_a_listed_one(name):
    assert gpu_tdp(name) is None
