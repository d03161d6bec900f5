"""The real model, loaded once."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from negajoule.engine import LlamaEngine
from negajoule.engine.packaged import packaged_model
from negajoule.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def model_path() -> Path:
    if find_spec("xllamacpp") is None:
        pytest.skip("the wheel xllamacpp isn't installed")
    try:
        return packaged_model()
    except EngineError as error:
        pytest.skip(f"no model to run: {error.fix}")


@pytest.fixture(scope="session")
def llama(model_path: Path) -> Iterator[LlamaEngine]:
    engine = LlamaEngine(slots=4, slot_context_tokens=512)
    yield engine
    engine.close()
