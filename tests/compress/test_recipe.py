"""Recipes: text and TOML to steps, and what is refused."""

from __future__ import annotations

from importlib import import_module
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from negajoule.compress.recipe import STEPS, Recipe
from negajoule.compress.steps import HOMES, Distil, Int8, Layers, Recover, Step, Vocabulary
from negajoule.errors import CompressError


def test_a_chain_is_read_in_order():
    recipe = Recipe.parse("distil(layers=2, epochs=4) + vocabulary + int8(per_channel=true)")
    assert recipe.steps == (Distil(layers=2, epochs=4), Vocabulary(), Int8(per_channel=True))


def test_a_recipe_may_have_a_name():
    assert Recipe.parse("small=layers(keep=2)+recover") == Recipe("small", (Layers(keep=2), Recover()))
    assert Recipe.parse("distil(layers=2)").name == "distil-layers-2"


@given(
    st.lists(
        st.one_of(
            st.builds(Distil, layers=st.integers(1, 9), rate=st.floats(1e-6, 1), epochs=st.integers(1, 9)),
            st.builds(Int8, ranges=st.sampled_from(["dynamic", "static"]), per_channel=st.booleans()),
            st.builds(Layers, keep=st.integers(1, 24)),
            st.just(Vocabulary()),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_text_says_all(steps):
    recipe = Recipe("any", tuple(steps))
    assert Recipe.parse(f"any={recipe.text}") == recipe


def test_toml_gives_the_same_as_text(tmp_path):
    file = tmp_path / "small.toml"
    file.write_text('name = "small"\n[[step]]\ndo = "layers"\nkeep = 2\n[[step]]\ndo = "recover"\n')
    assert Recipe.parse(str(file)) == Recipe.parse("small=layers(keep=2) + recover")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "int9",
        "int8(",
        "int8(x=1)",
        "int8(per_channel)",
        "heads(ratio=2)",
        "layers(keep=0)",
        "layers(keep=-1)",
        "distil(layers=many)",
        "distil(rate=nan)",
        "int8(ranges=wild)",
        "baseline=int8",
        "../x=int8",
        "nowhere.toml",
    ],
)
def test_what_makes_no_sense_is_refused(text):
    with pytest.raises(CompressError) as caught:
        Recipe.parse(text)
    assert caught.value.code == "K103"


def test_toml_without_steps_is_refused(tmp_path):
    file = tmp_path / "empty.toml"
    file.write_text('name = "empty"\n')
    with pytest.raises(CompressError, match=r"has no \[\[step"):
        Recipe.read(file)


def test_every_step_has_a_function():
    pytest.importorskip("torch", reason="torch isn't installed: make test installs it")
    assert set(HOMES) == set(get_args(Step)) == set(STEPS.values())
    for home in HOMES.values():
        module, _, name = home.partition(":")
        assert callable(getattr(import_module(module), name))
