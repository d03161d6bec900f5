"""What a co-located server's accelerators drew for one call: their energy, split by what the batch was.

A thread reads an instrument of this machine and the server's own page of metrics, a few times a second. Two
splits of the joules are worked out for a call:

- *by tokens*: the joules of the time it was there, over all tokens that the server counted in that time,
  times its own (prompt tokens that weren't cached, and generated ones);
- *by presence*: in each interval the joules over the number of requests that ran, summed over its time.

Decoding, where each running request gets one token a step, makes them agree; a long prompt makes them differ.
The first is the value, both are the interval, widened by the instrument's own bounds. The basis is inferred:
the joules are read, the split is worked out. Idle power counts for those who are there.

Where anything is missing (the instrument, the metrics, a sample in time) the call falls back to the estimate,
and the gap stands in its notes and is counted.
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from negajoule.errors import ConfigError
from negajoule.units import Energy, Part

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from negajoule.gateway.accounts import Tokens
    from negajoule.gateway.plan import UpstreamPlan
    from negajoule.instrument import Here
    from negajoule.meter import Probe, Reading
    from negajoule.units import Footprint

__all__ = ["Batch", "Colocated", "Sample", "VllmMetrics", "domains_of", "meter_for"]

PERIOD_S = 0.25
_REMEMBERED = 16_384  # samples, more than an hour
_LATE_S = 2.0
_LONGEST_PAGE = 4 * 1024 * 1024
_TIMEOUT_S = 2.0


class Batch(NamedTuple):
    """How a server's batch is made up.

    Attributes:
        running: requests that run now.
        prompt_tokens: prompt tokens since its start.
        generated_tokens: generated tokens since its start.
    """

    running: float
    prompt_tokens: float
    generated_tokens: float


class BatchMetrics(Protocol):
    """Tells how a server's batch is made up; may block."""

    def read(self) -> Batch:
        """Now.

        Raises:
            OSError: if it can't be asked.
            ValueError: if what it says can't be understood.
        """
        ...


class VllmMetrics:
    """The page ``/metrics`` of vLLM 0.6 or later; all models and engines of the server together.

    Args:
        url: its address.
    """

    _NAMES = ("vllm:num_requests_running", "vllm:prompt_tokens_total", "vllm:generation_tokens_total")
    _LINE = re.compile(r"^([a-z_:]+)(?:\{[^}]*\})?\s+([0-9.eE+-]+)\s*$", re.MULTILINE)

    def __init__(self, url: str) -> None:
        self._url = url

    def read(self) -> Batch:
        """See ``BatchMetrics``."""
        from urllib.request import Request, urlopen

        # The address comes from the operator's file, never from a client; see ``docs/design/security.md``.
        with urlopen(Request(self._url), timeout=_TIMEOUT_S) as response:
            text = response.read(_LONGEST_PAGE).decode("utf-8", "replace")
        return self.parse(text)

    @classmethod
    def parse(cls, text: str) -> Batch:
        """Read the exposition format.

        Raises:
            ValueError: if a metric isn't there.
        """
        sums: dict[str, float] = {}
        for name, value in cls._LINE.findall(text):
            if name in cls._NAMES:
                sums[name] = sums.get(name, 0.0) + float(value)
        missing = [name for name in cls._NAMES if name not in sums]
        if missing:
            raise ValueError(f"the metric {missing[0]} isn't there")
        return Batch(*(sums[name] for name in cls._NAMES))


class Sample(NamedTuple):
    """Instrument and batch at one moment.

    Attributes:
        at_s: when, on the monotonic clock [s].
        energy_j: energy since an arbitrary start [J].
        low_j: its lower bound [J].
        high_j: its upper bound [J].
        grade: of the instrument's reading.
        batch: how the batch was made up.
        fault: why the interval that ends here can't be used; empty if it can.
    """

    at_s: float
    energy_j: float = 0.0
    low_j: float = 0.0
    high_j: float = 0.0
    grade: str = "A"
    batch: Batch = Batch(0.0, 0.0, 0.0)
    fault: str = ""


class Colocated:
    """Meters the calls of one server on this machine.

    Args:
        name: what the server is called, for parts.
        probe: the instrument that reads its accelerators; closed with this.
        domains: which of its domains are the server's, such as ``gpu 0``.
        metrics: how its batch is made up.
        here: this machine and its place.
        period_s: time between two samples [s].
        clock: monotonic [s].
    """

    def __init__(
        self,
        name: str,
        probe: Probe,
        domains: Collection[str],
        metrics: BatchMetrics,
        here: Here,
        *,
        period_s: float = PERIOD_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.gaps = 0
        self._name = name
        self._probe = probe
        self._domains = frozenset(domains)
        self._metrics = metrics
        self._here = here
        self._period_s = period_s
        self._clock = clock
        self._samples: deque[Sample] = deque(maxlen=_REMEMBERED)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to sample."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="negajoule-colocated", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop and let the instrument go."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        self._probe.close()

    def sample(self) -> None:
        """Look at instrument and batch now."""
        at_s = self._clock()
        readings = [reading for reading in self._probe.read() if reading.domain in self._domains]
        try:
            batch = self._metrics.read()
        except (OSError, ValueError) as error:
            self._samples.append(Sample(at_s, fault=f"the server's metrics can't be read: {error}"))
            return
        self._samples.append(_sample(at_s, readings, len(self._domains), batch))

    def cost(self, begun_s: float, tokens: Tokens, estimate: Footprint | None) -> Footprint | None:
        """A call's footprint: metered if it can be, else the estimate with the gap in its notes.

        Args:
            begun_s: when it was sent, on the monotonic clock [s]; it has ended now.
            tokens: what was counted.
            estimate: what it likely took, for what isn't metered.
        """
        found = self.share(begun_s, self._clock(), tokens)
        if isinstance(found, str):
            self.gaps += 1
            if estimate is None:
                return None
            note = f"not metered, so estimated: {found}"
            return msgspec.structs.replace(estimate, notes=(note, *estimate.notes))
        note = "the accelerators' energy was read and split by the server's batch; its host isn't in it"
        cost = self._here.cost((found,), 0.0, notes=(note,))
        return msgspec.structs.replace(
            cost,
            embodied=None if estimate is None else estimate.embodied,
            abiotic_depletion=None if estimate is None else estimate.abiotic_depletion,
        )

    def share(self, begun_s: float, ended_s: float, tokens: Tokens) -> Part | str:
        """A call's share of the joules, or why it can't be told.

        Args:
            begun_s: when it was sent [s].
            ended_s: when it ended [s].
            tokens: what was counted.
        """
        span = self._span(begun_s, ended_s)
        if isinstance(span, str):
            return span
        present = _by_presence(span, begun_s, ended_s)
        first, last = span[0], span[-1]
        splits = [present]
        if tokens.prompt is not None and tokens.output is not None:
            own = tokens.prompt - (tokens.cached or 0) + tokens.output
            all_tokens = (last.batch.prompt_tokens - first.batch.prompt_tokens) + (
                last.batch.generated_tokens - first.batch.generated_tokens
            )
            if all_tokens > 0:
                part = own / max(all_tokens, own)
                splits.insert(
                    0,
                    (
                        (last.energy_j - first.energy_j) * part,
                        max(0.0, last.low_j - first.high_j) * part,
                        (last.high_j - first.low_j) * part,
                    ),
                )
        value = splits[0][0]
        low = min(value, *(split[1] for split in splits))
        high = max(value, *(split[2] for split in splits))
        grade = max(sample.grade for sample in span)
        source = f"{self._probe.name} {', '.join(sorted(self._domains))}, split by batch"
        return Part(f"{self._name} accelerators", Energy(value, low, high, "inferred", "node"), source, grade)

    def _span(self, begun_s: float, ended_s: float) -> list[Sample] | str:
        """The samples from the last before the begin to the first after the end, or the latest."""
        samples = list(self._samples)
        after = next((n for n, sample in enumerate(samples) if sample.at_s > begun_s), len(samples))
        if after == 0:
            return "it began before the first sample" if samples else "nothing was sampled yet"
        until = next((n for n, sample in enumerate(samples) if sample.at_s >= ended_s), len(samples) - 1)
        span = samples[after - 1 : max(until, after) + 1]
        if len(span) < 2:
            return "it was over before the next sample"
        if ended_s - span[-1].at_s > self._period_s + _LATE_S:
            return "no sample came in time"
        fault = next((sample.fault for sample in span if sample.fault), "")
        return fault or _fell(span) or span

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.sample()
            self._stopping.wait(self._period_s)


def domains_of(metered_by: str, probes: Sequence[Probe]) -> tuple[Probe, list[str]]:
    """The instrument and its domains that ``nvml:0,1`` names.

    Args:
        metered_by: the instrument's name and its devices.
        probes: those that can be read here.

    Raises:
        ConfigError: (C101) if there is no such instrument or device.
    """
    name, _, devices = metered_by.partition(":")
    for probe in probes:
        if probe.name != name:
            continue
        known = {reading.domain for reading in probe.read()}
        found = [
            next((domain for domain in (device, f"gpu {device}") if domain in known), "")
            for device in devices.split(",")
        ]
        if all(found):
            return probe, found
        there = ", ".join(sorted(known)) or "nothing"
        raise ConfigError(f"metered_by = {metered_by!r}: {name} here has {there}")
    raise ConfigError(
        f"metered_by = {metered_by!r}: there is no such instrument here",
        fix="see negajoule doctor for those that are"
        if probes
        else "see negajoule doctor for what is missing",
    )


def meter_for(plan: UpstreamPlan, here: Here, probes: Sequence[Probe]) -> Colocated:
    """The meter of a server whose table says ``metered_by``, begun.

    Args:
        plan: the server's.
        here: this machine and its place.
        probes: instruments that can be read here; all but the one that is used are closed.

    Raises:
        ConfigError: (C101) if there is no such instrument or device.
    """
    assert plan.metered_by is not None, "only servers that name an instrument are metered"
    try:
        probe, domains = domains_of(plan.metered_by, probes)
    except ConfigError:
        for other in probes:
            other.close()
        raise
    for other in probes:
        if other is not probe:
            other.close()
    url = plan.batch_metrics or f"{plan.base.rpartition('/')[0]}/metrics"
    meter = Colocated(plan.name, probe, domains, VllmMetrics(url), here)
    meter.start()
    return meter


def _sample(at_s: float, readings: Sequence[Reading], wanted: int, batch: Batch) -> Sample:
    energies = [reading.energy_j for reading in readings if reading.energy_j is not None]
    gap = next((reading.gap for reading in readings if reading.gap is not None), None)
    fault = ""
    if len(energies) < wanted:
        fault = "the instrument gives no energy"
    elif gap is not None:
        fault = f"{gap.kind} of {gap.domain}: {gap.detail}"

    def total(bounds: Sequence[float | None]) -> float:
        return sum(
            energy if bound is None else bound for energy, bound in zip(energies, bounds, strict=False)
        )

    known = [reading for reading in readings if reading.energy_j is not None]
    return Sample(
        at_s,
        sum(energies),
        total([reading.low_j for reading in known]),
        total([reading.high_j for reading in known]),
        max((reading.grade for reading in known), default="E"),
        batch,
        fault,
    )


def _by_presence(span: Sequence[Sample], begun_s: float, ended_s: float) -> tuple[float, float, float]:
    """Value, low and high of the joules of its time, each interval's split over those who ran in it [J]."""
    value = low = high = 0.0
    for place in range(1, len(span)):
        before, after = span[place - 1], span[place]
        length_s = after.at_s - before.at_s
        # Beyond the latest sample the last interval goes on as it was.
        end_s = ended_s if place == len(span) - 1 else min(after.at_s, ended_s)
        there_s = max(0.0, end_s - max(before.at_s, begun_s))
        if length_s <= 0.0:
            continue
        others = max(1.0, (before.batch.running + after.batch.running) / 2)
        part = there_s / length_s / others
        value += (after.energy_j - before.energy_j) * part
        low += max(0.0, (after.low_j - before.low_j)) * part
        high += max(after.energy_j - before.energy_j, after.high_j - before.high_j) * part
    return value, min(low, value), max(high, value)


def _fell(span: Sequence[Sample]) -> str:
    """Why a span can't be used: the server's counters began again; empty if they didn't."""
    for before, after in pairwise(span):
        if (
            after.batch.prompt_tokens < before.batch.prompt_tokens
            or after.batch.generated_tokens < before.batch.generated_tokens
        ):
            return "the server was started anew"
    return ""
