"""``negajoule estimate``: cards and tables for people, JSON for programs, one message for a mistake."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "estimate.md").read_text(encoding="utf-8")


def chat(model="gpt-4o", at=1_741_000_000.0, words="why is the sky blue? " * 20):
    """A conversation of ChatGPT of one turn."""

    def node(name, parent, role, metadata):
        content = {"content_type": "text", "parts": [words]}
        message = {"author": {"role": role}, "create_time": at, "content": content, "metadata": metadata}
        return {"id": name, "parent": parent, "children": [], "message": message}

    return {
        "mapping": {
            "u": node("u", None, "user", {}),
            "a": node("a", "u", "assistant", {"model_slug": model}),
        }
    }


@pytest.fixture
def archive(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "conversations.json"
    path.write_text(json.dumps([chat(), chat(at=1_744_000_000.0), chat("gpt-4-5")]), encoding="utf-8")
    return path


def test_a_request_is_a_card_with_its_doubts(nj):
    done = nj("estimate", "--model", "gpt-4o", "--in", "1200", "--out", "300")
    assert done.returncode == 0
    for text in (
        "gpt-4o: 1200 tokens in, 300 out",
        "IT energy",
        "embodied share",
        "biggest doubt      batch",
        "location unknown",
        "grid.carbon.unknown",
        "what makes it wide",
        "size of the model",
    ):
        assert text in done.stdout
    causes = done.stdout.partition("each alone")[2]
    widths = [float(high) / float(low) for low, high in re.findall(r"x([\d.]+) to x([\d.]+)", causes)]
    assert len(widths) >= 6
    assert widths[0] == max(widths)
    assert widths[-1] < 1.2


def test_json_is_one_object_with_everything(nj):
    done = nj("estimate", "--model", "gpt-5", "--in", "500", "--out", "90", "--reasoning", "10", "--json")
    data = json.loads(done.stdout)
    assert done.stderr == ""
    assert data["schema"] == "negajoule.estimate/1"
    assert (data["tokens_in"], data["tokens_out"], data["reasoning_tokens"]) == (500, 90, 10)
    assert data["footprint"]["it_energy"]["low"] < data["footprint"]["it_energy"]["value"]
    assert data["footprint"]["contributors"][0]["name"] == data["footprint"]["widest"]


def test_parameters_stand_in_for_a_model(nj):
    told = nj(
        "estimate", "--active-parameters", "8e9", "--in", "1200", "--out", "300", "--batch", "32", "--json"
    )
    named = nj(
        "estimate", "--model", "llama-3.1-8b", "--in", "1200", "--out", "300", "--batch", "32", "--json"
    )
    energies = [json.loads(done.stdout)["footprint"]["it_energy"] for done in (told, named)]
    assert energies[0]["low"] < energies[1]["value"] < energies[0]["high"]


def test_a_batch_may_be_an_interval(nj):
    low, wide, high = (
        json.loads(
            nj(
                "estimate", "--model", "gpt-4o", "--in", "500", "--out", "99", "--batch", batch, "--json"
            ).stdout
        )["footprint"]["it_energy"]
        for batch in ("8", "8-64", "64")
    )
    assert wide["low"] < high["value"] < low["value"] < wide["high"]


def test_a_history_is_tables_and_says_what_it_leaves_out(nj, archive):
    done = nj("estimate", "--chatgpt-export", str(archive))
    assert done.returncode == 0
    assert re.search(r"^2025-03 +1 ", done.stdout, re.MULTILINE)
    assert re.search(r"^2025-04 +1 ", done.stdout, re.MULTILINE)
    assert re.search(r"^total +2 ", done.stdout, re.MULTILINE)
    assert "1 x replies of gpt-4-5, whose size isn't known" in done.stdout
    assert "tokens from characters" in done.stdout
    assert "--model" in done.stderr


def test_a_history_in_json_adds_up(nj, archive):
    done = nj("estimate", "--chatgpt-export", str(archive), "--json")
    data = json.loads(done.stdout)
    assert data["schema"] == "negajoule.chat_history/1"
    assert data["conversations"] == 3
    months = sum(row["footprint"]["carbon_location"]["value"] for row in data["months"])
    assert months == pytest.approx(data["total"]["footprint"]["carbon_location"]["value"])
    assert data["unknown"] == [
        {"month": "2025-03", "what": "replies of gpt-4-5, whose size isn't known", "number": 1}
    ]
    assert [row["footprint"] is None for row in data["rows"]] == [True, False, False]


def test_a_history_of_nothing_known_has_no_sum(nj, tmp_path):
    path = tmp_path / "conversations.json"
    path.write_text(json.dumps([chat("my-own-gpt")]))
    done = nj("estimate", "--chatgpt-export", str(path))
    assert done.returncode == 0
    assert "total" not in done.stdout
    assert "my-own-gpt" in done.stdout
    assert json.loads(nj("estimate", "--chatgpt-export", str(path), "--json").stdout)["total"] is None


def test_the_archive_of_claude_as_downloaded(nj, tmp_path):
    messages = [
        {"uuid": name, "sender": sender, "text": "hello " * 50, "created_at": "2025-10-02T08:00:00Z"}
        for name, sender in (("1", "human"), ("2", "assistant"))
    ]
    path = tmp_path / "data.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("conversations.json", json.dumps([{"uuid": "c", "chat_messages": messages}]))
    done = nj("estimate", "--claude-export", str(path))
    assert "2025-10" in done.stdout
    assert "names no model" in done.stdout


def test_a_terminal_sees_progress_on_stderr_and_no_other_stream_does(archive):
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "negajoule", "estimate", "--chatgpt-export", str(archive), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=follower, timeout=60)
    os.close(follower)
    shown = os.read(leader, 65_536).decode()
    os.close(leader)
    assert "reading" in shown
    assert "100%" in shown
    assert json.loads(done.stdout)["conversations"] == 3


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ((), "C101", "--in is missing"),
        (("--model", "gpt-4o", "--in", "5"), "C101", "--out is missing"),
        (("--in", "5", "--out", "5"), "C101", "neither a model nor its parameters"),
        (("--model", "gpt-4oo", "--in", "5", "--out", "5"), "F101", "gpt-4o"),
        (("--model", "gpt-4o", "--in", "-5", "--out", "5"), "C101", "tokens_in"),
        (("--model", "gpt-4o", "--in", "nan", "--out", "5"), "C101", "tokens_in"),
        (("--model", "gpt-4o", "--in", "5", "--out", "5", "--cached", "6"), "C101", "cached"),
        (("--model", "gpt-4o", "--in", "5", "--out", "5", "--batch", "many"), "C101", "--batch"),
        (("--model", "gpt-4o", "--in", "5", "--out", "5", "--batch", "64-8"), "C101", "batch"),
        (("--model", "gpt-4o", "--in", "5", "--out", "5", "--zone", "Atlantis"), "F101", "Atlantis"),
        (("--model", "gpt-4o", "--in", "5", "--out", "5", "--provider", "me"), "F101", "openai"),
        (("--model", "gpt-4o", "--in", "5", "--out", "5", "--accelerator", "abacus"), "F101", "h100"),
        (("--chatgpt-export", "nowhere.json"), "C106", "nowhere.json"),
        (("--chatgpt-export", "a", "--claude-export", "b"), "C101", "stands alone"),
        (("--chatgpt-export", "a", "--in", "5"), "C101", "stands alone"),
    ],
)
def test_mistakes_end_in_one_message(nj, arguments, code, text):
    done = nj("estimate", *arguments)
    assert done.returncode == 1
    assert f"error[{code}]" in done.stderr
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_the_other_products_archive_names_the_right_option(nj, archive):
    done = nj("estimate", "--claude-export", str(archive))
    assert done.returncode == 1
    assert "--chatgpt-export" in done.stderr


def test_the_commands_of_the_guide_run(nj, archive):
    lines = [
        line for block in re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL) for line in block.splitlines()
    ]
    assert len(lines) >= 5
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == "negajoule"
        done = nj(*arguments)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        assert done.stdout


def test_the_program_of_the_guide_runs():
    (program,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Carbon(value=")


def test_the_rows_that_the_guide_names_exist():
    from negajoule.catalog import search

    named = re.findall(r"`((?:text|chat)\.[\w.*-]+)`", GUIDE)
    assert len(named) >= 7
    for key in named:
        assert search(key.rstrip("*").rstrip(".")), key
