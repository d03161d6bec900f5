"""The cores counted are those this process may use."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from negajoule.engine.cores import usable_cores

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def plenty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend to be on a machine of 16 cores."""
    monkeypatch.setattr("psutil.cpu_count", lambda logical: 32 if logical else 16)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(32)))


def groups(root: Path, quotas: dict[str, str]) -> Path:
    for name, quota in quotas.items():
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cpu.max").write_text(f"{quota}\n")
    own = root / "own"
    own.write_text("1:cpu:/old\n0::/a/b\n")
    return own


@pytest.mark.parametrize(
    ("quotas", "cores"),
    [
        ({"a": "max 100000", "a/b": "max 100000"}, 16),
        ({"a": "max 100000", "a/b": "400000 100000"}, 4),
        ({"a": "250000 100000", "a/b": "max 100000"}, 2),
        ({"a": "300000 100000", "a/b": "700000 100000"}, 3),
        ({"a/b": "50000 100000"}, 1),
        ({"a/b": "broken"}, 16),
        ({}, 16),
    ],
)
@pytest.mark.usefixtures("plenty")
def test_quotas_of_the_group_and_of_those_above_count(
    tmp_path: Path, quotas: dict[str, str], cores: int
) -> None:
    assert usable_cores(proc=groups(tmp_path, quotas), cgroup_root=tmp_path) == cores


@pytest.mark.usefixtures("plenty")
def test_affinity_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 7})
    assert usable_cores(proc=tmp_path / "none", cgroup_root=tmp_path) == 2


def test_here_there_is_at_least_one() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
