"""Errors say what was tried, what happens instead and what to do; every code has its row and its use."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest

import negajoule
from negajoule import errors
from negajoule.errors import (
    CODES,
    ConfigError,
    EngineError,
    ExtraMissingError,
    LedgerError,
    NegajouleError,
    RequestError,
    UnitError,
)

SOURCES = sorted(Path(negajoule.__file__).parent.rglob("*.py"))
KINDS = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, NegajouleError)
]
CODE = re.compile(r"[A-Z]\d{3}")


def codes_in(path: Path) -> set[str]:
    """Codes that stand as texts in a file, the table of codes apart."""
    text = re.sub(r"(?ms)^CODES: .*?^}", "", path.read_text(encoding="utf-8"))
    return set(re.findall(r"""["']([A-Z]\d{3})["']""", text))


class TestCodes:
    def test_every_code_in_the_package_stands_in_the_table(self):
        unknown = {str(path): codes for path in SOURCES if (codes := codes_in(path) - CODES.keys())}
        assert unknown == {}

    def test_every_row_of_the_table_is_used(self):
        used = set().union(*map(codes_in, SOURCES))
        assert CODES.keys() <= used

    def test_rows_are_in_order_and_whole_sentences(self):
        letters = list(dict.fromkeys(code[0] for code in CODES))
        assert list(CODES) == sorted(CODES, key=lambda code: (letters.index(code[0]), code))
        for code, meaning in CODES.items():
            assert CODE.fullmatch(code)
            assert meaning[0].isupper()
            assert meaning.endswith(".")

    @pytest.mark.parametrize("kind", KINDS)
    def test_every_error_has_a_code_of_its_own_letter(self, kind):
        assert kind.default_code in CODES
        assert kind("x").code == kind.default_code
        others = {other.default_code[0] for other in KINDS if other not in (kind, NegajouleError)}
        assert kind is NegajouleError or kind.default_code[0] not in others

    def test_all_errors_are_exported_and_documented_in_the_tree(self):
        assert {kind.__name__ for kind in KINDS} | {"CODES"} == set(errors.__all__)
        for kind in KINDS:
            assert kind.__name__ in errors.__doc__


class TestMessages:
    def test_only_what_there_is_to_say_is_said(self):
        assert str(LedgerError("it is full")) == "error[L101]: it is full"

    def test_every_part_has_its_line(self):
        error = LedgerError("it is full", code="L102", tried="/data", using="memory", fix="make room")
        assert str(error).splitlines() == [
            "error[L102]: it is full",
            "  tried  /data",
            "  using  memory",
            "  fix    make room",
        ]

    @pytest.mark.parametrize("kind", KINDS)
    def test_every_error_can_cross_a_process(self, kind):
        error = kind("it broke", fix="mend it")
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), vars(again)) == (kind, str(error), vars(error))


class TestKinds:
    def test_a_unit_error_is_a_value_error(self):
        assert issubclass(UnitError, ValueError)

    def test_a_missing_extra_is_an_import_error(self):
        with pytest.raises(ImportError, match="isn't there"):
            raise ExtraMissingError("it isn't there")

    def test_errors_of_the_gateway_know_their_status(self):
        assert EngineError("x").status == 502
        assert EngineError("x", status=504).status == 504
        assert (RequestError("x").status, RequestError("x").param) == (400, None)
        error = RequestError("x", status=404, param="model")
        assert (error.status, error.param) == (404, "model")

    def test_one_except_catches_them_all(self):
        for kind in KINDS:
            with pytest.raises(NegajouleError):
                raise kind("x")

    def test_an_error_keeps_its_fields(self):
        error = ConfigError("m", code="C103", tried="t", using="u", fix="f")
        assert (error.code, error.message, error.tried, error.using, error.fix) == (
            "C103",
            "m",
            "t",
            "u",
            "f",
        )
