"""From raw counter values or power samples to energy that never falls, with bounds and gaps.

Both tracks work in stretches, from one reading to the next. A stretch adds ``low <= value <= high`` to three
running sums. A good stretch adds what the counter says, plus and minus the instrument's accuracy. A bad one
(no reading, a reset, an impossible jump) is bridged with the mean power so far, between nothing and the
ceiling that the hardware allows, and is reported as a gap: never a silent zero, never a spike.
"""

from __future__ import annotations

from math import isfinite

from negajoule.meter.probe import Gap

__all__ = ["CounterTrack", "PowerTrack", "Stretch"]

NOTHING = (0.0, 0.0, 0.0)

UPDATE_SLACK_S = 1.0
"""Counters move in steps (RAPL 1 ms, GPUs 20 to 100 ms, chassis 1 s): a short stretch may hold one more."""
STANDSTILL_S = 2.0
"""Nothing powered stands still this long; a counter that does is dead (virtual machines show such)."""


Stretch = tuple[float, float, float]
"""Value, low and high of what a stretch added [J]."""


class _Track:
    """The running sums and the bridging that both kinds share.

    Attributes:
        energy_j: best estimate so far [J].
        low_j: lower bound [J].
        high_j: upper bound [J].
        grade: of the last stretch: A counter, B sampled power, E bridged.
        gap: what was wrong with the last stretch, if anything was.
        added: what the last stretch added.
    """

    own_grade = "A"

    def __init__(self, domain: str, ceiling_w: float, accuracy: float) -> None:
        self.domain = domain
        self.ceiling_w = ceiling_w
        self.accuracy = accuracy
        self.energy_j = 0.0
        self.low_j = 0.0
        self.high_j = 0.0
        self.grade = self.own_grade
        self.added = NOTHING
        self.gap: Gap | None = None
        self._good_j = 0.0
        self._good_s = 0.0
        self._time_s: float | None = None

    @property
    def mean_w(self) -> float:
        """Mean power of the good stretches; half the ceiling before there was one [W]."""
        return self._good_j / self._good_s if self._good_s > 0 else self.ceiling_w / 2

    @property
    def bridging(self) -> bool:
        """Whether the last stretch isn't what the instrument itself said."""
        return self.grade != self.own_grade

    def _add(self, value_j: float, low_j: float, high_j: float) -> None:
        self.added = (value_j, low_j, high_j)
        self.energy_j += value_j
        self.low_j += low_j
        self.high_j += high_j

    def _elapse(self, time_s: float) -> float:
        """Seconds since the last call; 0 at the first one and when the clock went back."""
        before, self._time_s = self._time_s, time_s
        self.gap = None
        self.grade = self.own_grade
        self.added = NOTHING
        if before is None:
            return 0.0
        if time_s < before:
            self.gap = Gap(
                "clock", self.domain, time_s, time_s, "the clock went back; the stretch is dropped"
            )
            return 0.0
        return time_s - before

    def _bridge(
        self, kind: str, detail: str, seconds: float, at_least_j: float = 0.0, instead: Stretch | None = None
    ) -> None:
        """Fill a stretch with the mean power, at least what is proven, at most the ceiling."""
        if self._time_s is None:
            return
        if instead is not None:
            value_j, low_j, high_j = (max(joules, at_least_j) for joules in instead)
            self.grade = "B"
        else:
            low_j, high_j = at_least_j, max(self.ceiling_w * seconds, at_least_j)
            value_j = min(max(self.mean_w * seconds, at_least_j), high_j)
            self.grade = "E"
        self._add(value_j, low_j, high_j)
        self.gap = Gap(kind, self.domain, self._time_s - seconds, self._time_s, detail)


class CounterTrack(_Track):
    """Follow a cumulative energy counter through wraps, resets, jumps and failed reads.

    Args:
        domain: name for gaps.
        ceiling_w: more than this the hardware can't draw [W].
        wrap_j: the counter starts again at 0 after this; ``None`` if it never does [J].
        accuracy: relative error of the counter [1].
    """

    def __init__(
        self, domain: str, *, ceiling_w: float, wrap_j: float | None = None, accuracy: float = 0.0
    ) -> None:
        super().__init__(domain, ceiling_w, accuracy)
        self._wrap_j = wrap_j
        self._raw_j: float | None = None
        self._raw_time_s = 0.0
        self._owed_j = 0.0
        self._still_s = 0.0

    def advance(self, raw_j: float | None, time_s: float, instead: Stretch | None = None) -> None:
        """Take the counter's value, or ``None`` when the read failed.

        A failed read is bridged. The counter usually runs on meanwhile: when it is back, what was bridged is
        taken off what it says, so that the sum ends at the truth (or above it by the bridge's excess, which
        is then worked off before anything is added).

        Args:
            raw_j: the counter [J].
            time_s: when it was read [s].
            instead: what another sensor says of this stretch; fills it if the counter can't.
        """
        seconds = self._elapse(time_s)
        if raw_j is None or not isfinite(raw_j) or raw_j < 0:
            before_j = self.energy_j
            detail = "the counter couldn't be read; bridged with the mean power"
            self._bridge("failed read", detail, seconds, instead=instead)
            self._owed_j += self.energy_j - before_j
            return
        last_j, last_time_s = self._raw_j, self._raw_time_s
        self._raw_j, self._raw_time_s = raw_j, time_s
        if last_j is None:
            return
        span_s = max(time_s - last_time_s, 0.0)
        possible_j = self.ceiling_w * (span_s + UPDATE_SLACK_S)
        delta_j = raw_j - last_j
        if delta_j < 0 and self._wrap_j is not None:
            delta_j += self._wrap_j
            if not 0 <= delta_j <= possible_j:
                delta_j = -1.0
        if delta_j < 0:
            proven_j = raw_j if raw_j <= possible_j else 0.0
            detail = "the counter went back; bridged with the mean power"
            self._bridge("reset", detail, seconds, proven_j, instead)
            self._owed_j = 0.0
        elif delta_j > possible_j:
            detail = f"{delta_j:.0f} J in {span_s:.3f} s is impossible; bridged"
            self._bridge("jump", detail, seconds, instead=instead)
            self._owed_j = 0.0
        else:
            self._still_s = self._still_s + span_s if delta_j == 0 else 0.0
            if self._still_s >= STANDSTILL_S:
                self._add(*(instead or (0.0, 0.0, self.ceiling_w * span_s)))
                self.grade = "B" if instead else "E"
                self.gap = Gap("standstill", self.domain, time_s - span_s, time_s, "the counter doesn't move")
            else:
                self._settle(delta_j, span_s, possible_j)

    def _settle(self, delta_j: float, span_s: float, possible_j: float) -> None:
        """Add a good stretch, less what was bridged for it already."""
        self._good_j += delta_j
        self._good_s += span_s
        new_j = max(delta_j - self._owed_j, 0.0)
        self._owed_j = max(self._owed_j - delta_j, 0.0)
        wraps = int((possible_j - delta_j) // self._wrap_j) if self._wrap_j else 0
        missed_j = wraps * self._wrap_j if wraps and self._wrap_j and span_s > 0 else 0.0
        self._add(new_j, new_j * (1 - self.accuracy), new_j * (1 + self.accuracy) + missed_j)
        if missed_j and self._time_s is not None:
            self.gap = Gap(
                "several wraps",
                self.domain,
                self._time_s - span_s,
                self._time_s,
                f"not read for {span_s:.0f} s; the counter may have wrapped {wraps} more times",
            )


class PowerTrack(_Track):
    """Integrate power samples by the trapezoid rule, between the rectangles of both ends.

    Args:
        domain: name for gaps.
        ceiling_w: more than this the hardware can't draw [W].
        accuracy: relative error of the sensor [1].
        period_s: samples further apart than three of these leave an unsampled stretch [s].
    """

    own_grade = "B"

    def __init__(
        self, domain: str, *, ceiling_w: float, accuracy: float = 0.0, period_s: float = 1.0
    ) -> None:
        super().__init__(domain, ceiling_w, accuracy)
        self._period_s = period_s
        self._power_w: float | None = None

    def advance(self, power_w: float | None, time_s: float) -> None:
        """Take a sample, or ``None`` when the read failed; NaN, negative and impossible watts count so."""
        first = self._time_s is None
        seconds = self._elapse(time_s)
        if power_w is None or not isfinite(power_w) or not 0 <= power_w <= self.ceiling_w:
            kind = "failed read" if power_w is None else "bad value"
            self._power_w = None
            self._bridge(kind, f"no usable power ({power_w} W); bridged with the mean power", seconds)
            return
        last_w, self._power_w = self._power_w, power_w
        if first or seconds == 0:
            return
        if last_w is None or seconds > 3 * self._period_s:
            self._bridge("unsampled", f"no sample for {seconds:.1f} s; bridged with the mean power", seconds)
            return
        value_j = (last_w + power_w) / 2 * seconds
        self._good_j += value_j
        self._good_s += seconds
        self._add(
            value_j,
            min(last_w, power_w) * seconds * (1 - self.accuracy),
            max(last_w, power_w) * seconds * (1 + self.accuracy),
        )
