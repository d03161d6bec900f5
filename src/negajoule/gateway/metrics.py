"""Prometheus counters; energy, carbon and water only grow, so that totals can be rebuilt from scrapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from collections.abc import Callable

    from negajoule.gateway.accounts import Tokens
    from negajoule.units import Footprint, Quantity

__all__ = ["Metrics"]

_BUCKETS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0)


class Metrics:
    """The counters of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self._requests = Counter("negajoule_requests", "Requests", ["model", "status"], registry=r)
        self._tokens = Counter("negajoule_tokens", "Tokens", ["model", "direction"], registry=r)
        self._energy = Counter("negajoule_it_energy_joules", "IT energy", ["model"], registry=r)
        self._carbon = Counter("negajoule_carbon_grams", "Location-based gCO2e", ["model"], registry=r)
        self._embodied = Counter("negajoule_embodied_grams", "Embodied gCO2e", ["model"], registry=r)
        self._water = Counter("negajoule_water_litres", "Water", ["model", "where"], registry=r)
        self._unknown = Counter(
            "negajoule_unknown_energy_requests", "Requests of unknown energy", ["model"], registry=r
        )
        self._per_request = Histogram(
            "negajoule_request_energy_joules", "IT energy of a request", buckets=_BUCKETS, registry=r
        )

    def watch(self, name: str, meaning: str, read: Callable[[], float]) -> None:
        """Export a gauge that is read when scraped."""
        Gauge(name, meaning, registry=self.registry).set_function(read)

    def request(self, model: str, status: str, tokens: Tokens, cost: Footprint) -> None:
        """Count a finished request."""
        self._requests.labels(model, status).inc()
        for direction, count in (("in", tokens.prompt), ("out", tokens.output)):
            if count is not None:
                self._tokens.labels(model, direction).inc(count)
        if cost.it_energy is None:
            self._unknown.labels(model).inc()
        else:
            self._per_request.observe(cost.it_energy.value)
        self._footprint(model, cost)

    def idle(self, cost: Footprint) -> None:
        """Count idle time, under a model of that name."""
        self._footprint("idle", cost)

    def text(self) -> bytes:
        """The exposition format that Prometheus scrapes."""
        return generate_latest(self.registry)

    def _footprint(self, model: str, cost: Footprint) -> None:
        _grow(self._energy.labels(model), cost.it_energy)
        _grow(self._carbon.labels(model), cost.carbon_location)
        _grow(self._embodied.labels(model), cost.embodied)
        _grow(self._water.labels(model, "onsite"), cost.water_onsite)
        _grow(self._water.labels(model, "offsite"), cost.water_offsite)


def _grow(counter: Counter, quantity: Quantity | None) -> None:
    if quantity is not None:
        counter.inc(max(0.0, quantity.value))
