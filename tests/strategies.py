"""What hypothesis makes up for us: quantities, footprints, activities."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from hypothesis import strategies as st

from negajoule.ledger import Activity, Kind, Stage, Status
from negajoule.units import INDICATORS, Basis, Boundary, Energy, Factor, Footprint, Part, Quantity

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

KINDS: list[type[Quantity]] = Quantity.__subclasses__()
BASES: tuple[Basis, ...] = get_args(Basis)
BOUNDARIES: tuple[Boundary, ...] = get_args(Boundary)

bases = st.sampled_from(BASES)
boundaries = st.sampled_from(BOUNDARIES)
texts = st.text(max_size=20)


def numbers(smallest: float = -1e12, largest: float = 1e12) -> SearchStrategy[float]:
    """Finite floats of sizes that can be added and multiplied without overflow."""
    return st.floats(smallest, largest)


@st.composite
def quantities(
    draw,
    kind: type[Quantity] | None = None,
    *,
    boundary: Boundary | None = None,
    smallest: float = -1e12,
    largest: float = 1e12,
) -> Quantity:
    """Quantities of one kind or any, of one boundary or any."""
    low, value, high = sorted(draw(st.tuples(*[numbers(smallest, largest)] * 3)))
    return (kind or draw(st.sampled_from(KINDS)))(value, low, high, draw(bases), boundary or draw(boundaries))


@st.composite
def points_in(draw, quantity: Quantity) -> float:
    """Numbers that a quantity's interval allows."""
    return draw(st.floats(quantity.low, quantity.high))


@st.composite
def parts(draw) -> Part:
    """Parts whose names repeat, so that sums merge some of them."""
    return Part(
        draw(st.sampled_from(("cpu active", "cpu idle", "memory", "gpu"))),
        draw(quantities(Energy, boundary="node", smallest=0.0)),
        draw(st.sampled_from(("rapl package-0", "nvml 0", "model"))),
        draw(st.sampled_from("ABCDE")),
    )


@st.composite
def factors(draw) -> Factor:
    """Factors of any kind."""
    return Factor(
        draw(st.sampled_from(("PUE", "carbon intensity", "WUE"))),
        draw(texts),
        draw(quantities()),
        draw(st.none() | st.integers(1990, 2050)),
    )


@st.composite
def footprints(draw, boundary: Boundary | None = None) -> Footprint:
    """Footprints in which any indicator may be unknown; equal indicators share a boundary."""
    return Footprint(
        boundary=boundary or draw(boundaries),
        **{
            name: draw(st.none() | quantities(kind, boundary="node", smallest=0.0))
            for name, kind in INDICATORS.items()
        },
        parts=tuple(draw(st.lists(parts(), max_size=4))),
        factors=tuple(draw(st.lists(factors(), max_size=3))),
        notes=tuple(draw(st.lists(texts, max_size=3))),
    )


counts = st.none() | st.integers(0, 2**40)


@st.composite
def activities(draw) -> Activity:
    """Activities with an id of their own."""
    return Activity(
        id=f"test-{draw(st.uuids())}",
        started_s=draw(st.floats(0, 4e9)),
        seconds=draw(st.floats(0, 1e7)),
        kind=draw(st.sampled_from(get_args(Kind))),
        stage=draw(st.sampled_from(get_args(Stage))),
        status=draw(st.sampled_from(get_args(Status))),
        label=draw(texts),
        model=draw(st.sampled_from(("", "smol", "large/model:7b"))),
        host=draw(texts),
        zone=draw(texts),
        tokens_in=draw(counts),
        tokens_cached=draw(counts),
        tokens_out=draw(counts),
        cpu_seconds=draw(st.none() | st.floats(0, 1e9)),
        caller=draw(st.sampled_from(("", "nightly"))),
        team=draw(texts),
        project=draw(texts),
        footprint=draw(footprints()),
    )
