"""What the model behind an upstream server costs: estimated, for its joules can't be read from here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from negajoule.errors import CatalogError, NegajouleError
from negajoule.instrument.hosted import serving_factors
from negajoule.instrument.provider import is_on_site, provider_of_url
from negajoule.physics import Doubt, Lengths, estimate_request, hosted_footprint

if TYPE_CHECKING:
    from collections.abc import Callable

    from negajoule.gateway.accounts import Tokens
    from negajoule.instrument import Here
    from negajoule.units import Footprint

__all__ = ["upstream_cost"]


_UNKNOWN_KEPT = 1024


def upstream_cost(url: str, here: Here) -> Callable[[str, Tokens], Footprint | None]:
    """The function that works out the footprint of an upstream's model.

    A server on this machine or in a private network stands where you are: your zone and PUE hold for it. Any
    other is a provider's, known by its address or, for closed models, by who made the model.

    Args:
        url: address of the upstream.
        here: this machine and its place.

    Returns:
        From a model's name and token counts to its footprint; ``None`` if the model or a count isn't known.
    """
    on_site, provider = is_on_site(url), provider_of_url(url)
    # Looking for near matches of an unknown name takes longer than passing its request on.
    unknown: set[str] = set()

    def cost(model: str, tokens: Tokens) -> Footprint | None:
        if tokens.prompt is None or tokens.output is None or model in unknown:
            return None
        lengths = Lengths(tokens.prompt, tokens.output, tokens.cached or 0)
        all_cached = lengths._replace(cached=tokens.prompt)
        doubts = [Doubt("prompt cache", all_cached, lengths)] if tokens.cached is None else []
        try:
            estimated = estimate_request(model, lengths, doubts)
            factors = here.factors if on_site else serving_factors(model, provider=provider)
        except CatalogError:
            if len(unknown) < _UNKNOWN_KEPT:
                unknown.add(model)
            return None
        except NegajouleError:
            return None
        found = hosted_footprint(estimated, factors)
        note = f"the model's energy at the upstream is estimated; its widest doubt is: {found.widest}"
        return msgspec.structs.replace(found, notes=(note, *found.notes))

    return cost
