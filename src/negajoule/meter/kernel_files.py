"""The small text files in which the kernel answers: sysfs, proc, cgroup."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["read_number", "read_text"]


def read_text(path: Path | str, size: int = 256) -> str:
    """The beginning of a file, stripped; empty if it can't be read.

    Args:
        path: the file.
        size: how much of it [B].
    """
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return ""
    try:
        return os.read(file, size).decode("utf-8", "replace").strip()
    except OSError:
        return ""
    finally:
        os.close(file)


def read_number(path: Path | str) -> int | None:
    """A whole number that isn't negative; ``None`` for everything else, such as ``max`` or ``-1``."""
    text = read_text(path)
    return int(text) if text.isascii() and text.isdigit() else None
