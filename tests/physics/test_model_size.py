import csv

import pytest

from negajoule.errors import CatalogError, ConfigError
from negajoule.physics import model_size
from negajoule.physics.accelerators import accelerator_names, format_bytes, hardware_of, number_format
from negajoule.physics.model_size import all_layouts, find_model, model_names


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("openai/gpt-4o-2024-08-06", "gpt-4o-2024-08-06"),
        ("gpt-4o-latest", "gpt-4o"),
        ("GPT-4o", "gpt-4o"),
        ("gpt-35-turbo", "gpt-3.5-turbo"),
        ("claude-haiku-4-5", "claude-haiku-4-5-20251001"),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5-20250929"),
        ("models/gemini-2.5-pro-preview-05-06", "gemini-2.5-pro"),
        ("meta-llama/Meta-Llama-3.1-8B-Instruct", "llama-3-8b"),
        ("llama-3.3-70b-versatile", "llama-3-70b"),
        ("nvidia/NVIDIA-Nemotron-Nano-9B-v2", "nemotron-nano-9b-v2"),
        ("deepseek/deepseek-chat:free", "deepseek-v3"),
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-70B", "llama-3-70b"),
        ("open-mistral-7b", "mistral-7b"),
    ],
)
def test_finds_models_as_people_write_them(written, found):
    assert find_model(written).name == found


def test_versions_of_one_base_model_share_it():
    family = ["Instruct-2507", "Instruct-2507-FP8", "Thinking-2507", "Thinking-2507-FP8"]
    names = {find_model(f"Qwen/Qwen3-235B-A22B-{version}").name for version in family}
    assert names == {find_model("Qwen/Qwen3-VL-235B-A22B-Instruct").name} == {"qwen3-235b-a22b"}


def test_number_format_follows_from_the_name_or_the_maker():
    assert find_model("Qwen/Qwen3-235B-A22B-Instruct-2507-FP8").precision == "fp8"
    assert find_model("Qwen/Qwen3-235B-A22B-Instruct-2507").precision is None
    assert find_model("openai/gpt-oss-120b").precision == "mxfp4"


@pytest.mark.parametrize(
    "other", ["deepseek-r1-distill-qwen-100b", "bloom-7b1", "glm-4.5-flash", "llama-3-8bit"]
)
def test_a_sibling_of_another_size_is_not_the_model(other):
    with pytest.raises(CatalogError) as raised:
        find_model(other)
    assert raised.value.code == "F101"


def test_unknown_model_names_near_ones():
    with pytest.raises(CatalogError, match=r"claude-haiku-4-5") as raised:
        find_model("claude-haiku-4-4")
    assert raised.value.code == "F101"
    assert "active_parameters_b" in raised.value.fix
    with pytest.raises(CatalogError):
        find_model("")


def test_closed_models_have_an_interval_and_say_so():
    closed = find_model("gpt-4o")
    assert closed.active_low < closed.active < closed.active_high <= closed.total
    assert not closed.published
    assert closed.layout is None
    assert "MPL-2.0" in closed.licence


def test_every_row_is_sound():
    assert len(model_names()) > 350
    for name in model_names():
        size = find_model(name)
        assert 0 < size.active_low <= size.active_high
        assert size.active <= size.total * (1 + 1e-9)
        assert size.source
    for size in all_layouts():
        layout = size.layout
        assert layout.attention_layers + layout.window_layers <= layout.layers
        assert 0 < layout.expert_share <= 1
        assert (layout.expert_share < 1) == bool(layout.is_moe) == (layout.active < layout.total)
        routed = (layout.total - layout.active) / (1 - layout.expert_share) if layout.is_moe else 0
        assert routed <= layout.total * 1.001, size.name


def test_the_borrowed_table_carries_its_notice():
    table = model_size._SIZES
    assert "MPL-2.0" in table.name
    notice = table.with_name(f"{table.name}.license").read_text(encoding="utf-8")
    assert "Mozilla Public License" in notice
    with table.open(encoding="utf-8", newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 342


def test_accelerators_by_any_name():
    for written in ("H100", "h100", "NVIDIA H100 80GB HBM3", "nvidia-h100"):
        assert hardware_of(written).name == "h100"
    assert hardware_of("NVIDIA A100-SXM4-40GB").name == "a100-40gb"
    assert hardware_of("GB200").generation == hardware_of("B200").generation == "blackwell"
    assert hardware_of("h100").bandwidth == 3.35e12
    with pytest.raises(CatalogError, match=r"b200"):
        hardware_of("TPU v9")
    assert "h100" in accelerator_names()


def test_number_formats():
    assert number_format("BF16") == "bfloat16"
    assert format_bytes("int8") == 1 < format_bytes("fp16") == 2
    with pytest.raises(ConfigError):
        format_bytes("int2")
