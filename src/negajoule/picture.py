"""Pictures from a Vega-Lite description, drawn by vl-convert, which needs no browser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from negajoule.errors import ConfigError
from negajoule.extras import require

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["draw"]

_KINDS = (".svg", ".png", ".json")


def draw(description: dict[str, Any], path: Path, *, purpose: str) -> None:
    """Write a picture as SVG or PNG, or its description as JSON, by the file's ending.

    Args:
        description: in Vega-Lite, its data inside.
        path: where to write it.
        purpose: what for, in words.

    Raises:
        ConfigError: (C101) for another ending, (C106) if it can't be written.
        ExtraMissingError: (X101) without vl-convert.
    """
    kind = path.suffix.lower()
    if kind not in _KINDS:
        raise ConfigError(
            f"a picture can't be written as {path.name!r}", fix=f"end it in {', '.join(_KINDS)}"
        )
    if kind == ".json":
        import msgspec

        data = msgspec.json.encode(description)
    else:
        convert = require("vl_convert", extra="plot", purpose=purpose)
        data = (
            convert.vegalite_to_svg(description).encode()
            if kind == ".svg"
            else bytes(convert.vegalite_to_png(description, scale=2))
        )
    try:
        path.write_bytes(data)
    except OSError as error:
        raise ConfigError(f"can't write {path}: {error.strerror}", code="C106") from None
