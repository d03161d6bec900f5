"""From the estimate for a hosted model to every indicator.

    facility energy = IT energy x PUE of the provider
    carbon          = facility energy x intensity of the grid
    water on site   = IT energy x WUE, off site = facility energy x water intensity of the grid
    embodied        = reserved accelerator-seconds / service life x making one accelerator with its server

(embodied: linear allocation over the service life, as ISO/IEC 21031 (SCI) does with M = TE x TS x RS).
Minerals and primary energy are those of the electricity, as everywhere; making accelerators isn't in them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from negajoule.physics.footprint import operational
from negajoule.physics.hosted import Contributor
from negajoule.units import Carbon, Footprint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from negajoule.physics.factors import Factors
    from negajoule.physics.hosted import HostedEstimate
    from negajoule.units import Duration, Factor

__all__ = ["HostedFootprint", "hosted_footprint"]


class HostedFootprint(Footprint, frozen=True):
    """The footprint of work on hosted models; it knows what makes its intervals wide.

    Attributes:
        model: the model as it was found.
        contributors: causes of the width of the carbon figure, each as if it were the only one.
    """

    model: str = ""
    contributors: tuple[Contributor, ...] = ()

    @property
    def widest(self) -> str | None:
        """Name of the cause that adds most to the width of the carbon figure."""
        return max(self.contributors, key=_width).name if self.contributors else super().widest

    def to_dict(self, *, detail: bool = True) -> dict[str, Any]:
        """The JSON form, schema ``negajoule.footprint/1`` with model and contributors added."""
        causes = sorted(self.contributors, key=_width, reverse=True)
        return {
            **super().to_dict(detail=detail),
            "model": self.model,
            "contributors": [cause._asdict() for cause in causes],
        }


def hosted_footprint(
    estimate: HostedEstimate, factors: Factors, *, notes: Sequence[str] = ()
) -> HostedFootprint:
    """Work out every indicator of an estimate.

    Args:
        estimate: energy and time of a request, or of many.
        factors: what a joule costs where the model is served.
        notes: remarks that go before those of the factors and the estimate.

    Returns:
        A footprint of boundary ``facility``, like that of work on this machine, so that the two can be added.
    """
    making, life = factors.embodied_accelerator, factors.lifetime_accelerator
    pue, intensity = factors.pue, factors.carbon_location
    return HostedFootprint(
        boundary="facility",
        **operational(estimate.it_energy, factors),
        embodied=_embodied(estimate.reserved_time, making, life),
        parts=estimate.parts,
        factors=(*factors.used, making, life, *estimate.factors),
        notes=(*notes, *factors.notes, *estimate.notes),
        model=estimate.model,
        contributors=(*estimate.contributors, _contributor(pue), _contributor(intensity)),
    )


def _embodied(reserved: Duration, making: Factor, life: Factor) -> Carbon:
    grams, seconds = making.quantity, life.quantity
    return Carbon(
        reserved.value * grams.value / seconds.value,
        reserved.low * grams.low / seconds.high,
        reserved.high * grams.high / seconds.low,
        "assumed",
        "life cycle",
    )


def _contributor(factor: Factor) -> Contributor:
    value, low, high = factor.quantity.value, factor.quantity.low, factor.quantity.high
    return Contributor(factor.name, low / value, high / value) if value else Contributor(factor.name, 1, 1)


def _width(cause: Contributor) -> float:
    return cause.high / cause.low if cause.low > 0 else float("inf")
