"""A real HTTP server on loopback that plays the grid's APIs, the well-behaved ones and the others."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import pytest

from negajoule.grid.fetch import fetch_url

if TYPE_CHECKING:
    from collections.abc import Mapping

HOUR = 3600.0
NOW = 1_794_997_600.0  # a fixed moment: 2026-11-18T10:26:40Z


class Asked(NamedTuple):
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]


class Reply(NamedTuple):
    """What the server says; ``pause_s`` before it, ``drip_s`` between its bytes."""

    body: bytes | str | dict | list = b""
    status: int = 200
    headers: Mapping[str, str] = MappingProxyType({})
    pause_s: float = 0.0
    drip_s: float = 0.0


class Api:
    """A server whose answers a test chooses, and that remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.answer = lambda asked: Reply(status=404)
        self.closing = threading.Event()
        api = self

        class Handler(BaseHTTPRequestHandler):
            def handle_one_request(self):
                try:
                    super().handle_one_request()
                except (ConnectionError, ValueError):
                    self.close_connection = True  # the client left, which is what some tests want

            def respond(self):
                parts = urlsplit(self.path)
                asked = Asked(
                    self.command,
                    parts.path,
                    dict(parse_qsl(parts.query)),
                    {name.lower(): value for name, value in self.headers.items()},
                )
                api.asked.append(asked)
                reply = api.answer(asked)
                body = reply.body
                if isinstance(body, dict | list):
                    body = json.dumps(body)
                if isinstance(body, str):
                    body = body.encode()
                api.closing.wait(reply.pause_s)
                self.send_response(reply.status)
                for name, value in {"Content-Length": str(len(body)), **reply.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if not reply.drip_s:
                    self.wfile.write(body)
                    return
                for byte in body:
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                    if api.closing.wait(reply.drip_s):
                        return

            do_GET = do_PUT = respond

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def fetch(self, url, headers, *, timeout_s, method="GET"):
        """The real fetch, with the API's own host replaced by this server."""
        parts = urlsplit(url)
        query = f"?{parts.query}" if parts.query else ""
        return fetch_url(
            f"{self.url}/{parts.hostname}{parts.path}{query}", headers, timeout_s=timeout_s, method=method
        )

    def says(self, *replies) -> None:
        """Give these replies in turn, the last one for ever."""
        left = list(replies)

        def answer(_):
            reply = left.pop(0) if len(left) > 1 else left[0]
            return reply if isinstance(reply, Reply) else Reply(reply)

        self.answer = answer

    def close(self) -> None:
        self.closing.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def iso(at_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(at_s))


def floor(at_s: float, step_s: float = HOUR) -> float:
    return at_s // step_s * step_s


def em_point(at_s: float, grams, **more) -> dict:
    """A point as Electricity Maps writes it."""
    point = {
        "zone": "FR",
        "carbonIntensity": grams,
        "datetime": iso(at_s),
        "updatedAt": iso(at_s),
        "emissionFactorType": "lifecycle",
        "isEstimated": False,
        "estimationMethod": None,
    }
    return {**point, **more}


def em_history(now_s: float = NOW, grams: float = 50.0, zone: str = "FR") -> dict:
    """The last 24 hours as Electricity Maps writes them."""
    newest = floor(now_s)
    return {"zone": zone, "history": [em_point(newest - back * HOUR, grams) for back in range(23, -1, -1)]}


def uk_period(at_s: float, forecast, actual) -> dict:
    """A half hour as the Carbon Intensity API writes it."""
    short = [time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime(t)) for t in (at_s, at_s + HOUR / 2)]
    return {
        "from": short[0],
        "to": short[1],
        "intensity": {"forecast": forecast, "actual": actual, "index": "moderate"},
    }


def watttime_data(at_s: float, values, **meta) -> dict:
    """Five-minute points as WattTime writes them."""
    return {
        "data": [
            {"point_time": iso(at_s + 300 * i).replace(".000Z", "+00:00"), "value": v}
            for i, v in enumerate(values)
        ],
        "meta": {
            "data_point_period_seconds": 300,
            "region": "CAISO_NORTH",
            "warnings": [],
            "signal_type": "co2_moer",
            "model": {"date": "2026-03-01"},
            "units": "lbs_co2_per_mwh",
            **meta,
        },
    }


@pytest.fixture
def api():
    server = Api()
    yield server
    server.close()
