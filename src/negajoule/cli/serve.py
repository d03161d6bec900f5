"""``negajoule serve``: the OpenAI-compatible server that knows every joule."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from negajoule.cli.look_back import look_back
from negajoule.cli.output import say
from negajoule.config import Settings
from negajoule.errors import ConfigError
from negajoule.extras import require

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Sequence

    import uvicorn

    from negajoule.cli.listen import Certificate
    from negajoule.cli.upstreams import Upstreams
    from negajoule.engine import Engine
    from negajoule.gateway import Accounts, Door, Fleet, Gateway
    from negajoule.gateway.backend import Backend
    from negajoule.gateway.batches import Batches
    from negajoule.gateway.prices import Tariff
    from negajoule.gateway.several import Loadable
    from negajoule.gateway.shaped import ShapedBackend
    from negajoule.instrument import Here
    from negajoule.meter import Splitter
    from negajoule.shape.live import HoldRule

__all__ = ["serve"]


@click.command()
@click.option("--host", default=None, help="Address to listen on.")
@click.option("--port", type=int, default=None, help="Port to listen on; 0 picks a free one.")
@click.option("--upstream", default=None, help="URL of an OpenAI-compatible server to put behind this one.")
@click.option(
    "--model-file",
    "--model",
    "model_file",
    type=click.Path(),
    default=None,
    help="GGUF file instead of the bundled model.",
)
@click.option("--fake-engine", is_flag=True, help="A labelled fake instead of a model, for tests and tours.")
@click.option(
    "--pool",
    type=click.Choice(["siblings"]),
    default=None,
    help="Serve the packaged model in several number formats, as negajoule/auto.",
)
@click.option("--zone", default=None, help="Where the electricity is used, e.g. FR or US-CAL-CISO.")
@click.option("--slots", type=int, default=None, help="Requests the embedded engine works on at once.")
@click.option("--insecure", is_flag=True, help="Listen to others without any API key.")
@click.option("--play", is_flag=True, help="Send the bundled prompts once the server is up.")
@click.option("--once", is_flag=True, help="Stop after the prompts (with --play).")
def serve(
    host: str | None,
    port: int | None,
    upstream: str | None,
    model_file: str | None,
    fake_engine: bool,
    pool: str | None,
    zone: str | None,
    slots: int | None,
    insecure: bool,
    play: bool,
    once: bool,
) -> None:
    """Start the OpenAI-compatible server; every answer carries its footprint.

    Without --upstream, and without [[upstream]] tables in negajoule.toml, it runs a small real model itself.
    NEGAJOULE_UPSTREAM_KEY is sent to an upstream as its key. Once there is an API key (negajoule keys),
    nobody is answered without one; to listen to others than this machine, one is needed. SIGHUP makes it read
    keys, certificate, upstreams, rules of shaping, limits and log settings again.

    Example: negajoule serve --upstream http://127.0.0.1:8000
    """
    arguments = {"host": host, "port": port, "zone": zone, "slots": slots}
    settings = Settings(arguments)
    for module in ("starlette", "uvicorn", "httptools", "prometheus_client", "jinja2"):
        require(module, extra="serve", purpose="run the server")
    from negajoule.cli.listen import Certificate, listen, url_of
    from negajoule.cli.siblings import siblings
    from negajoule.cli.upstreams import Upstreams

    certificate = Certificate.of(settings)
    door = _door(settings, insecure=insecure)
    if pool is not None and (upstream is not None or model_file is not None):
        raise ConfigError(
            "--pool siblings runs engines of its own", fix="leave --upstream or --model-file out"
        )
    embedded = fake_engine or model_file is not None or pool is not None
    upstreams = Upstreams(settings, upstream, embedded=embedded)
    with listen(settings["host"], settings["port"]) as listener:
        url = url_of(listener, certificate)
        engine: Engine | Mapping[str, Loadable] | None = None
        if pool is not None:
            engine = siblings(settings, fake=fake_engine)
        elif not upstreams:
            engine = _engine(settings, model_file, fake=fake_engine)
        front = _Front(listener, url, certificate, door, arguments)
        code = _serve(settings, front, upstreams, engine, play=play or once, once=once)
    sys.exit(code)


class _Front(NamedTuple):
    """The side of the server that clients see."""

    listener: socket.socket
    url: str
    certificate: Certificate | None
    door: Door
    arguments: dict[str, Any]


def _serve(
    settings: Settings,
    front: _Front,
    upstreams: Upstreams,
    engine: Engine | Mapping[str, Loadable] | None,
    *,
    play: bool,
    once: bool,
) -> int:
    from negajoule.cli.pools import Pools, check_of, siblings_plan
    from negajoule.cli.reload import Reload
    from negajoule.cli.siblings import free_bytes
    from negajoule.dashboard import pages
    from negajoule.gateway import (
        Accounts,
        BudgetedBackend,
        Degrading,
        EngineBackend,
        Limits,
        Metrics,
        Rates,
        create_app,
        standing_page,
        uvicorn_options,
    )
    from negajoule.gateway.logs import LOGGER, announce, configure
    from negajoule.gateway.prices import EnergyTariff, TokenTariff
    from negajoule.gateway.route_pages import route_pages
    from negajoule.gateway.several import SeveralEngines
    from negajoule.gateway.traces import find_tracer
    from negajoule.instrument import find_here
    from negajoule.ledger import Ledger, LedgerWriter
    from negajoule.ledger.accounts import Teller, open_store, workers_folder
    from negajoule.meter import Meter, PassingSplitter, RequestSplitter

    log = configure(settings["log_format"], settings["log_level"], hide=upstreams.secrets)
    here = find_here(settings)
    with Ledger() as ledger, closing(open_store(settings["accounts"])) as store:
        look_back(ledger, here)
        writer = LedgerWriter(
            ledger, linger_s=0.1, journal=True, report=lambda error: LOGGER.error("%s", error.message)
        )
        accounts = Accounts(here, writer, Metrics())
        splitter: Splitter
        backend: Backend
        estimate = None
        fleet: Fleet | None = None
        tariff: Tariff | None = None
        if upstreams:
            splitter = PassingSplitter(Meter.for_process())
            backend = fleet = upstreams.fleet(here, splitter, accounts)
            estimate = fleet.dearest
            tariff = TokenTariff(fleet)
            behind = str(upstreams)
        else:
            assert engine is not None, "without an upstream there is an engine"
            splitter = steps = RequestSplitter(Meter.for_process())
            if isinstance(engine, Mapping):
                backend = SeveralEngines(engine, steps, accounts, free_bytes)
                behind = f"siblings: {', '.join(engine)}"
            else:
                backend = EngineBackend(engine, steps, accounts)
                behind = f"{engine.name}: {', '.join(card.id for card in engine.models)}"
            if settings["price_per_kwh"] is not None:
                pue = here.factors.pue.quantity.high
                tariff = EnergyTariff(settings["price_per_kwh"], pue_high=pue)
        rates = Rates(estimate)
        budgeted = BudgetedBackend(
            backend,
            accounts,
            Teller(store, workers_folder()),
            rates,
            Degrading(settings["budget_output_tokens"], _cheaper(settings)),
            tariff,
        )
        own = [siblings_plan(engine)] if isinstance(engine, Mapping) else []
        pools = Pools(settings, here, own)
        routed = pools.backend(budgeted, accounts.metrics, check_of(fleet)) if pools else None
        shaped = _shaped(routed or budgeted, settings, accounts, here)
        app = create_app(
            backend=_cached(shaped, settings, splitter, accounts),
            accounts=accounts,
            splitter=splitter,
            ledger=ledger,
            pages=[
                *pages(ledger, here, behind),
                standing_page(store),
                *(() if routed is None else route_pages(routed)),
            ],
            door=front.door,
            limits=Limits.of(settings),
            tracer=find_tracer(),
            batches=_batches(settings),
        )
        server = _server(front, app, uvicorn_options(lambda: app.limits))
        # uvicorn would send the signal again once it has stopped, and so kill us before the books are closed.
        server.capture_signals = lambda: _stop_on_signals(server)  # type: ignore[method-assign]
        renewals: list[Callable[[Settings], Callable[[], None]]] = [partial(_shape_renewal, shaped=shaped)]
        if routed is not None:
            renewals.append(pools.renewal)
        if fleet is not None:
            renewals.append(partial(upstreams.renewal, fleet=fleet, here=here, after=rates.forget_estimates))
        reload = Reload(front.arguments, app, front.certificate, lambda: upstreams.secrets, renewals)
        signal.signal(signal.SIGHUP, reload)
        outcome: list[int] = []
        if play:
            threading.Thread(
                target=_play_when_up, args=(server, front, outcome), kwargs={"once": once}, daemon=True
            ).start()
        if settings["log_format"] == "json":
            announce(log, "serving", url=front.url, behind=behind, access=_access(front.door))
        else:
            _announce(front, behind, here.location.note)
        try:
            server.run(sockets=[front.listener])
        finally:
            writer.close()
    return outcome[0] if outcome else 0


def _shaped(backend: Backend, settings: Settings, accounts: Accounts, here: Here) -> ShapedBackend:
    """The backend behind queues that hold calls as ``[[shape]]`` tables say."""
    from negajoule.gateway.shaped import ShapedBackend

    return ShapedBackend(backend, _rules(settings), accounts.metrics, partial(_carbon_g_per_kwh, here))


def _rules(settings: Settings) -> Sequence[HoldRule]:
    found = settings.table("shape")
    if found is None:
        return ()
    from negajoule.shape.live import read_rules

    return read_rules(*found)


def _shape_renewal(settings: Settings, *, shaped: ShapedBackend) -> Callable[[], None]:
    """What puts the rules of changed ``[[shape]]`` tables in place; nothing happens before."""
    rules = _rules(settings)
    return lambda: shaped.replace(rules)


def _carbon_g_per_kwh(here: Here) -> float:
    """The grid's intensity now [gCO2e/kWh]; NaN where no source tells that of the hour."""
    from negajoule.grid.signal import J_PER_KWH

    now = None if here.grid is None else here.grid.now()
    return math.nan if now is None or now.is_fallback else now.intensity.value * J_PER_KWH


def _batches(settings: Settings) -> Batches | None:
    """What clients may leave here, if they may."""
    if not settings["batches"]:
        return None
    require("python_multipart", extra="serve", purpose="take files of batches")
    from negajoule.gateway.batches import Batches, BatchLimits

    return Batches(BatchLimits.of(settings))


def _cached(backend: Backend, settings: Settings, splitter: Splitter, accounts: Accounts) -> Backend:
    """The backend behind a cache of answers, if one is wanted."""
    if settings["cache"] == "off":
        return backend
    from negajoule.gateway.cache import AnswerCache, CachePlan
    from negajoule.gateway.cached import CachedBackend

    plan = CachePlan(
        settings["cache"],
        settings["cache_scope"],
        settings["cache_entries"],
        settings["cache_bytes"],
        settings["cache_ttl_s"],
    )
    return CachedBackend(backend, AnswerCache(plan), splitter, accounts, _cheaper(settings))


def _cheaper(settings: Settings) -> tuple[str, ...]:
    """The models that are asked instead of dearer ones."""
    names = (settings["budget_cheaper_model"] or "").split(",")
    return tuple(name.strip() for name in names if name.strip())


def _server(front: _Front, app: Gateway, options: dict[str, Any]) -> uvicorn.Server:
    import uvicorn

    tls = front.certificate
    return uvicorn.Server(
        uvicorn.Config(
            app,
            **options,
            log_config=None,
            log_level="warning",
            timeout_graceful_shutdown=30,
            ssl_context_factory=None if tls is None else lambda *_: tls.context,
        )
    )


def _door(settings: Settings, *, insecure: bool) -> Door:
    from negajoule.cli.listen import check_exposure
    from negajoule.gateway import Door, KeyFile, KeyRing
    from negajoule.gateway.door import is_loopback
    from negajoule.gateway.logs import LOGGER

    host = settings["host"]
    ring = KeyRing(KeyFile(), report=lambda error: LOGGER.error("%s", error.message))
    check_exposure(host, has_keys=ring.required, insecure=insecure)
    return Door(
        ring,
        names=() if is_loopback(host) else None,
        metrics_open=settings["metrics_open"],
        places=settings["max_requests_per_key"],
    )


@contextmanager
def _stop_on_signals(server: uvicorn.Server) -> Iterator[None]:
    """The first SIGINT or SIGTERM drains the server, a second SIGINT stops it at once."""
    before = {number: signal.signal(number, server.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _announce(front: _Front, behind: str, note: str) -> None:
    say(f"negajoule serves {behind}")
    say(f"  page      {front.url}/")
    say(f"  API       {front.url}/v1   (OpenAI-compatible)")
    say(f"  metrics   {front.url}/metrics")
    say(f"  access    {_access(front.door)}")
    if note:
        say(f"  note      {note}")


def _access(door: Door) -> str:
    if door.locked:
        return "by API key only (negajoule keys)"
    if door.names is None:
        return "OPEN TO OTHERS, without any API key, as --insecure wants it"
    return "from this machine, without API key, until one is made: negajoule keys create NAME"


def _play_when_up(server: uvicorn.Server, front: _Front, outcome: list[int], *, once: bool) -> None:
    """Play the prompts from another process, so that the client's CPU time isn't billed to the server."""
    from negajoule.gateway.caller import ANYBODY

    while not server.started and not server.should_exit:
        time.sleep(0.02)
    if server.should_exit:
        return
    environment = dict(os.environ)
    if front.door.ring is not None:
        environment["NEGAJOULE_API_KEY"] = front.door.ring.admit_guest(ANYBODY)
    if front.certificate is not None:
        environment["SSL_CERT_FILE"] = front.certificate.path
    command = [sys.executable, "-m", "negajoule", "play", front.url]
    code = subprocess.run(command, check=False, env=environment).returncode
    if once:
        outcome.append(code)
        server.should_exit = True
    else:
        say(f"\nstill serving: {front.url}/   (Ctrl-C stops)")


def _engine(settings: Settings, model_file: str | None, *, fake: bool) -> Engine:
    if fake:
        from negajoule.engine import FakeEngine

        return FakeEngine(slots=settings["slots"])
    from negajoule.engine import LlamaEngine

    say("loading the model ...")
    return LlamaEngine(model_file, slots=settings["slots"])
