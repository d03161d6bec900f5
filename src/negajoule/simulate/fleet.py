"""What serves: replicas of a deployment, how they batch, who is routed where, what is limited."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from negajoule.errors import ConfigError
from negajoule.physics.serving import StepTable
from negajoule.simulate.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Batching", "Fleet", "Routing", "Service", "capped"]


class Batching(StrEnum):
    """How a replica forms its steps; see ``negajoule.simulate.admission``."""

    CHUNKED = "chunked"
    PREFILL_FIRST = "prefill-first"
    ORCA = "orca"
    STATIC = "static"


class Routing(StrEnum):
    """Which replica takes a request; see ``negajoule.simulate.routing``."""

    ROUND_ROBIN = "round-robin"
    LEAST_LOADED = "least-loaded"
    FEWEST = "fewest"


class Fleet(msgspec.Struct, frozen=True, kw_only=True):
    """Replicas, all alike, and how they work.

    Attributes:
        table: costs of a replica's steps.
        replicas: how many serve; with ``prefill_replicas``, how many decode.
        batching: how steps are formed.
        max_batch: most sequences in a step; None takes the table's limit.
        step_tokens: most prompt and answer tokens in a step (chunked), or prompt tokens (prefill first).
        context_tokens: longest prompt and answer together; None if only the KV cache limits them.
        keep_free: share of the KV cache that admission leaves free, so that running sequences can grow.
        prefix_cache: whether prompts' kept tokens needn't be computed. The cache is taken to hold all,
        everywhere.
        most_open: requests held, queued or running at which further ones are refused; None for no limit.
        routing: which replica takes a request.
        fill: requests on a replica before the next one is used (fewest).
        sleep_after_s: idle time after which a replica sleeps [s]; infinite for never.
        power_cap_w: power that no step may exceed [W]; steps are stretched to keep it. None for no cap.
        slower: tables at lower clocks, fastest first; used for decoding while a step stays within
            ``inter_token_limit_s``.
        inter_token_limit_s: longest step for which a lower clock is taken [s].
        prefill_replicas: replicas that only compute prompts and hand them over; 0 for none.
        prefill_table: their costs; None if they are like the others.
        transfer_token_s: time to hand over the KV cache of a prompt token [s].
        transfer_token_j: energy of that [J].
        host_w: power of a replica's host beside what its table counts, all the time [W].
    """

    table: StepTable
    replicas: int = 1
    batching: Batching = Batching.CHUNKED
    max_batch: int | None = None
    step_tokens: int = 2048
    context_tokens: int | None = None
    keep_free: float = 0.01
    prefix_cache: bool = False
    most_open: int | None = None
    routing: Routing = Routing.LEAST_LOADED
    fill: int = 8
    sleep_after_s: float = math.inf
    power_cap_w: float | None = None
    slower: tuple[StepTable, ...] = ()
    inter_token_limit_s: float = 0.0
    prefill_replicas: int = 0
    prefill_table: StepTable | None = None
    transfer_token_s: float = 0.0
    transfer_token_j: float = 0.0
    host_w: float = 0.0

    def __post_init__(self) -> None:
        for wrong, what in self._impossible():
            if wrong:
                raise ConfigError(what)

    def _impossible(self) -> Iterator[tuple[bool, str]]:
        batch = self.batch
        yield self.replicas < 1, f"{self.replicas} replicas can't serve"
        yield self.prefill_replicas < 0, "prefill_replicas can't be negative"
        yield batch < 1, f"a batch of {batch} holds nobody"
        yield (
            batch > self.table.max_batch,
            f"max_batch is {batch}, but the table's costs end at {self.table.max_batch}",
        )
        yield (
            self.batching is Batching.CHUNKED and self.step_tokens <= batch,
            f"step_tokens is {self.step_tokens}: a full batch of {batch} leaves no room for prompts",
        )
        yield (
            any(not min(table.decode_s[1:]) > 0 for table in (self.table, *self.slower)),
            "a step of a table takes no time",
        )
        yield self.step_tokens < 1, "step_tokens must be at least 1"
        yield not 0 <= self.keep_free < 1, f"keep_free is {self.keep_free}, but it's a share"
        yield self.fill < 1, "fill must be at least 1"
        yield self.most_open is not None and self.most_open < 1, "most_open must be at least 1"
        yield not self.sleep_after_s >= 0, "sleep_after_s can't be negative"
        yield self.power_cap_w is not None and not self.power_cap_w > 0, "power_cap_w must be positive"
        yield (
            any(table.max_batch < batch for table in self.slower),
            "a table at a lower clock ends before max_batch",
        )
        yield (
            self.prefill_replicas > 0 and self.batching is not Batching.CHUNKED,
            "prefill replicas go with chunked batching only",
        )
        for name in ("transfer_token_s", "transfer_token_j", "host_w", "inter_token_limit_s"):
            yield not getattr(self, name) >= 0, f"{name} can't be negative"

    @property
    def batch(self) -> int:
        """Most sequences in a step."""
        return self.table.max_batch if self.max_batch is None else self.max_batch

    @property
    def kv_tokens(self) -> int:
        """Tokens of context that a replica holds."""
        tables = (self.table, self.prefill_table) if self.prefill_table is not None else (self.table,)
        return min(table.kv_tokens for table in tables)


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """What a class of requests is promised.

    Attributes:
        policy: when its held requests go; None lets them go at once.
        timeout_s: time after which its clients give up, whether waiting or half served [s].
    """

    policy: Policy | None = None
    timeout_s: float = math.inf

    def __post_init__(self) -> None:
        if not self.timeout_s > 0:
            raise ConfigError(f"a time-out of {self.timeout_s:g} s serves nobody")


def capped(table: StepTable, power_w: float) -> StepTable:
    """The table with every cost stretched so that no step draws more than a power.

    The energy of a step stays; a lower clock would save some of it, so this is the cautious side.

    Raises:
        ConfigError: (C101) if the replica draws more than that while idle.
    """
    if power_w < table.idle_w:
        raise ConfigError(
            f"a cap of {power_w:g} W is below the {table.idle_w:g} W of an idle replica",
            fix="raise the cap, or use fewer replicas",
        )

    def stretched(times_s: tuple[float, ...], energies_j: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(
            max(time_s, energy_j / power_w) for time_s, energy_j in zip(times_s, energies_j, strict=True)
        )

    prefill_s = stretched(
        (table.prefill_token_s, table.prefill_context_s, table.prefill_step_s),
        (table.prefill_token_j, table.prefill_context_j, table.prefill_step_j),
    )
    return msgspec.structs.replace(
        table,
        decode_s=stretched(table.decode_s, table.decode_j),
        decode_context_s=stretched(table.decode_context_s, table.decode_context_j),
        prefill_token_s=prefill_s[0],
        prefill_context_s=prefill_s[1],
        prefill_step_s=prefill_s[2],
    )
