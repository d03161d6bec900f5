from __future__ import annotations

import json

import msgspec
import pytest

from negajoule.advise.compression import MeasuredCompression, advise_compression
from negajoule.errors import ConfigError


def option(advice, recipe):
    return next(one for one in advice.options if one.recipe == recipe)


def test_eight_bits_come_first_for_an_encoder_on_a_processor():
    advice = advise_compression(22.7, "classify", volume=1e6)
    assert advice.options[0].recipe == "int8"
    assert advice.options[0].verdict == "first"
    assert advice.decision.chosen == advice.options[0].technique
    assert advice.decision.margin_low is not None
    assert advice.decision.margin_low > 0.5
    student = next(one for one in advice.options if "2 layers x 128" in one.technique)
    assert student.verdict == "too lossy"


def test_what_may_be_lost_decides():
    advice = advise_compression(22.7, "classify", allowed_loss=4.0)
    assert "2 layers x 128" in advice.decision.chosen


def test_a_small_volume_does_not_pay():
    few = advise_compression(22.7, "classify", volume=100)
    assert few.decision.chosen == "leave it as it is"
    assert option(few, "int8").verdict == "too few"
    even = option(few, "int8").break_even
    assert even is not None
    assert option(advise_compression(22.7, "classify", volume=1.01 * even), "int8").verdict == "first"


def test_four_bits_lose_too_much_of_a_small_generative_model():
    advice = advise_compression(135, "generate")
    assert advice.decision.chosen == "8-bit weights"
    assert option(advice, "gguf:Q4_0").verdict == "too lossy"


@pytest.mark.parametrize(
    ("size", "task"), [(110, "classify"), (1100, "generate"), (7000, "fine-tune"), (5, "classify")]
)
def test_no_word_about_models_far_from_those_measured(size, task):
    with pytest.raises(ConfigError, match="none near") as caught:
        advise_compression(size, task)
    assert caught.value.code == "C113"


def test_one_s_own_study_comes_before_what_was_shipped():
    mine = MeasuredCompression(
        technique="int8", recipe="int8", task="classify", parameters_million=22.7, saving=0.1,
        saving_low=-0.1, saving_high=0.3, loss=0.0, loss_low=-1.0, loss_high=1.0, loss_unit="points",
        base_cpu_s=0.01, made_cpu_s=2.0, item="text", note="mine", own=True,
    )  # fmt: skip
    advice = advise_compression(22.7, "classify", own=(mine,))
    (found,) = (one for one in advice.options if one.recipe == "int8")
    assert found.verdict == "unproved"
    assert found.evidence.startswith("your study")
    large = msgspec.structs.replace(mine, parameters_million=400.0, saving_low=0.05)
    assert advise_compression(500, "classify", own=(large,)).decision.chosen == "int8"


def test_eager_kernels_cost_energy_in_small_models_and_save_in_large_ones():
    small = advise_compression(500, "generate", accelerator="RTX 4090")
    assert small.decision.chosen == "leave it as it is"
    assert {one.verdict for one in small.options} <= {"costs", "unproved"}
    assert any(one.verdict == "costs" for one in small.options)
    large = advise_compression(7000, "generate", accelerator="RTX 4090")
    four = next(one for one in large.options if "NF4" in one.technique)
    assert four.saving is not None
    assert four.saving > 0.15


def test_boards_are_unknown_beyond_one_request_and_beyond_measured_sizes():
    for advice in (
        advise_compression(7000, "generate", accelerator="RTX 4090", batch=8),
        advise_compression(200_000, "generate", accelerator="RTX 4090"),
    ):
        assert {one.verdict for one in advice.options} == {"unknown"}
        assert advice.decision.margin is None
    with pytest.raises(ConfigError, match="nothing was measured of classify"):
        advise_compression(22, "classify", accelerator="H100")


@pytest.mark.parametrize("bad", [{"parameters_million": 0.0}, {"batch": 0.0}, {"volume": -1.0}])
def test_numbers_out_of_range_are_refused(bad):
    with pytest.raises(ConfigError) as caught:
        advise_compression(**{"parameters_million": 22.0, "task": "classify", **bad})
    assert caught.value.code == "C101"


def test_the_command_reads_studies_and_sizes(tmp_path):
    from click.testing import CliRunner

    from negajoule.cli.advise_compression import compression

    broken = tmp_path / "x" / "result.json"
    broken.parent.mkdir()
    broken.write_text('{"schema": "negajoule.compress/1"}')
    arguments = ["--model", "135M", "--task", "generate", "--studies", str(tmp_path)]
    done = CliRunner().invoke(compression, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    data = json.loads(done.stdout)
    assert data["schema"] == "negajoule.advise_compression/1"
    assert data["decision"]["chosen"] == "8-bit weights"
    assert "counts for nothing" in done.stderr
    words = CliRunner().invoke(compression, arguments)
    assert "8-bit weights: it saves 57%" in words.stdout
