"""How the state of a simulation lies in memory: few flat columns, for a core that runs on arrays and lists.

Each table is one column of records; a field of a record is an offset. With numba the columns are arrays and
the core is compiled; without, they are lists and the same core is interpreted, to the same bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import MutableSequence

    import numpy as np
    from numpy.typing import NDArray

    Reals = MutableSequence[float] | NDArray[np.float64]
    Wholes = MutableSequence[int] | NDArray[np.signedinteger[Any]]

NONE = -1
INFINITE = float("inf")

# ``times``: a request's moments [s]
ARRIVAL, RELEASED, FIRST, END = range(4)
TIMES = 4

# ``facts``: a request's numbers. KEPT: prompt tokens that a prefix cache holds. MADE: tokens of the answer so
# far, not kept up to date while it decodes. NEXT: the request behind it in whatever queue it stands.
PROMPT, ANSWER, KEPT, KIND, MADE, NEXT, OUTCOME, PLACE = range(8)
FACTS = 8

# Outcomes; OPEN and CARRIED (its KV cache comes along from another replica) don't outlive a simulation.
OPEN, SERVED, REFUSED, TIMED_OUT, TOO_LONG, STARVED, CARRIED = range(7)

# ``slots``: places in a replica's batch. DUE: count of decode steps at which its answer is done; ORIGIN: its
# context less the count of decode steps. BEFORE, AFTER: neighbours in the order of joining. The last three
# are columns of their own that only share the record: a stack of free slots, a heap of slots by DUE, and each
# slot's place in that heap.
REQUEST, DUE, ORIGIN, BEFORE, AFTER, FREE, HEAP, RANK = range(8)
SLOTS = 8

# ``reals``: a replica's clocks [s], and the steps in flight: the first step's time and energy, and what each
# further step adds; energy of the prompt part; then sums.
CLOCK, IDLE_SINCE, START, STEP_S, SLOPE_S, STEP_J, SLOPE_J, PREFILL_J, BUSY_S = range(9)
REALS = 9

# ``wholes``: a replica's numbers. BATCH and CONTEXT: sequences that decode and their tokens. COUNT: decode
# steps so far. STEPS: steps in flight; DECODES: whether they decode. PART: the request whose
# prompt is computed in parts, PART_DONE of PART_ALL tokens. JOINING and JOINING_CONTEXT: what joins the batch
# when the step ends. RESERVED: tokens set aside for whole answers. HANDED: requests to hand over when the
# step ends.
(
    PHASE,
    ROLE,
    LOAD,
    BATCH,
    CONTEXT,
    COUNT,
    STEPS,
    DECODES,
    OPEN_TO_ARRIVALS,
    HEAPED,
    NEWEST,
    FREED,
    HEAD,
    TAIL,
    PART,
    PART_DONE,
    PART_ALL,
    JOINING,
    JOINING_CONTEXT,
    RESERVED,
    HANDED,
    STEPS_DONE,
    DECODED,
    PREFILLED,
    PREEMPTED,
    WOKEN,
) = range(26)
WHOLES = 26

IDLE, READY, STEPPING = range(3)
MAIN, PREFILLING = range(2)

# ``class_reals`` and ``class_wholes``: a class of requests
TIMEOUT_S, ALARM, ASK_AGAIN, MEMORY_AT, PARAMETERS_AT = 0, 1, 2, 3, 5
CLASS_REALS = 9
RULE, HELD, HELD_HEAD, HELD_TAIL, RELEASE = range(5)
CLASS_WHOLES = 5

# ``costs``: for each role the scalars of its table, then for each clock and batch the four of a decode step
(
    PREFILL_TOKEN_S,
    PREFILL_CONTEXT_S,
    PREFILL_STEP_S,
    PREFILL_TOKEN_J,
    PREFILL_CONTEXT_J,
    PREFILL_STEP_J,
    IDLE_W,
    SLEEP_W,
    WAKE_S,
    WAKE_J,
) = range(10)
SCALARS = 10
DECODES_AT = 2 * SCALARS

# ``fleet_reals`` and ``fleet_wholes``: settings, then the simulation's own position. MARGIN_S: how far ahead
# of an event energy may be booked. PAUSE_AT: the arrival before which the core returns, to report progress.
NOW, BIN_S, SLEEP_AFTER_S, INTER_TOKEN_S, TRANSFER_S, TRANSFER_J, MARGIN_S = range(7)
FLEET_REALS = 7
(
    REQUESTS,
    MAINS,
    REPLICAS,
    CLASSES,
    BINS,
    MODE,
    ROUTING,
    FILL,
    MAX_BATCH,
    STEP_TOKENS,
    KV_TOKENS,
    KV_ADMIT,
    LEVELS,
    MOST_OPEN,
    TIMEOUTS,
    PAUSE_AT,
    NEXT_ARRIVAL,
    RUNNING,
    HELD_ALL,
    ASKING,
    CURSOR,
    ANSWERED,
    MOVED,
    TURN,
) = range(24)
FLEET_WHOLES = 25  # a TURN for each role

CHUNKED, PREFILL_FIRST, ORCA, STATIC = range(4)
ROUND_ROBIN, LEAST_LOADED, FEWEST = range(3)

# ``energy``: joules by bin of time and phase
PREFILL, DECODE, IDLING, SLEEPING, WAKING, TRANSFER = range(6)
PHASES = 6

# Why the core returned
FINISHED, ASK, GROW, MISUSED, PAUSED = range(5)


class State(NamedTuple):
    """The columns; see above."""

    times: Reals
    facts: Wholes
    slots: Wholes
    reals: Reals
    wholes: Wholes
    class_reals: Reals
    class_wholes: Wholes
    costs: Reals
    energy: Reals
    carbon: Reals
    fleet_reals: Reals
    fleet_wholes: Wholes
