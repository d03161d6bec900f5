"""Start ``negajoule serve`` in a process of its own, as a user does."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, NamedTuple
from urllib.request import urlopen

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Served(NamedTuple):
    """A server's URL and process."""

    url: str
    process: subprocess.Popen[str]


@contextlib.contextmanager
def serve(home: Path, *arguments: str) -> Iterator[Served]:
    """Run a server on a free port until the block ends; it may have been killed by then."""
    process = subprocess.Popen(
        [sys.executable, "-m", "negajoule", "serve", "--port", "0", *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "NEGAJOULE_HOME": str(home)},
    )
    try:
        yield Served(_url_of(process), process)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
        process.stderr.close()


def _url_of(process: subprocess.Popen[str]) -> str:
    words = []
    for line in process.stderr:
        words.append(line)
        found = re.search(r"page\s+(http://\S+)/", line)
        if found:
            threading.Thread(target=_drain, args=(process.stderr,), daemon=True).start()
            _wait_for(found.group(1))
            return found.group(1)
    raise AssertionError("the server didn't start:\n" + "".join(words))


def _drain(stream) -> None:
    with contextlib.suppress(ValueError):
        for _ in stream:
            pass


def _wait_for(url: str) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        with contextlib.suppress(OSError), urlopen(f"{url}/healthz", timeout=5):
            return
        time.sleep(0.02)
    raise AssertionError("the server doesn't answer")
