"""docs/peer-errors.md names a test for each fault of a peer; the tests must be there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROWS = re.findall(r"`(tests/\S+\.py)::(\w+)`", (ROOT / "docs" / "peer-errors.md").read_text(encoding="utf-8"))


def test_the_page_lists_the_faults():
    assert len(ROWS) >= 20
    assert len(set(ROWS)) == len(ROWS)


@pytest.mark.parametrize(("file", "name"), ROWS)
def test_each_fault_has_its_test(file, name):
    source = (ROOT / file).read_text(encoding="utf-8")
    assert re.search(rf"^(?:async )?def {name}\(", source, flags=re.MULTILINE)
