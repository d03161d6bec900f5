"""One small router for all tests of the room."""

from __future__ import annotations

import pytest

pytest.importorskip("sklearn", reason="training needs scikit-learn: pip install 'negajoule[route]'")

from negajoule.route import train
from route.world import made_up


@pytest.fixture(scope="session")
def router_file():
    return train(made_up())
