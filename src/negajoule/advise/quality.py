"""What a number format loses, by published measurements."""

from __future__ import annotations

from negajoule.catalog import lookup
from negajoule.errors import CatalogError
from negajoule.units.text import number_text

__all__ = ["quality_of"]

_PERPLEXITY = ("nf4", "int8")


def quality_of(number_format: str) -> str:
    """What a format loses, in words with source and year; empty if nothing is known.

    A loss is of the models that were measured. On yours, measure it.
    """
    perplexity = number_format in _PERPLEXITY
    try:
        fact = lookup(f"advise.quality.{number_format}{'-perplexity' if perplexity else ''}")
    except CatalogError:
        return ""
    value, low, high = (number_text(number) for number in (fact.value, fact.low, fact.high))
    what = (
        f"perplexity +{value} % ({low} to {high})" if perplexity else f"{value} points lost ({low} to {high})"
    )
    return f"{what}; {fact.source.split(':')[0]}, {fact.year}"
