"""Recipes: chains of steps, from text, from TOML or from Python.

int8                                            a step
distil(layers=3, epochs=4) + vocabulary + int8  a chain
small.toml                                      name = "small", and [[step]] tables with do = "distil" ...
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, get_args

import msgspec

from negajoule.compress.steps import Step
from negajoule.errors import CompressError

__all__ = ["STEPS", "Recipe"]

STEPS: dict[str, type] = {kind.__struct_config__.tag: kind for kind in get_args(Step)}
"""Every step by the name it has in recipes."""

_CALL = re.compile(r"\s*([a-z0-9-]+)\s*(?:\(([^()]*)\))?\s*")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


class Recipe(msgspec.Struct, frozen=True):
    """A named chain of steps.

    Attributes:
        name: how results call it; also the name of its folder.
        steps: in order.

    Raises:
        CompressError: (K103) without a step, or with a name that is no file name.
    """

    name: str
    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        if not self.steps:
            raise CompressError("a recipe needs at least one step", code="K103", fix=_known())
        if not _NAME.fullmatch(self.name) or self.name in ("baseline", "engine"):
            raise CompressError(
                f"a recipe can't be called {self.name!r}", code="K103", fix="letters, digits, . _ and -"
            )
        for step in self.steps:
            _check(step)

    @classmethod
    def parse(cls, text: str) -> Recipe:
        """Read a recipe from its text, or from the TOML file that it names; ``NAME=TEXT`` names it.

        Raises:
            CompressError: (K103) if it is malformed.
        """
        name, equals, rest = text.partition("=")
        if equals and "(" not in name:
            return cls(name.strip(), _chain(rest))
        if text.endswith(".toml"):
            return cls.read(Path(text))
        return cls(_short(text), _chain(text))

    @classmethod
    def read(cls, path: Path) -> Recipe:
        """Read a recipe from a TOML file.

        Raises:
            CompressError: (K103) if it is missing or malformed.
        """
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise CompressError(f"the recipe {path} can't be read: {error}", code="K103") from None
        steps = data.get("step")
        if not isinstance(steps, list):
            raise CompressError(
                f"the recipe {path} has no [[step]]", code="K103", fix='[[step]]\ndo = "int8"'
            )
        return cls(str(data.get("name", path.stem)), tuple(_convert(step) for step in steps))

    @property
    def text(self) -> str:
        """The chain as ``parse`` reads it, defaults left out."""
        parts = []
        for step in self.steps:
            kind = type(step)
            given = {
                field.name: getattr(step, field.name)
                for field in msgspec.structs.fields(kind)
                if getattr(step, field.name) != field.default
            }
            inside = ", ".join(f"{key}={_written(value)}" for key, value in given.items())
            parts.append(f"{kind.__struct_config__.tag}({inside})" if inside else kind.__struct_config__.tag)
        return " + ".join(str(part) for part in parts)


def _chain(text: str) -> tuple[Step, ...]:
    steps = []
    for piece in text.split("+"):
        match = _CALL.fullmatch(piece)
        if match is None:
            raise CompressError(
                f"{piece.strip()!r} is no step of a recipe",
                code="K103",
                fix="write it like distil(layers=3, epochs=4) + int8",
            )
        data: dict[str, Any] = {"do": match[1]}
        for pair in filter(None, (part.strip() for part in (match[2] or "").split(","))):
            key, equals, value = pair.partition("=")
            if not equals:
                raise CompressError(f"{pair!r} of {match[1]} needs a value", code="K103", fix=f"{pair}=...")
            data[key.strip()] = _value(value.strip())
        steps.append(_convert(data))
    return tuple(steps)


def _value(text: str) -> object:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text, text.strip("'\""))


def _convert(data: object) -> Step:
    name = data.get("do") if isinstance(data, dict) else None
    if not isinstance(data, dict) or name not in STEPS:
        raise CompressError(f"there is no step {name!r}", code="K103", fix=_known())
    known = {field.name for field in msgspec.structs.fields(STEPS[name])}
    strange = set(data) - known - {"do"}
    if strange:
        allowed = ", ".join(sorted(known)) or "none"
        raise CompressError(
            f"the step {name} has no parameter {sorted(strange)[0]!r}",
            code="K103",
            fix=f"its parameters: {allowed}",
        )
    try:
        step: Step = msgspec.convert(data, STEPS[name])
    except msgspec.ValidationError as error:
        raise CompressError(f"the step {name} is malformed: {error}", code="K103") from None
    return step


def _check(step: Step) -> None:
    """Refuse what no model could do."""
    for field in msgspec.structs.fields(type(step)):
        value = getattr(step, field.name)
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            continue
        share = field.name in ("ratio", "labels")
        zero = field.name in ("labels", "states", "pairs")
        if not (value >= 0 if zero else value > 0) or (share and value > 1) or value == float("inf"):
            tag = type(step).__struct_config__.tag
            raise CompressError(f"{field.name}={value} of the step {tag} is out of range", code="K103")


def _short(text: str) -> str:
    """A file name that tells the chain."""
    return re.sub(r"[^a-z0-9.+-]+", "-", text.lower().replace(" ", "")).replace("+", "_").strip("-_.")[:80]


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _known() -> str:
    return f"steps: {', '.join(sorted(STEPS))}"
