"""A real PostgreSQL for tests and benchmarks: made in a temporary folder, reached by a socket in it."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_START_S = 30.0


class PostgresServer:
    """A running server."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = count()

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://negajoule@/{database}?host={self._folder}"

    def fresh_database(self) -> str:
        """URL of a new, empty database."""
        import psycopg

        name = f"fresh_{os.getpid()}_{next(self._numbers)}"
        with psycopg.connect(self.url(), autocommit=True) as db:
            db.execute(f"CREATE DATABASE {name}")
        return self.url(name)


def why_not() -> str:
    """Why no server can be started here; empty if one can."""
    if _binaries() is None:
        return "PostgreSQL isn't installed: apt-get install postgresql"
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return "psycopg isn't installed: pip install 'psycopg[binary]'"
    return ""


@contextmanager
def postgres_server(*, durable: bool = False) -> Iterator[PostgresServer]:
    """Start a server and stop it at the end.

    Args:
        durable: whether it syncs to disk, as a real one does.
    """
    binaries = _binaries()
    assert binaries is not None
    user = _user()
    folder = Path(tempfile.mkdtemp(prefix="nj-pg-"))
    options = [] if durable else ["-c", "fsync=off", "-c", "synchronous_commit=off"]
    try:
        if user is not None:
            os.chown(folder, user["user"], user["group"])
        data = folder / "data"
        subprocess.run(
            [binaries / "initdb", "-D", data, "-A", "trust", "-U", "negajoule", "-E", "UTF8", "--no-sync"],
            check=True,
            capture_output=True,
            cwd=folder,
            **(user or {}),
        )
        server = subprocess.Popen(
            [binaries / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses=", *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            **(user or {}),
        )
        try:
            _wait_for(server, folder)
            yield PostgresServer(folder)
        finally:
            server.send_signal(2)  # SIGINT: end now and in order
            server.wait(timeout=30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    path = shutil.which("initdb")
    return found[-1].parent if found else Path(path).parent if path else None


def _user() -> dict[str, int] | None:
    """PostgreSQL refuses to run as root, so another user must."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid}
    raise RuntimeError("there is no user to run PostgreSQL as")


def _wait_for(server: subprocess.Popen[bytes], folder: Path) -> None:
    import psycopg

    until_s = time.monotonic() + _START_S
    while True:
        try:
            psycopg.connect(f"postgresql://negajoule@/postgres?host={folder}", connect_timeout=2).close()
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > until_s:
                raise
            time.sleep(0.05)
        else:
            return
