"""The guides of the integrations are promises: what they show runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from instrument.apis import CHAT_USAGE, DONE, Reply, chat, chat_chunk
from negajoule.instrument.telemetry.mapping import DEVICE_METRICS, METRICS
from negajoule.ledger import Ledger

ROOT = Path(__file__).parents[2]
GUIDES = ROOT / "docs" / "guides"


def programs(guide: str) -> list[str]:
    """The Python blocks of a guide."""
    return re.findall(r"```python\n(.*?)```", (GUIDES / guide).read_text(encoding="utf-8"), flags=re.DOTALL)


def run(program: str, home: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "NEGAJOULE_HOME": str(home)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows():
    with Ledger(read_only=True) as ledger:
        return ledger.latest(100)[::-1]


@pytest.mark.slow
def test_clients(provider, fresh_home):
    pytest.importorskip("openai")
    whole, stream = programs("clients.md")
    url = f"{provider.url}/v1"
    provider.replies = [Reply(chat())]
    assert re.fullmatch(
        r"\d+ J \(\d+ to \d+\), modelled\n", run(whole.replace("https://api.openai.com/v1", url), fresh_home)
    )
    provider.replies = [
        Reply(events=[chat_chunk("be"), chat_chunk("cause"), chat_chunk(None, CHAT_USAGE), DONE])
    ]
    out = run(stream.replace("https://api.openai.com/v1", url), fresh_home)
    assert out.startswith("because\nEnergy(value=")
    assert [(row.label, row.tokens_out) for row in rows()] == [("search/rewrite", 300), ("", 300)]


@pytest.mark.slow
def test_training(fresh_home):
    *_, own = programs("training.md")
    assert run(own, fresh_home) == "5 J\n"
    assert {row.label for row in rows()} == {"thesis/own/epoch 1", "thesis/own/epoch 2"}


def test_the_callbacks_that_the_guide_names_exist():
    text = "".join(programs("training.md"))
    from negajoule.instrument import callbacks

    assert set(re.findall(r"callbacks import (\w+)", text)) <= set(callbacks.__all__)


@pytest.mark.slow
def test_telemetry(fresh_home):
    pytest.importorskip("prometheus_client")
    pytest.importorskip("opentelemetry.sdk")
    prometheus, opentelemetry = programs("telemetry.md")
    assert run(prometheus, fresh_home) == "True\n"
    assert run(opentelemetry, fresh_home) == ""


def test_the_table_names_only_metrics_that_there_are():
    text = (GUIDES / "telemetry.md").read_text(encoding="utf-8")
    names = {metric.name for metric in (*METRICS, *DEVICE_METRICS)}
    shown = {name for name in re.findall(r"`((?:negajoule|gen_ai|hw)\.[\w.]+?)\.?\*?`", text)}
    assert {name for name in shown if name not in names} == {"gen_ai.client.inference.usage"}
    prometheus = {metric.prometheus for metric in (*METRICS, *DEVICE_METRICS)}
    written = {
        name.removesuffix("_total") for name in re.findall(r"`((?:negajoule|hw|gen_ai)_\w+[a-z])`", text)
    }
    assert written <= prometheus


@pytest.mark.parametrize("option", ["--footprint", "--footprint-json", "--footprint-top"])
def test_the_options_of_the_pytest_guide_exist(option):
    assert option in (GUIDES / "pytest.md").read_text(encoding="utf-8")
    source = (ROOT / "src/negajoule/instrument/pytest_plugin.py").read_text(encoding="utf-8")
    assert f'"{option}"' in source
