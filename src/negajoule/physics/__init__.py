"""Models: from energy and time to every indicator, and the estimate for what nobody can meter.

- ``factors``: PUE, intensities, water and embodied rates of a place
- ``footprint``: the indicators of a piece of work
- ``hosted``: joules of a request to a hosted model, and how far they may be off
- ``hosted_footprint``: every indicator of such an estimate
- ``hosted_sum``: many requests together, whose lengths may be estimates too
- ``hosted_setting``: from a model's name to its likely deployment, and the alternatives
- ``decoding``: the roofline that the fit and the estimate share
- ``model_size``: parameters and layouts of models; intervals for closed ones
- ``accelerators``: data sheets of accelerators, sizes of number formats
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from negajoule.lazy import names_from
from negajoule.physics.factors import Factors, factors_for
from negajoule.physics.footprint import footprint

if TYPE_CHECKING:
    from negajoule.physics.hosted import Contributor, HostedEstimate, estimate
    from negajoule.physics.hosted_footprint import HostedFootprint, hosted_footprint
    from negajoule.physics.hosted_sum import Doubt, EstimateSum, HostedSum, Lengths, estimate_request
    from negajoule.physics.model_size import ModelSize, find_model

__all__ = [
    "Contributor",
    "Doubt",
    "EstimateSum",
    "Factors",
    "HostedEstimate",
    "HostedFootprint",
    "HostedSum",
    "Lengths",
    "ModelSize",
    "estimate",
    "estimate_request",
    "factors_for",
    "find_model",
    "footprint",
    "hosted_footprint",
]

# The estimate for hosted models has tables of its own, which a program that is metered has no use for.
__getattr__ = names_from(
    globals(),
    {
        "Contributor": ".hosted",
        "Doubt": ".hosted_sum",
        "EstimateSum": ".hosted_sum",
        "HostedEstimate": ".hosted",
        "HostedFootprint": ".hosted_footprint",
        "HostedSum": ".hosted_sum",
        "Lengths": ".hosted_sum",
        "ModelSize": ".model_size",
        "estimate": ".hosted",
        "estimate_request": ".hosted_sum",
        "find_model": ".model_size",
        "hosted_footprint": ".hosted_footprint",
    },
)
