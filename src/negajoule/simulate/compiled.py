"""The core, compiled by numba if it is installed; compiled once a machine, for the result is kept.

Without numba the very same functions are interpreted, on lists: same results to the last bit, some tens of
times slower.
"""

from __future__ import annotations

import tempfile
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from inspect import getmembers, isfunction
from pathlib import Path
from typing import TYPE_CHECKING

from negajoule.config import home
from negajoule.extras import require
from negajoule.fingerprint import fingerprint
from negajoule.simulate import core

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["compiled_run", "worth_compiling"]

_PARTS = ("rules", "batch", "jump", "leaving", "admission", "replica", "routing", "core")
# Called so seldom that inlining them only takes time.
_SELDOM = ("admit_whole_batch", "expire", "next_expiry", "rest", "wake", "_drop_expired")


_MANY = 200_000  # requests, which take the interpreted core about as long as compiling takes


def worth_compiling(requests: int) -> bool:
    """Whether numba is installed and the time to compile is saved again, or was spent before."""
    return find_spec("numba") is not None and (requests >= _MANY or _home().is_dir())


@cache
def compiled_run() -> Callable[..., int]:
    """``core.run``, compiled at its first call, which takes some ten seconds unless an earlier one was kept.

    Raises:
        ExtraMissingError: (X101) if numba isn't installed.
    """
    numba = require("numba", extra="simulate", purpose="compile the simulator")
    register = import_module("numba.extending").register_jitable
    for part in _PARTS:
        module = import_module(f"negajoule.simulate.{part}")
        for _, function in getmembers(module, isfunction):
            if function.__module__ == module.__name__ and function is not core.run:
                inline = function.__name__ not in _SELDOM
                register(error_model="numpy", _nrt=False, forceinline=inline)(function)
    # numba looks only at the file of the outermost function when it asks whether a kept result is still good;
    # a folder named after all the sources settles that.
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(_folder())
    try:
        run: Callable[..., int] = numba.njit(cache=True, error_model="numpy", _nrt=False)(core.run)
    finally:
        numba.config.CACHE_DIR = before
    return run


def _home() -> Path:
    """Where this version's compiled code is kept."""
    folder = Path(__file__).parent
    sources = b"".join((folder / f"{part}.py").read_bytes() for part in ("layout", "compiled", *_PARTS))
    return home() / "compiled" / fingerprint(sources)


def _folder() -> Path:
    """The same, made; a temporary folder if it can't be."""
    folder = _home()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return Path(tempfile.mkdtemp(prefix="negajoule-compiled-"))
