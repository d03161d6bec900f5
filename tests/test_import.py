"""Importing the package costs next to nothing, and all its names can be had."""

from __future__ import annotations

import subprocess
import sys

import pytest

import negajoule
from negajoule.lazy import names_from

HEAVY = {"numpy", "msgspec", "click", "psutil", "aiohttp", "starlette", "sqlite3", "asyncio"}


def loaded_by(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after a statement."""
    code = f"import sys; before = set(sys.modules); {statement}; print(*(set(sys.modules) - before))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in answer.stdout.split()}


class TestWhatIsLoaded:
    def test_the_package_loads_nothing_heavy(self):
        loaded = loaded_by("import negajoule")
        assert loaded & HEAVY == set()
        assert "negajoule" in loaded

    def test_units_load_no_numpy(self):
        loaded = loaded_by("from negajoule.units import Energy; Energy.exact(1.0) + Energy.exact(2.0)")
        assert "msgspec" in loaded
        assert "numpy" not in loaded

    def test_the_ledger_loads_no_numpy(self):
        assert "numpy" not in loaded_by("import negajoule.ledger")

    def test_errors_and_settings_load_no_library(self):
        assert loaded_by("import negajoule.errors, negajoule.config") & HEAVY == set()


class TestNames:
    @pytest.mark.parametrize("name", negajoule.__all__)
    def test_every_public_name_can_be_had(self, name):
        assert getattr(negajoule, name) is not None

    def test_all_is_sorted_and_without_doubles(self):
        assert list(negajoule.__all__) == sorted(set(negajoule.__all__))

    def test_dir_lists_the_public_names(self):
        assert dir(negajoule) == sorted(negajoule.__all__)

    def test_an_unknown_name_is_an_attribute_error(self):
        with pytest.raises(AttributeError, match="module 'negajoule' has no attribute 'nonsense'"):
            negajoule.nonsense  # noqa: B018 (the look-up is the test)

    def test_the_version_is_told(self):
        assert negajoule.__version__[0].isdigit()

    def test_a_name_is_loaded_when_first_used_and_then_kept(self):
        package = {"__name__": "negajoule"}
        load = names_from(package, {"Energy": ".units", "sqrt": "math"})
        assert "Energy" not in package
        assert load("Energy") is package["Energy"] is negajoule.units.Energy
        assert load("sqrt")(9) == 3.0
