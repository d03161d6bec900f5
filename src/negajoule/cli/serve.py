"""``negajoule serve``: the OpenAI-compatible server that knows every joule."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from negajoule.cli.look_back import look_back
from negajoule.cli.output import say
from negajoule.config import Settings
from negajoule.errors import ConfigError
from negajoule.extras import require

if TYPE_CHECKING:
    from collections.abc import Iterator

    import uvicorn

    from negajoule.engine import Engine
    from negajoule.gateway.backend import Backend

__all__ = ["serve"]


@click.command()
@click.option("--host", default=None, help="Address to listen on.")
@click.option("--port", type=int, default=None, help="Port to listen on; 0 picks a free one.")
@click.option("--upstream", default=None, help="URL of an OpenAI-compatible server to put behind this one.")
@click.option("--model-file", type=click.Path(), default=None, help="GGUF file instead of the bundled model.")
@click.option("--fake-engine", is_flag=True, help="A labelled fake instead of a model, for tests and tours.")
@click.option("--zone", default=None, help="Where the electricity is used, e.g. FR or US-CAL-CISO.")
@click.option("--slots", type=int, default=None, help="Requests the embedded engine works on at once.")
@click.option("--play", is_flag=True, help="Send the bundled prompts once the server is up.")
@click.option("--once", is_flag=True, help="Stop after the prompts (with --play).")
def serve(
    host: str | None,
    port: int | None,
    upstream: str | None,
    model_file: str | None,
    fake_engine: bool,
    zone: str | None,
    slots: int | None,
    play: bool,
    once: bool,
) -> None:
    """Start the OpenAI-compatible server; every answer carries its footprint.

    Without --upstream it runs a small real model itself. NEGAJOULE_UPSTREAM_KEY is sent to an upstream as its
    key.

    Example: negajoule serve --upstream http://127.0.0.1:8000
    """
    settings = Settings({"host": host, "port": port, "zone": zone, "slots": slots})
    for module in ("starlette", "uvicorn", "aiohttp", "prometheus_client", "jinja2"):
        require(module, extra="serve", purpose="run the server")
    listener = _listen(settings["host"], settings["port"])
    with listener:
        address, bound_port = listener.getsockname()[:2]
        url = f"http://{f'[{address}]' if ':' in address else address}:{bound_port}"
        engine = None if upstream else _engine(settings, model_file, fake=fake_engine)
        code = _serve(settings, listener, url, upstream, engine, play=play or once, once=once)
    sys.exit(code)


def _serve(
    settings: Settings,
    listener: socket.socket,
    url: str,
    upstream: str | None,
    engine: Engine | None,
    *,
    play: bool,
    once: bool,
) -> int:
    import uvicorn

    from negajoule.dashboard import pages
    from negajoule.gateway import (
        Accounts,
        EngineBackend,
        Limits,
        Metrics,
        UpstreamBackend,
        create_app,
        upstream_cost,
    )
    from negajoule.instrument import find_here
    from negajoule.ledger import Ledger, LedgerWriter
    from negajoule.meter import Meter, RequestSplitter

    here = find_here(settings)
    with Ledger() as ledger:
        look_back(ledger, here)
        writer = LedgerWriter(ledger, report=lambda error: say(str(error)))
        accounts = Accounts(here, writer, Metrics())
        splitter = RequestSplitter(Meter.for_process())
        backend: Backend
        if upstream is not None:
            backend = UpstreamBackend(
                upstream,
                splitter,
                accounts,
                estimate=upstream_cost(upstream, here),
                key=os.environ.get("NEGAJOULE_UPSTREAM_KEY"),
                silence_s=settings["upstream_timeout_s"],
            )
            behind = f"upstream {upstream}"
        else:
            assert engine is not None, "without an upstream there is an engine"
            backend = EngineBackend(engine, splitter, accounts)
            behind = f"{engine.name}: {', '.join(card.id for card in engine.models)}"
        app = create_app(
            backend=backend,
            accounts=accounts,
            splitter=splitter,
            ledger=ledger,
            pages=pages(ledger, here, behind),
            limits=Limits.of(settings),
        )
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=30)
        )
        # uvicorn would send the signal again once it has stopped, and so kill us before the books are closed.
        server.capture_signals = lambda: _stop_on_signals(server)  # type: ignore[method-assign]
        outcome: list[int] = []
        if play:
            threading.Thread(
                target=_play_when_up, args=(server, url, outcome), kwargs={"once": once}, daemon=True
            ).start()
        _announce(url, behind, here.location.note)
        try:
            server.run(sockets=[listener])
        finally:
            writer.close()
    return outcome[0] if outcome else 0


@contextmanager
def _stop_on_signals(server: uvicorn.Server) -> Iterator[None]:
    """The first SIGINT or SIGTERM drains the server, a second SIGINT stops it at once."""
    before = {number: signal.signal(number, server.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _announce(url: str, behind: str, note: str) -> None:
    say(f"negajoule serves {behind}")
    say(f"  page      {url}/")
    say(f"  API       {url}/v1   (OpenAI-compatible)")
    say(f"  metrics   {url}/metrics")
    if note:
        say(f"  note      {note}")


def _play_when_up(server: uvicorn.Server, url: str, outcome: list[int], *, once: bool) -> None:
    """Play the prompts from another process, so that the client's CPU time isn't billed to the server."""
    while not server.started and not server.should_exit:
        time.sleep(0.02)
    if server.should_exit:
        return
    code = subprocess.run([sys.executable, "-m", "negajoule", "play", url], check=False).returncode
    if once:
        outcome.append(code)
        server.should_exit = True
    else:
        say(f"\nstill serving: {url}/   (Ctrl-C stops)")


def _engine(settings: Settings, model_file: str | None, *, fake: bool) -> Engine:
    if fake:
        from negajoule.engine import FakeEngine

        return FakeEngine(slots=settings["slots"])
    from negajoule.engine import LlamaEngine

    say("loading the model ...")
    return LlamaEngine(model_file, slots=settings["slots"])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"can't listen on {host}:{port}: {error.strerror or error}",
            code="C104",
            fix=f"stop the other program, or choose another port: negajoule serve --port {port + 1}",
        ) from None
    return listener
