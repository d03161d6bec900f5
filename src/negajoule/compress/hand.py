"""The study's hand on a worker: starts it, orders, waits, and says why it died."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Self

import msgspec

from negajoule.compress.orders import Order, Reply
from negajoule.errors import CODES, CompressError, ExtraMissingError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Hand"]

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
_TAIL = 400


class Hand:
    """A worker process.

    Args:
        log: file for all that it prints.
        threads: that it may use.
    """

    def __init__(self, log: Path, threads: int = 1) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log
        environment = {
            **os.environ,
            **dict.fromkeys(THREAD_VARIABLES, str(threads)),
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_VERBOSITY": "error",
        }
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "negajoule.compress.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
            )

    @property
    def process(self) -> int:
        """Number of the process."""
        return self._process.pid

    def order(self, order: Order) -> Reply:
        """Give an order and wait for what comes of it.

        Raises:
            CompressError: what the worker raised; (K106) if it broke off.
            ExtraMissingError: (X101) if it lacks a library.
        """
        orders, replies = self._process.stdin, self._process.stdout
        assert orders is not None, "the worker has a pipe for orders"
        assert replies is not None, "and one for replies"
        try:
            orders.write(msgspec.json.encode(order) + b"\n")
            orders.flush()
            line = replies.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            raise self._died(order)
        reply = msgspec.json.decode(line, type=Reply)
        if reply.error is not None:
            code, message, fix = reply.error
            kind = ExtraMissingError if code == "X101" else CompressError
            raise kind(message, code=code if code in CODES else None, fix=fix)
        return reply

    def end(self) -> int:
        """Ask it to end; the most memory it held [B]."""
        peak_bytes = self.order(Order(do="end")).peak_bytes
        self.close()
        return peak_bytes or 0

    def close(self) -> None:
        """End it, whatever it does."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.terminate()
        self.close()

    def _died(self, order: Order) -> CompressError:
        code = self._process.wait()
        if code == -signal.SIGKILL:
            return CompressError(
                f"the worker was killed while it should {order.do}: most likely it ran out of memory",
                code="K106",
                fix="take a smaller batch (--batch), shorter texts (--max-length) or a smaller model",
            )
        said = self._log.read_text(encoding="utf-8", errors="replace").strip()[-_TAIL:]
        last = said.splitlines()[-1] if said else "it said nothing"
        return CompressError(
            f"the worker broke off while it should {order.do} (exit code {code}): {last}",
            code="K106",
            fix=f"its whole log: {self._log}",
        )
