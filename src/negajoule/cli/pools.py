"""Pools of models: from negajoule.toml, or the siblings of the packaged model, to a backend that routes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from negajoule.config import home
from negajoule.errors import ConfigError, NegajouleError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from negajoule.config import Settings
    from negajoule.gateway import Fleet
    from negajoule.gateway.backend import Backend
    from negajoule.gateway.metrics import Metrics
    from negajoule.gateway.pool import Pool
    from negajoule.gateway.pool_plan import PoolPlan, TokenEnergies
    from negajoule.gateway.routed import RoutedBackend
    from negajoule.gateway.wire import Call
    from negajoule.instrument import Here
    from negajoule.profile import Profile

__all__ = ["Pools", "check_of", "siblings_plan"]

_PROBE_TOKENS = 64


class Pools:
    """The pools of a server.

    Args:
        settings: the settings, whose file may hold ``[[pool]]`` tables.
        here: this machine and its place.
        more: pools that stand in no file.

    Raises:
        ConfigError: (C101, C106) if a table is wrong or a router can't be read.
    """

    def __init__(self, settings: Settings, here: Here, more: Iterable[PoolPlan] = ()) -> None:
        self._here = here
        self._more = tuple(more)
        self._running: dict[str, tuple[PoolPlan, float, Pool]] = {}
        self._made = self._read(settings)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._made)

    def backend(self, inner: Backend, metrics: Metrics, check: Callable[[Call], None]) -> RoutedBackend:
        """The backend that lets them answer."""
        from negajoule.gateway.routed import RoutedBackend

        self._routed = RoutedBackend(inner, self._made, metrics, check)
        return self._routed

    def renewal(self, settings: Settings) -> Callable[[], None]:
        """What puts changed pools and routers in place; nothing happens before.

        Raises:
            ConfigError: (C101, C106) if a table is wrong or a router can't be read.
        """
        made = self._read(settings)
        return lambda: self._routed.replace(made)

    def _read(self, settings: Settings) -> list[Pool]:
        """The pools; one that runs already, where neither its table nor its router's file has changed."""
        from negajoule.gateway.pool import Pool
        from negajoule.gateway.pool_plan import read_pools
        from negajoule.route import Router

        table = settings.table("pool")
        plans = (*self._more, *(() if table is None else read_pools(*table)))
        names = [plan.name for plan in plans]
        if len(set(names)) != len(names):
            raise ConfigError(
                f"two pools are called {names[0]!r}", fix='give yours another name: name = "mine"'
            )
        running = {}
        for plan in plans:
            path = None if plan.router is None else Path(plan.router)
            try:
                stamp = 0.0 if path is None else path.stat().st_mtime
            except OSError as error:
                raise ConfigError(
                    f"the router {path} of the pool {plan.name} can't be read: {error.strerror}",
                    code="C106",
                    fix="negajoule route train",
                ) from None
            before = self._running.get(plan.name)
            if before is not None and before[:2] == (plan, stamp):
                running[plan.name] = before
                continue
            router = None if path is None else Router.load(path, explore=plan.explore)
            running[plan.name] = (plan, stamp, Pool(plan, router, self._intensity_g_per_j))
        self._running = running
        return [pool for _, _, pool in running.values()]

    def _intensity_g_per_j(self) -> float:
        """Grams that a joule of IT energy causes here now."""
        here = self._here
        pue = here.factors.pue.quantity.value
        if here.grid is not None:
            return float(here.grid.now().intensity.value * pue)
        return float(here.factors.carbon_location.quantity.value * pue)


def check_of(fleet: Fleet | None) -> Callable[[Call], None]:
    """What refuses a call that a model surely can't answer: the plans of upstreams, if there are any."""

    def check(call: Call) -> None:
        if fleet is not None:
            fleet.routes.find(call)

    return check


def siblings_plan(models: Iterable[str]) -> PoolPlan:
    """The pool of the packaged model's siblings, with energies of this machine's profile."""
    from negajoule.gateway.pool_plan import PoolPlan

    names = tuple(models)
    return PoolPlan(models=names, default=names[1], energies=_sibling_energies(names))


def _sibling_energies(models: Iterable[str]) -> dict[str, TokenEnergies]:
    """Joules of tokens of each sibling, from the newest profile in the data folder that has its format."""
    from negajoule.engine.packaged import PACKAGED_MODEL_ID
    from negajoule.profile import load_profile

    found: dict[str, TokenEnergies] = {}
    paths = sorted((home() / "profiles").glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in paths:
        try:
            profile = load_profile(path)
        except NegajouleError:
            continue
        if not profile.model.lower().startswith(PACKAGED_MODEL_ID.lower()):
            continue
        for model in models:
            format_ = model.rpartition("-")[2].upper()
            if model not in found and format_ in profile.formats:
                energies = _energies(profile, format_)
                if energies is not None:
                    found[model] = energies
    return found


def _energies(profile: Profile, format_: str) -> TokenEnergies | None:
    """By the profile's law, from one request and two that are longer in the prompt and in the answer."""
    from negajoule.gateway.pool_plan import TokenEnergies

    try:
        law = profile.energy_law(format_)
    except NegajouleError:
        return None
    n = _PROBE_TOKENS
    base = law.request(1, n, n)
    input_j = (law.request(1, 2 * n, n) - base) / n
    output_j = (law.request(1, n, 2 * n) - base) / n
    return TokenEnergies(input_j, output_j) if input_j >= 0 and output_j > 0 else None
