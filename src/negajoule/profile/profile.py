"""The profile: what one model took on one machine, in a file that other rooms read.

The file holds the samples themselves; laws and intervals are worked out from them when asked for, so a better
law needs no new measurement.
"""

from __future__ import annotations

import re
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import msgspec

from negajoule.errors import ConfigError
from negajoule.profile.cell import Sample
from negajoule.profile.law import CostTable, Reach, cost_of
from negajoule.units import Basis, Energy

if TYPE_CHECKING:
    from negajoule.physics.serving import StepTable
    from negajoule.profile.law import Cost, CostLaw

__all__ = ["SCHEMA", "Ceilings", "EngineFacts", "Machine", "Profile", "WeightsFacts", "load_profile"]

SCHEMA = "negajoule.profile/1"


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where it ran.

    Attributes:
        host_id: hash of the machine's id.
        cpu: its processor.
        threads: hardware threads.
        memory_bytes: memory [B].
        virtual: whether it is a virtual machine; ``None`` if that can't be told.
        devices: other devices whose counters were read.
    """

    host_id: str
    cpu: str
    threads: int
    memory_bytes: int
    virtual: bool | None
    devices: tuple[str, ...] = ()


class EngineFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What ran it.

    Attributes:
        name: kind of engine.
        version: of the engine; empty if it doesn't tell.
        slots: requests that it works on at once.
        threads: threads at work; ``None`` if unknown.
        context_tokens: longest prompt and answer together [tokens].
        step_tokens: prompt tokens that it computes in a step.
        where: ``here`` in this process, else the endpoint's address.
    """

    name: str
    version: str
    slots: int
    threads: int | None
    context_tokens: int
    step_tokens: int
    where: str


class WeightsFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One of the model's files.

    Attributes:
        format: number format.
        sha256: of the file; empty if it can't be read from here.
        size_bytes: of the file; ``None`` if unknown [B].
        parameters: number of weights; ``None`` if unknown.
        kv_bytes_per_token: kept for a token of context; ``None`` if unknown [B].
    """

    format: str
    sha256: str
    size_bytes: int | None
    parameters: int | None
    kv_bytes_per_token: int | None


class Ceilings(msgspec.Struct, frozen=True, kw_only=True):
    """The roof over the measured points.

    Attributes:
        flop_per_s: the most arithmetic [1/s].
        bytes_per_s: the most reading [B/s].
        source: how it was found.
    """

    flop_per_s: float
    bytes_per_s: float
    source: str


class Profile(msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag=SCHEMA):
    """Phases of one model on one machine, by batch, lengths and format.

    Attributes:
        model: its name.
        created: UTC, ISO 8601.
        negajoule: version that wrote it.
        machine: where it ran.
        engine: what ran it.
        weights: its formats.
        energy_basis: how joules came about; ``None`` if there are none.
        energy_source: counters or coefficients behind them.
        idle_w: power of the engine between requests, value, low, high; ``None`` if unknown [W].
        quiet: whether the machine was free when it began.
        ceilings: of the machine; ``None`` if they weren't measured.
        samples: every repeat of every cell.
        notes: what a reader must know.
    """

    model: str
    created: str
    negajoule: str
    machine: Machine
    engine: EngineFacts
    weights: tuple[WeightsFacts, ...]
    energy_basis: Basis | None
    energy_source: str
    idle_w: tuple[float, float, float] | None
    quiet: bool
    ceilings: Ceilings | None
    samples: tuple[Sample, ...]
    notes: tuple[str, ...] = ()

    @property
    def formats(self) -> tuple[str, ...]:
        """Formats with samples, in the order of ``weights``."""
        return tuple(weights.format for weights in self.weights if self.of_format(weights.format))

    def of_format(self, format_: str) -> tuple[Sample, ...]:
        """The samples of one format."""
        return tuple(sample for sample in self.samples if sample.cell.format == format_)

    def reach(self) -> Reach:
        """What was measured."""
        return Reach.of(self.samples)

    def cheapest_known(self) -> Cost:
        """Energy if every sample has it, else CPU time likewise, else time."""
        order: tuple[Cost, ...] = ("energy", "cpu")
        for cost in order:
            phases = [phase for one in self.samples for phase in (one.prefill, one.decode)]
            if all(cost_of(phase, cost) is not None for phase in phases):
                return cost
        return "time"

    def law(self, format_: str, cost: Cost) -> CostLaw | None:
        """The fitted law of a format; ``None`` if that cost wasn't measured.

        Raises:
            ConfigError: (C101) if the format isn't in the profile.
        """
        table = self.table(format_, cost)
        return None if table is None else table.fit()

    def table(self, format_: str, cost: Cost) -> CostTable | None:
        """A format's samples, ready to be fitted; ``None`` if that cost wasn't measured.

        Raises:
            ConfigError: (C101) if the format isn't in the profile.
        """
        samples = self.of_format(format_)
        if not samples:
            raise ConfigError(
                f"the format {format_!r} isn't in the profile of {self.model}",
                fix=f"use one of {', '.join(self.formats)}",
            )
        return CostTable.of(samples, cost, self.engine.step_tokens)

    def energy(self, format_: str, batch: float, tokens_in: float, tokens_out: float) -> Energy:
        """Energy of one of ``batch`` like requests, the idle share of its steps included.

        Args:
            format_: number format of the weights.
            batch: requests at once.
            tokens_in: length of the prompt [tokens].
            tokens_out: length of the answer [tokens].

        Raises:
            ConfigError: (C101) for an unknown format, (C113) beyond twice the measured ranges, (C107) if the
                profile holds no energy.
        """
        self.reach().beyond(batch, tokens_in, tokens_out)
        law = self.energy_law(format_)
        value = law.request(batch, tokens_in, tokens_out)
        low, high = self.energy_span(format_, law.error(batch, tokens_in, tokens_out))
        basis = self.energy_basis
        assert basis is not None, "an energy law needs energies"
        return Energy(value, value * low, value * high, basis, "node")

    def step_table(self, format_: str | None = None) -> StepTable:
        """What a step costs, for a simulation: times measured, energies by their own basis.

        No state of sleep is measured, so the table's sleeps like it idles.

        Args:
            format_: number format; may be left out if there is one.

        Raises:
            ConfigError: (C101) for an unknown format, (C107) if the profile holds no energy or idle power.
        """
        from negajoule.profile.step_table import step_table_of

        return step_table_of(self, format_)

    def save(self, path: Path) -> None:
        """Write the file; the old one stays until the new one is whole.

        Raises:
            ConfigError: (C106) if it can't be written.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path.with_name(path.name + ".new")
            fresh.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")
            fresh.replace(path)
        except OSError as error:
            raise ConfigError(
                f"can't write {path}: {error.strerror}", code="C106", fix="give another file with --out"
            ) from None

    def energy_law(self, format_: str) -> CostLaw:
        """The fitted law of energy.

        Raises:
            ConfigError: (C101) for an unknown format, (C107) if the profile holds no energy.
        """
        law = self.law(format_, "energy")
        if law is None or self.energy_basis is None:
            raise ConfigError(
                f"the profile of {self.model} holds no energy",
                code="C107",
                tried=self.energy_source,
                fix="profile where the engine runs; `negajoule doctor` says what can be read there",
            )
        return law

    def energy_span(self, format_: str, error: float) -> tuple[float, float]:
        """Low and high as factors: of the joules themselves, and of what the law leaves at 90 %."""
        spans = [
            (phase.energy_j[1] / phase.energy_j[0], phase.energy_j[2] / phase.energy_j[0])
            for sample in self.of_format(format_)
            for phase in (sample.prefill, sample.decode)
            if phase.energy_j is not None and phase.energy_j[0] > 0
        ]
        left = 1.645 * error
        down = ((1 - median(low for low, _ in spans)) ** 2 + left**2) ** 0.5 if spans else 1.0
        up = ((median(high for _, high in spans) - 1) ** 2 + left**2) ** 0.5 if spans else 1.0
        return max(1 - down, 0.0), 1 + up


def load_profile(path: Path | str) -> Profile:
    """Read a profile.

    Raises:
        ConfigError: (C106) if it is absent, malformed, or of another version of the form.
    """
    file = Path(path)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"can't read the profile {file}: {error.strerror}",
            code="C106",
            fix="negajoule profile MODEL --out FILE",
        ) from None
    try:
        found = msgspec.json.decode(data, type=Profile)
    except msgspec.DecodeError as error:
        raise _unreadable(file, data, error) from None
    if not found.samples:
        raise ConfigError(f"the profile {file} holds no samples", code="C106", fix="make it again")
    return found


def _unreadable(file: Path, data: bytes, error: Exception) -> ConfigError:
    named = re.search(rb'"schema"\s*:\s*"([^"]{1,60})"', data[:4096])
    schema = named.group(1).decode("utf-8", "replace") if named else ""
    if schema.startswith("negajoule.profile/") and schema != SCHEMA:
        return ConfigError(
            f"{file} is a profile of form {schema.rpartition('/')[2]}; this version reads form "
            f"{SCHEMA.rpartition('/')[2]} only",
            code="C106",
            fix="make it again with `negajoule profile`, or read it with the version that wrote it",
        )
    return ConfigError(
        f"{file} isn't a profile: {error}", code="C106", fix="make it with `negajoule profile`"
    )
