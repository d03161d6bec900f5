"""What to measure, in which order, and the measuring itself.

Every round measures every cell once, in an order drawn anew; the formats of a cell follow each other at once,
so that a slow minute of the machine meets all of them. Each engine is warmed up before the first round.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime
from itertools import product
from typing import TYPE_CHECKING

import msgspec

from negajoule._version import __version__
from negajoule.errors import ConfigError
from negajoule.profile.cell import Cell, Sample
from negajoule.profile.measure import measure_cell
from negajoule.profile.profile import Profile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from negajoule.profile.profile import Ceilings
    from negajoule.profile.target import Target

__all__ = ["Sweep", "run_sweep"]

_MOST_AT_ONCE = 1024
_MOST_CELLS = 10_000
_WARM_UP_TOKENS = 8


class Sweep(msgspec.Struct, frozen=True, kw_only=True):
    """A grid of cells and how often to measure it.

    Attributes:
        batches: requests at once.
        prompts: lengths of prompts [tokens].
        outputs: lengths of answers [tokens].
        repeats: rounds; two or more give intervals.
        seed: of the order and of the prompts.
    """

    batches: tuple[int, ...] = (1, 2, 4, 8)
    prompts: tuple[int, ...] = (64, 256)
    outputs: tuple[int, ...] = (32,)
    repeats: int = 5
    seed: int = 1

    def __post_init__(self) -> None:
        """Refuse what can't be measured.

        Raises:
            ConfigError: (C101) naming the number.
        """
        for name, values, most in (
            ("batch", self.batches, _MOST_AT_ONCE),
            ("prompt", self.prompts, 10_000_000),
            ("output", self.outputs, 10_000_000),
            ("repeats", (self.repeats,), 1000),
        ):
            if not values:
                raise ConfigError(f"--{name} is empty", fix="give at least one number")
            for value in values:
                if not 1 <= value <= most:
                    raise ConfigError(f"--{name} {value} can't be measured", fix=f"1 to {most}")
        if min(self.outputs) < 2:
            raise ConfigError("--output 1 leaves no decode to measure", fix="2 or more; 32 is usual")

    @property
    def context_tokens(self) -> int:
        """The longest prompt and answer together, with the token that ends prefill [tokens]."""
        return max(self.prompts) + max(self.outputs) + 1

    def cells(self, formats: tuple[str, ...]) -> int:
        """How many measurements all rounds make."""
        grid = len(set(self.batches)) * len(set(self.prompts)) * len(set(self.outputs))
        count = self.repeats * len(formats) * grid
        if count > _MOST_CELLS:
            raise ConfigError(f"{count} measurements are too many", fix=f"at most {_MOST_CELLS}")
        return count

    def round(self, formats: tuple[str, ...], number: int) -> Iterator[Cell]:
        """The cells of a round in their order."""
        generator = random.Random(self.seed * 1000 + number)
        shapes = sorted(set(product(self.batches, self.prompts, self.outputs)))
        generator.shuffle(shapes)
        for shape in shapes:
            for format_ in generator.sample(formats, len(formats)):
                yield Cell(format_, *shape)


def run_sweep(
    target: Target,
    sweep: Sweep,
    *,
    quiet: bool = True,
    ceilings: Ceilings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Profile:
    """Measure a target.

    Args:
        target: what to measure, with at least the sweep's largest batch of slots.
        sweep: what to measure of it.
        quiet: whether the machine was free before; kept in the profile.
        ceilings: of the machine, for the roofline.
        progress: told the measurements done and their number.

    Raises:
        ConfigError: (C101) if a batch or length is more than the engine takes.
        EngineError: what the engine raised.
    """
    for engine in target.engines.values():
        if max(sweep.batches) > engine.slots:
            raise ConfigError(
                f"--batch {max(sweep.batches)} is more than the engine works on at once ({engine.slots})"
            )
        holds = engine.models[0].context_tokens
        if sweep.context_tokens > holds:
            raise ConfigError(
                f"a prompt of {max(sweep.prompts)} and an answer of {max(sweep.outputs)} tokens don't fit "
                f"the context of {holds}",
                fix="shorten --prompt or --output",
            )
    formats = tuple(target.engines)
    total = sweep.cells(formats)
    seed = sweep.seed * 1_000_003
    for format_, engine in target.engines.items():
        warm_up = Cell(format_, max(sweep.batches), _WARM_UP_TOKENS, _WARM_UP_TOKENS)
        if warm_up.prompt_tokens + warm_up.output_tokens < engine.models[0].context_tokens:
            measure_cell(engine, warm_up, target.prompts, target.gauge, repeat=-1, seed=seed)
            seed += 1
    idle = target.idle_window()
    samples: list[Sample] = []
    for number in range(sweep.repeats):
        for cell in sweep.round(formats, number):
            if progress is not None:
                progress(len(samples), total)
            samples.append(
                measure_cell(
                    target.engines[cell.format], cell, target.prompts, target.gauge, repeat=number, seed=seed
                )
            )
            seed += 1
    if progress is not None:
        progress(total, total)
    watts = None
    energy = None if idle is None else target.gauge.energy(idle)
    if idle is not None and energy is not None:
        watts = (energy.value / idle.seconds, energy.low / idle.seconds, energy.high / idle.seconds)
    return Profile(
        model=target.model,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        negajoule=__version__,
        machine=target.machine,
        engine=target.facts,
        weights=target.weights,
        energy_basis=None if energy is None else energy.basis,
        energy_source=(
            "the engine runs elsewhere, where nothing can be read"
            if idle is None
            else ", ".join(dict.fromkeys(part.source for part in idle.parts))
        ),
        idle_w=watts,
        quiet=quiet,
        ceilings=ceilings,
        samples=tuple(samples),
        notes=(*target.notes, *(() if idle is None else idle.notes)),
    )
