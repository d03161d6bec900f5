"""What is promised to a class of requests, and whether it was kept."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from negajoule.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from negajoule.simulate import Outcome

__all__ = ["Kept", "Promise", "parse_promise"]

_MEASURES = ("ttft", "latency")
_TEXT = re.compile(
    r"(?:(?P<kind>[\w-]+):)?(?P<measure>ttft|latency|e2e)?-?p(?P<percent>\d+(?:\.\d+)?)\s*(?:<=|<|=|:)\s*"
    r"(?P<limit>\d+(?:\.\d+)?)\s*(?P<unit>ms|s|min|h)?"
)
_SECONDS = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, None: 1.0}
_BLOCKS = 20  # parts of a trace that are taken as independent: a burst spoils its neighbours only
_STUDENT = 1.729  # 95 % quantile of Student's distribution with 19 degrees of freedom


class Kept(msgspec.Struct, frozen=True):
    """Whether a promise was kept.

    Attributes:
        reached_s: the promised quantile, as it came out; infinite if too few were served [s].
        late_share: share of requests that came after the limit or weren't served.
        late_share_high: upper end of the one-sided 95 % interval of that share on another stretch as long,
            from the trace's parts.
        kept: whether the quantile is within the limit.
        surely: whether the upper end is, too.
    """

    reached_s: float
    late_share: float
    late_share_high: float
    kept: bool
    surely: bool


class Promise(msgspec.Struct, frozen=True, kw_only=True):
    """A limit on a quantile. Who isn't served counts as late.

    Attributes:
        limit_s: the limit [s].
        quantile: share of requests that must be within it, above 0 and below 1.
        measure: ``ttft``, time to the first token, or ``latency``, time to the end of the answer.
        kind: the class of requests; None for all.
    """

    limit_s: float
    quantile: float = 0.95
    measure: str = "latency"
    kind: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.limit_s < math.inf:
            raise ConfigError(f"a limit of {self.limit_s:g} s can't be promised", fix="give seconds above 0")
        if not 0 < self.quantile < 1:
            raise ConfigError(
                f"nobody can promise a quantile of {self.quantile:g}", fix="p50, p95 or p99, for example"
            )
        if self.measure not in _MEASURES:
            raise ConfigError(f"{self.measure!r} isn't promised", fix=f"one of {', '.join(_MEASURES)}")

    def times(self, outcome: Outcome) -> NDArray[np.float64]:
        """Times of the promise's requests in order of arrival, infinite for who wasn't served [s]."""
        times = outcome.ttft_s if self.measure == "ttft" else outcome.latency_s
        times = np.where(outcome.served & np.isfinite(times), times, np.inf)
        if self.kind is None:
            return times
        classes = outcome.trace.classes
        if self.kind not in classes:
            raise ConfigError(
                f"the trace has no requests of the class {self.kind!r}", fix=f"one of {', '.join(classes)}"
            )
        return np.asarray(times[outcome.trace.kind == classes.index(self.kind)])

    def check(self, outcome: Outcome) -> Kept:
        """Whether it was kept, and whether it would be on other days like this one."""
        times = self.times(outcome)
        if not times.size:
            return Kept(0.0, 0.0, 0.0, True, True)
        late = times > self.limit_s
        allowed = 1.0 - self.quantile
        share = float(late.mean())
        parts = [float(part.mean()) for part in np.array_split(late, min(_BLOCKS, late.size))]
        error = float(np.std(parts, ddof=1)) / math.sqrt(len(parts)) if len(parts) > 1 else 1.0
        high = share + _STUDENT * math.sqrt(2.0) * error  # of another stretch as long, which varies as well
        # "higher": the share of those beyond a quantile so taken is never above what is allowed.
        reached = float(np.quantile(times, self.quantile, method="higher"))
        return Kept(reached, share, high, reached <= self.limit_s, high <= allowed and len(parts) > 1)

    def __str__(self) -> str:
        name = "time to first token" if self.measure == "ttft" else "latency"
        whose = "" if self.kind is None else f"{self.kind}: "
        return f"{whose}p{100 * self.quantile:g} of {name} <= {self.limit_s:g} s"


def parse_promise(text: str) -> Promise:
    """Read a promise as people write it: ``p95<=10s``, ``ttft-p99<=500ms``, ``batch:p99<=24h``.

    Raises:
        ConfigError: (C101) if it can't be read.
    """
    match = _TEXT.fullmatch(text.strip())
    if match is None:
        raise ConfigError(
            f"the promise {text!r} can't be read", fix="p95<=10s, ttft-p99<=500ms, batch:p99<=24h"
        )
    return Promise(
        limit_s=float(match["limit"]) * _SECONDS[match["unit"]],
        quantile=float(match["percent"]) / 100.0,
        measure="ttft" if match["measure"] == "ttft" else "latency",
        kind=match["kind"],
    )
