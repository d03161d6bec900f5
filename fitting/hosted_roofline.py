"""The fit: the roofline of ``negajoule.physics.decoding`` on columns of runs, its priors, least squares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from fitting.damped_squares import least_robust_cost
from fitting.hosted_runs import TASKS

from negajoule.physics.accelerators import format_bytes, hardware_of
from negajoule.physics.decoding import Coefficients, Layout, Served, deploy, request_cost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from fitting.hosted_runs import Run
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

# Logarithm of the prior's middle and its standard deviation. The middles are physics or others' figures:
# prompts reach 0.2 to 0.67 of the data sheet's rate (splitwise, A100 and H100) at full rated power; weights
# are read at some 0.85 of the bandwidth. The prompts of the tasks weren't published: they're inferred.
PRIORS: dict[str, tuple[float, float]] = {
    "read_efficiency": (np.log(0.85), 0.05),
    "compute_efficiency": (np.log(0.5), 0.4),
    "prefill_efficiency": (np.log(0.45), 0.25),
    "expert_read": (np.log(1.5), 0.4),
    "expert_spread": (np.log(0.75), 0.15),
    "context_share": (0.0, 0.15),
    "step_s": (np.log(1e-3), 0.7),
    "layer_s": (np.log(8e-5), 0.7),
    "sequence_s": (np.log(2e-5), 1.0),
    "moe_s": (np.log(5e-4), 1.0),
    "hybrid_s": (np.log(2e-3), 1.0),
    "link_s": (np.log(1e-5), 0.7),
    "replica_wait": (0.0, 0.3),
    "base": (np.log(0.35), 0.3),
    "reading": (np.log(0.4), 0.4),
    "computing": (np.log(0.55), 0.3),
    "fp8 read": (0.0, 0.5),
    "mxfp4 read": (0.0, 0.5),
    "blackwell read": (0.0, 0.2),
    "blackwell power": (0.0, 0.2),
    "blackwell host": (0.0, 0.3),
    "ampere read": (0.0, 0.2),
    "ampere power": (0.0, 0.2),
    "ampere host": (0.0, 0.3),
    "old engine read": (0.0, 0.3),
    "old engine host": (np.log(2.0), 0.7),
    **{
        f"prompt {task}": (np.log(tokens), 0.6)
        for task, tokens in zip(TASKS, (100, 250, 1500, 3000, 1500, 200, 200, 1000), strict=True)
    },
}
NAMES = tuple(PRIORS)
MIDDLE = np.array([middle for middle, _ in PRIORS.values()])
SPREAD = np.array([spread for _, spread in PRIORS.values()])


class Design(NamedTuple):
    """Runs as columns: what a prediction needs, and what was measured."""

    layout: Layout
    batch: Floats
    accelerators: Floats
    replicas: Floats
    weight_bytes: Floats
    bandwidth: Floats
    compute: Floats
    power: Floats
    tokens_out: Floats
    switches: dict[str, Floats]
    tasks: Floats
    log_energy: Floats
    log_time: Floats
    weight: Floats


def design(runs: Sequence[Run], layouts: Sequence[Layout], old_weight: float = 0.3) -> Design:
    """Columns of the runs."""
    hardware = [hardware_of(run.accelerator) for run in runs]

    def column(values: Iterable[float]) -> Floats:
        return np.array(list(values), dtype=np.float64)

    def switch(test: Callable[[Run], bool]) -> Floats:
        return column(float(test(run)) for run in runs)

    fields = zip(*layouts, strict=True)
    return Design(
        layout=Layout(*(column(field) for field in fields)),  # type: ignore[arg-type]
        batch=column(run.batch for run in runs),
        accelerators=column(run.accelerators for run in runs),
        replicas=column(run.replicas for run in runs),
        weight_bytes=column(format_bytes(run.precision) for run in runs),
        bandwidth=column(part.bandwidth for part in hardware),
        compute=column(
            part.compute_8bit if run.precision == "fp8" else part.compute_16bit
            for run, part in zip(runs, hardware, strict=True)
        ),
        power=column(part.power for part in hardware),
        tokens_out=column(run.tokens_out for run in runs),
        switches={
            "fp8": switch(lambda run: run.precision == "fp8"),
            "mxfp4": switch(lambda run: run.precision == "mxfp4"),
            "blackwell": column(part.generation == "blackwell" for part in hardware),
            "ampere": column(part.generation == "ampere" for part in hardware),
            "old engine": switch(lambda run: run.old),
        },
        tasks=column([])
        if not runs
        else np.array([[run.task == task for task in TASKS] for run in runs], float),
        log_energy=np.log(column(run.energy_j for run in runs)),
        log_time=np.log(column(run.token_s for run in runs)),
        weight=column(old_weight if run.old else 1.0 for run in runs),
    )


def pick(columns: Design, chosen: NDArray[np.bool_]) -> Design:
    """Some of the rows."""
    return Design(
        Layout(*(field[chosen] for field in columns.layout)),  # type: ignore[index]
        *(
            {name: values[chosen] for name, values in part.items()}
            if isinstance(part, dict)
            else part[chosen]
            for part in columns[1:]
        ),
    )


def predict(theta: Floats, columns: Design) -> tuple[Floats, Floats]:
    """Logarithms of energy per request [J] and of time per token [s]."""
    value = dict(zip(NAMES, theta, strict=True))
    on = columns.switches

    def factor(what: str, *names: str) -> Floats:
        return np.exp(sum(value[f"{name} {what}"] * on[name] for name in names))

    served: Any = Served(
        layout=columns.layout,
        batch=columns.batch,  # type: ignore[arg-type]
        accelerators=columns.accelerators,  # type: ignore[arg-type]
        replicas=columns.replicas,  # type: ignore[arg-type]
        linked=(columns.accelerators > 1).astype(float),
        weight_bytes=columns.weight_bytes,  # type: ignore[arg-type]
        read_rate=columns.bandwidth * factor("read", "fp8", "mxfp4", "blackwell", "ampere", "old engine"),
        compute_rate=columns.compute,  # type: ignore[arg-type]
        power=columns.power,  # type: ignore[arg-type]
        power_factor=factor("power", "blackwell", "ampere"),
        host_factor=factor("host", "blackwell", "ampere", "old engine"),
    )
    prompt: Any = np.exp(columns.tasks @ np.array([value[f"prompt {task}"] for task in TASKS]))
    tokens_out: Any = columns.tokens_out
    cost = request_cost(deploy(served, coefficients_of(theta)), prompt, tokens_out)
    energy = cost.prefill_j + cost.decode_j
    time = cost.step_s + columns.batch * cost.prefill_s / tokens_out
    return np.log(energy), np.log(time)


def coefficients_of(theta: Floats) -> Coefficients:
    """The part of the parameters that's the same for every accelerator, format and task."""
    value = dict(zip(NAMES, np.exp(theta), strict=True))
    return Coefficients(**{name: float(value[name]) for name in Coefficients._fields})


class Choice(NamedTuple):
    """What is chosen inside each fold.

    Attributes:
        prior: strength of the priors against the data.
        time: weight of a run's time against its energy.
    """

    prior: float
    time: float


CHOICES = tuple(Choice(prior, time) for prior in (1.0, 4.0) for time in (0.1, 0.5))
NOISE = 0.15  # size of a residual that counts as ordinary, in logarithms; larger ones count linearly


def fit(columns: Design, choice: Choice) -> Floats:
    """Parameters (logarithms) at the least robust cost."""
    weights = np.sqrt(np.concatenate([columns.weight, columns.weight * choice.time])) / NOISE
    measured = np.concatenate([columns.log_energy, columns.log_time])
    precision = choice.prior / SPREAD**2

    def residuals(theta: Floats) -> Floats:
        return (np.concatenate(predict(theta, columns)) - measured) * weights

    return least_robust_cost(residuals, MIDDLE, precision)
