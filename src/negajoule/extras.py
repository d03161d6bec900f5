"""Optional parts: import them lazily and name the extra that brings them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from negajoule.errors import ExtraMissingError

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["require"]


def require(module: str, *, extra: str, purpose: str) -> ModuleType | Any:  # noqa: ANN401 (untyped third parties)
    """Import an optional module.

    Args:
        module: dotted name to import.
        extra: the extra of this package that installs it.
        purpose: what it is needed for, to complete "... is needed to".

    Raises:
        ExtraMissingError: if the module isn't installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or module.split(".")[0] != error.name.split(".")[0]:
            raise
        raise ExtraMissingError(
            f"the package {error.name!r} is needed to {purpose}",
            fix=f"pip install 'negajoule[{extra}]'",
        ) from error
