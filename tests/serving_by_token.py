"""Serving, token by token: the slow loop that the simulator is judged by. It shares no code with it.

Every step of every replica is made for itself, costs are added one by one, and each stretch of power is
written down, so that energy can be integrated a second time.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

HOUR_S = 3600.0


@dataclass
class Sequence:
    number: int
    arrival: float
    prompt: int
    answer: int
    kept: int
    kind: int
    made: int = 0
    ready: float = 0.0
    carried: bool = False
    release: float = math.nan
    first: float = math.nan
    end: float = math.nan
    fate: str = "starved"
    place: int = -1
    padded_context: int = 0
    padded_left: int = 0


@dataclass
class Replica:
    number: int
    computes_prompts_only: bool
    table: object
    queue: deque = field(default_factory=deque)
    batch: list = field(default_factory=list)
    part: Sequence | None = None
    part_done: int = 0
    completing: list = field(default_factory=list)
    decoding: bool = False
    step_end: float = math.inf
    start_at: float = math.inf
    idle_since: float = 0.0
    load: int = 0
    power: list = field(default_factory=list)  # (start, end, watts, phase)

    @property
    def idle(self) -> bool:
        return self.step_end == math.inf and self.start_at == math.inf


class ByToken:
    """One run.

    ``policies`` holds one function a class: now, held, oldest, running, carbon, carbon_until to count, again.
    """

    def __init__(self, rows, fleet, policies, timeouts, carbon=()):
        self.fleet, self.policies, self.timeouts, self.carbon = fleet, policies, timeouts, carbon
        self.all = [Sequence(i, *row) for i, row in enumerate(rows)]
        self.coming = deque(self.all)
        self.held = [deque() for _ in policies]
        self.alarm = [math.inf] * len(policies)
        self.running = 0
        self.turns = {False: 0, True: 0}
        table, prompt_table = fleet.table, fleet.prefill_table or fleet.table
        if fleet.power_cap_w is not None:
            table, prompt_table = stretch(table, fleet.power_cap_w), stretch(prompt_table, fleet.power_cap_w)
        slower = [stretch(t, fleet.power_cap_w) if fleet.power_cap_w else t for t in fleet.slower]
        self.clocks = [table, *slower]
        self.kv = min(fleet.table.kv_tokens, (fleet.prefill_table or fleet.table).kv_tokens)
        self.replicas = [Replica(i, False, table) for i in range(fleet.replicas)]
        self.replicas += [
            Replica(fleet.replicas + i, True, prompt_table) for i in range(fleet.prefill_replicas)
        ]
        self.extra = []  # energy that belongs to no replica: (start, end, joules)
        self.now = 0.0

    # Events

    def run(self):
        while True:
            times = [r.step_end for r in self.replicas] + [r.start_at for r in self.replicas]
            times += [self.alarm[c] for c, held in enumerate(self.held) if held]
            if self.coming:
                times.append(self.coming[0].arrival)
            now = min(times)
            if now == math.inf:
                break
            outside = [t for t in times[2 * len(self.replicas) :] if t == now]
            ends = [r for r in self.replicas if r.step_end == now]
            self.now = now
            for replica in ends:
                self.end_step(replica, now)
            for replica in ends:
                self.hand_over(replica, now)
            while self.coming and self.coming[0].arrival <= now:
                for held in self.held:
                    self.drop_held(held, now)
                self.arrive(self.coming.popleft())
            if outside or ends:
                self.ask(now)
            for replica in self.replicas:
                if replica.start_at <= now:
                    self.start_step(replica, now)
        for replica in self.replicas:
            self.rest(replica, self.now)
        return self

    def arrive(self, seq):
        context = self.fleet.context_tokens or math.inf
        whole = seq.prompt + seq.answer
        if whole - 1 > self.kv or whole > context:
            seq.fate = "too_long"
        elif self.fleet.most_open and self.running + sum(map(len, self.held)) >= self.fleet.most_open:
            seq.fate = "refused"
        else:
            self.held[seq.kind].append(seq)

    def ask(self, now):
        moved = True
        while moved:
            moved = False
            for kind, held in enumerate(self.held):
                self.drop_held(held, now)
                if not held:
                    self.alarm[kind] = math.inf
                    continue
                hour = int(now // HOUR_S)
                carbon = self.carbon[hour] if hour < len(self.carbon) else math.nan
                count, again = self.policies[kind](
                    now, len(held), held[0].arrival, self.running, carbon, (hour + 1) * HOUR_S
                )
                for _ in range(count):
                    moved = True
                    seq = held.popleft()
                    seq.release = now
                    self.running += 1
                    self.queue_up(self.route(self.fleet.prefill_replicas > 0, now), seq, now)
                self.alarm[kind] = again if held else math.inf

    def drop_held(self, held, now):
        while held and self.expired(held[0], now):
            gone = held.popleft()
            gone.fate, gone.end = "timed_out", gone.arrival + self.timeouts[gone.kind]

    def route(self, prompts_only, now):
        pool = [r for r in self.replicas if r.computes_prompts_only == prompts_only]
        if len(pool) == 1:
            return pool[0]
        if self.fleet.routing == "round-robin":
            self.turns[prompts_only] += 1
            return pool[(self.turns[prompts_only] - 1) % len(pool)]
        if self.fleet.routing == "fewest":
            for replica in pool:
                if replica.load < self.fleet.fill:
                    return replica
        return min(
            pool, key=lambda r: (r.load, r.idle and now >= r.idle_since + self.fleet.sleep_after_s, r.number)
        )

    def queue_up(self, replica, seq, now):
        seq.place = replica.number
        replica.load += 1
        replica.queue.append(seq)
        if replica.idle:
            slept = self.rest(replica, now)
            replica.start_at = now
            if slept:
                table = replica.table
                replica.start_at = now + table.wake_s
                if table.wake_s > 0:
                    replica.power.append((now, replica.start_at, table.wake_j / table.wake_s, "wake"))
                else:
                    self.extra.append((now, now, table.wake_j, "wake"))

    def rest(self, replica, now):
        """Idle power up to now, sleep power from when it fell asleep."""
        if not replica.idle:
            return False
        asleep = replica.idle_since + self.fleet.sleep_after_s
        replica.power.append((replica.idle_since, min(now, asleep), replica.table.idle_w, "idle"))
        if now > asleep:
            replica.power.append((asleep, now, replica.table.sleep_w, "sleep"))
        return now >= asleep

    # Steps

    def end_step(self, replica, now):
        replica.step_end, replica.start_at = math.inf, now
        static = self.fleet.batching == "static"
        if replica.decoding:
            for seq in replica.batch:
                seq.made += 1
                seq.padded_context += 1
                seq.padded_left -= 1
        for seq in replica.completing:
            seq.made += 1
            if math.isnan(seq.first):
                seq.first = now
            if not replica.computes_prompts_only:
                replica.batch.append(seq)
        for seq in list(replica.batch):
            if seq.padded_left <= 0 if static else seq.made >= seq.answer:
                replica.batch.remove(seq)
                self.gone(replica, seq, now, "served")
        if not replica.computes_prompts_only:
            replica.completing = []

    def hand_over(self, replica, now):
        if not replica.computes_prompts_only:
            return
        for seq in replica.completing:
            if seq.made >= seq.answer:
                self.gone(replica, seq, now, "served")
                continue
            replica.load -= 1
            seq.carried = True
            seq.ready = now + self.fleet.transfer_token_s * seq.prompt
            joules = self.fleet.transfer_token_j * seq.prompt
            self.extra.append((now, seq.ready, joules, "transfer"))
            self.queue_up(self.route(False, now), seq, now)
        replica.completing = []

    def gone(self, replica, seq, now, fate):
        late = now > seq.arrival + self.timeouts[seq.kind]
        seq.end, seq.fate = now, "timed_out" if late else fate
        replica.load -= 1
        self.running -= 1

    def expired(self, seq, now):
        return seq.arrival + self.timeouts[seq.kind] <= now

    def drop_expired(self, replica, now):
        if self.fleet.batching != "static":
            for seq in [seq for seq in replica.batch if self.expired(seq, now)]:
                replica.batch.remove(seq)
                self.gone(replica, seq, now, "timed_out")
            if replica.part is not None and self.expired(replica.part, now):
                self.gone(replica, replica.part, now, "timed_out")
                replica.part = None
        while replica.queue and self.expired(replica.queue[0], now):
            seq = replica.queue.popleft()
            self.gone(replica, seq, seq.arrival + self.timeouts[seq.kind], "timed_out")

    def context(self, replica):
        if self.fleet.batching == "static":
            return sum(seq.padded_context for seq in replica.batch)
        return sum(seq.prompt + seq.made for seq in replica.batch)

    def start_step(self, replica, now):
        replica.start_at = math.inf
        self.drop_expired(replica, now)
        if self.fleet.batching == "static":
            parts = self.static_parts(replica)
        else:
            self.make_room(replica)
            parts = self.parts(replica, now)
        table, batch = replica.table, len(replica.batch)
        mixes = self.fleet.batching in ("chunked", "orca") and not replica.computes_prompts_only
        replica.decoding = batch > 0 and (not parts or mixes)
        if not parts and not batch:
            if replica.queue:
                replica.start_at = replica.queue[0].ready
                replica.power.append((now, replica.start_at, table.idle_w, "idle"))
            else:
                replica.idle_since = now
            return
        prompt_j = decode_j = seconds = 0.0
        if replica.decoding:
            context = self.context(replica)
            if not parts:
                fits = [
                    t
                    for t in self.clocks[1:]
                    if t.decode_s[batch] + t.decode_context_s[batch] * context
                    <= self.fleet.inter_token_limit_s
                ]
                table = fits[-1] if fits else table
            seconds += table.decode_s[batch] + table.decode_context_s[batch] * context
            decode_j = table.decode_j[batch] + table.decode_context_j[batch] * context
        for new, before in parts:
            square = 2 * before * new + new * new
            seconds += table.prefill_token_s * new + table.prefill_context_s * square
            prompt_j += table.prefill_token_j * new + table.prefill_context_j * square
        if parts and not replica.decoding:
            seconds += table.prefill_step_s
            prompt_j += table.prefill_step_j
        replica.step_end = now + seconds
        replica.power.append((now, now + seconds, prompt_j / seconds, "prefill"))
        replica.power.append((now, now + seconds, decode_j / seconds, "decode"))

    def make_room(self, replica):
        """Send back whoever joined last."""
        while True:
            part = replica.part
            held = self.context(replica) + (part.prompt + part.made if part else 0)
            if held <= self.kv or len(replica.batch) + (part is not None) <= 1:
                return
            back = part if part else replica.batch.pop()
            if part:
                replica.part = None
            replica.queue.appendleft(back)

    def parts(self, replica, now):
        """Prompt parts of the next step as (new tokens, tokens before them)."""
        mode = "prefill-first" if replica.computes_prompts_only else self.fleet.batching
        budget, parts = self.fleet.step_tokens, []
        if replica.part is not None:
            seq, before = replica.part, replica.part_done
            new = min(seq.prompt + seq.made - before, budget - len(replica.batch))
            parts.append((new, before))
            replica.part_done += new
            if replica.part_done == seq.prompt + seq.made:
                replica.completing.append(seq)
                replica.part = None
        while replica.queue and replica.part is None:
            seq = replica.queue[0]
            members = len(replica.batch) + len(replica.completing)
            used = sum(new for new, _ in parts)
            need = seq.prompt + seq.made
            if members >= self.batch_limit():
                break
            if mode == "chunked" and budget - len(replica.batch) - used <= 0:
                break
            if members > 0:
                if mode == "orca":
                    everybody = [*replica.batch, *replica.completing, seq]
                    if sum(other.prompt + other.answer for other in everybody) > self.kv:
                        break
                else:
                    sizes = sum(other.prompt + other.made for other in replica.completing)
                    free = int(self.kv * (1.0 - self.fleet.keep_free))
                    if self.context(replica) + sizes + need > free:
                        break
            if seq.carried:
                if seq.ready > now:
                    break
                replica.queue.popleft()
                seq.carried = False
                replica.batch.append(seq)
                continue
            kept = min(seq.kept if self.fleet.prefix_cache else 0, need - 1)
            left = need - kept
            if mode == "prefill-first" and parts and used + left > budget:
                break
            replica.queue.popleft()
            new = min(left, budget - len(replica.batch) - used) if mode == "chunked" else left
            parts.append((new, kept))
            if new < left:
                replica.part, replica.part_done = seq, kept + new
            else:
                replica.completing.append(seq)
        return parts

    def static_parts(self, replica):
        chosen = []
        while not replica.batch and replica.queue and len(chosen) < self.batch_limit():
            trial = [*chosen, replica.queue[0]]
            longest = max(seq.prompt for seq in trial) + max(seq.answer for seq in trial)
            if chosen and len(trial) * longest > self.kv:
                break
            chosen = trial
            replica.queue.popleft()
        if not chosen:
            return []
        prompt, answer = max(seq.prompt for seq in chosen), max(seq.answer for seq in chosen)
        for seq in chosen:
            seq.padded_context, seq.padded_left = prompt + 1, answer - 1
        replica.completing = chosen
        return [(prompt, 0)] * len(chosen)

    def batch_limit(self):
        return self.fleet.max_batch or len(self.fleet.table.decode_s) - 1

    # Energy

    def energy_by_phase(self):
        """Joules by phase: the integral of every stretch of power."""
        joules = dict.fromkeys(("prefill", "decode", "idle", "sleep", "wake", "transfer"), 0.0)
        for replica in self.replicas:
            for start, end, watts, phase in replica.power:
                joules[phase] += watts * (end - start)
        for _, _, extra_j, phase in self.extra:
            joules[phase] += extra_j
        return joules

    def energy_by_hour(self, hours):
        """Joules by hour, of all phases."""
        joules = [0.0] * hours
        stretches = [stretch for replica in self.replicas for stretch in replica.power]
        stretches += [
            (start, end, extra_j / (end - start), "") for start, end, extra_j, _ in self.extra if end > start
        ]
        for start, end, watts, _ in stretches:
            for hour in range(int(start // HOUR_S), min(int(end // HOUR_S) + 1, hours)):
                inside = min(end, (hour + 1) * HOUR_S) - max(start, hour * HOUR_S)
                joules[hour] += watts * max(inside, 0.0)
        for start, end, extra_j, _ in self.extra:
            if end == start:
                joules[int(start // HOUR_S)] += extra_j
        return joules


class stretch:
    """A table whose every cost takes at least the time that a power allows."""

    def __init__(self, table, watts):
        for name in table.__struct_fields__:
            setattr(self, name, getattr(table, name))
        self.decode_s = [max(s, j / watts) for s, j in zip(table.decode_s, table.decode_j, strict=True)]
        self.decode_context_s = [
            max(s, j / watts) for s, j in zip(table.decode_context_s, table.decode_context_j, strict=True)
        ]
        for part in ("token", "context", "step"):
            seconds, joules = getattr(table, f"prefill_{part}_s"), getattr(table, f"prefill_{part}_j")
            setattr(self, f"prefill_{part}_s", max(seconds, joules / watts))
