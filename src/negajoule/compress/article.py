"""Two tables of a popular article beside what is measured here.

The first says that TinyBERT takes 8.7 % of BERT's energy and loses a point. Its figures are of fine-tuning
with evaluation; here the same shapes, with random weights, answer the same texts, for what a shape costs
doesn't depend on its weights. Accuracy is measured with the model at hand: it before, and TinyBERT's shape
distilled from it after.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from negajoule.catalog import lookup
from negajoule.compress.paired import Interval, median_interval
from negajoule.compress.plan import BASELINE
from negajoule.compress.recipe import Recipe
from negajoule.compress.steps import Distil, Shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from negajoule.compress.result import Result
    from negajoule.compress.workshop import Round

__all__ = ["SHAPES", "SHAPE_TEXTS", "STUDENTS", "ArticleRow", "shape_rows", "student_row"]

_BERT = Recipe("shape-bert-base", (Shape(layers=12, hidden=768, heads=12, neurons=3072),))
_DISTILBERT = Recipe("shape-distilbert", (Shape(layers=6, hidden=768, heads=12, neurons=3072),))
_TINYBERT = Recipe("shape-tinybert", (Shape(layers=4, hidden=312, heads=12, neurons=1200),))
_TAUGHT = Recipe("tinybert-distilled", (Distil(layers=4, hidden=312, heads=12, neurons=1200, epochs=8),))

SHAPES: tuple[Recipe, ...] = (_BERT, _DISTILBERT, _TINYBERT)
"""For what shapes cost; few texts do, since what they answer means nothing."""

SHAPE_TEXTS = 64

STUDENTS: tuple[Recipe, ...] = (_TAUGHT,)
"""For what TinyBERT's shape can learn."""


class ArticleRow(msgspec.Struct, frozen=True, kw_only=True):
    """One figure, published and measured.

    Attributes:
        what: the figure.
        unit: of both.
        published: as the source has it.
        measured: here; without bounds if they can't be told.
        source: of the published figure.
        remark: how the two differ in what they are.
    """

    what: str
    unit: str
    published: Interval
    measured: Interval
    source: str
    remark: str


def shape_rows(rounds: Sequence[Round]) -> list[ArticleRow]:
    """Energies of the article's first table.

    Args:
        rounds: of a study of ``SHAPES``.
    """
    rows = []
    for name, recipe in (("TinyBERT", _TINYBERT), ("DistilBERT", _DISTILBERT)):
        shares = [
            found.seen[recipe.name].measured.energy_j / found.seen[_BERT.name].measured.energy_j
            for found in rounds
        ]
        rows.append(
            _row(
                f"energy of {name} as a share of BERT's",
                f"article.{name.lower()}.energy_share",
                median_interval(shares),
                "published: fine-tuning and evaluation on a GPU machine; here: inference of the same shapes",
            )
        )
    return rows


def student_row(result: Result) -> ArticleRow:
    """Accuracy of the article's first table.

    Args:
        result: of a study of ``STUDENTS``.
    """
    lost = result.line(_TAUGHT.name).lost
    base = result.line(BASELINE)
    low, high = (None if bound is None else bound / 100 for bound in (lost.low, lost.high))
    return _row(
        "accuracy lost by TinyBERT's shape",
        "article.tinybert.accuracy_lost",
        Interval(lost.value / 100, low, high),
        f"published: against BERT, amazon_polarity; here: distilled from {result.model} "
        f"({base.quality.accuracy.value:.1%}) on {result.data}",
    )


def _row(what: str, key: str, measured: Interval, remark: str) -> ArticleRow:
    fact = lookup(key)
    return ArticleRow(
        what=what,
        unit="%",
        published=Interval(fact.value, fact.low, fact.high),
        measured=measured,
        source=fact.source,
        remark=remark,
    )
