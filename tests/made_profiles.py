"""Profiles made of a known law, so that what is fitted can be held against the truth."""

from __future__ import annotations

import random
from math import ceil

from negajoule.profile import Cell, PhaseSample, Profile, Sample
from negajoule.profile.profile import Ceilings, EngineFacts, Machine, WeightsFacts

STEP_TOKENS = 128
WATTS = 10.0
IDLE_W = 2.0


class Truth:
    """Costs of one format [s]: a decode step by batch, and the coefficients of the law."""

    def __init__(self, steps, context=1e-6, token=1e-3, square=0.0, step=5e-3):
        self.steps, self.context, self.token, self.square, self.step = steps, context, token, square, step

    def prefill(self, batch, prompt):
        linear = batch * (self.token * prompt + self.square * prompt**2)
        return linear + self.step * ceil(batch * prompt / STEP_TOKENS)

    def decode_step(self, batch, context):
        return self.steps[batch] + self.context * context

    def request(self, batch, prompt, output):
        step = self.decode_step(batch, batch * (prompt + output / 2))
        return (self.prefill(batch, prompt) + output * step) / batch


FAST = Truth({1: 0.010, 2: 0.014, 4: 0.020, 8: 0.030})
SLOW = Truth({1: 0.020, 2: 0.026, 4: 0.036, 8: 0.056}, token=1.5e-3)


def phase(tokens, context, seconds, *, energy=True, cpu=True):
    joules = (WATTS * seconds, 0.5 * WATTS * seconds, 2 * WATTS * seconds)
    return PhaseSample(
        tokens=tokens,
        context_tokens=context,
        seconds=seconds,
        cpu_s=seconds if cpu else None,
        energy_j=joules if energy else None,
        others_busy=0.0,
    )


def sample(truth, cell, repeat, noise=0.0, generator=None, **known):
    shake = 1.0 if generator is None else generator.lognormvariate(0, noise)
    batch, prompt, output = cell.batch, cell.prompt_tokens, cell.output_tokens
    context = batch * (prompt + output / 2)
    return Sample(
        cell=cell,
        repeat=repeat,
        prefill=phase(batch * prompt, batch * prompt / 2, truth.prefill(batch, prompt) * shake, **known),
        decode=phase(batch * output, context, output * truth.decode_step(batch, context) * shake, **known),
        ttft_s=truth.prefill(batch, prompt),
        itl_s=truth.decode_step(batch, context),
        itl_p95_s=truth.decode_step(batch, context),
    )


def made_profile(
    truths,
    *,
    batches=(1, 2, 4, 8),
    prompts=(32, 200, 500),
    outputs=(32,),
    rounds=4,
    noise=0.0,
    seed=3,
    **known,
):
    generator = random.Random(seed)
    samples = [
        sample(truth, Cell(name, batch, prompt, output), number, noise, generator if noise else None, **known)
        for number in range(rounds)
        for batch in batches
        for prompt in prompts
        for output in outputs
        for name, truth in truths.items()
    ]
    return Profile(
        model="made",
        created="2026-11-23T12:00:00+00:00",
        negajoule="0",
        machine=Machine(
            host_id="abc", cpu="a processor", threads=4, memory_bytes=8_000_000_000, virtual=False
        ),
        engine=EngineFacts(
            name="fake",
            version="1",
            slots=max(batches),
            threads=1,
            context_tokens=1024,
            step_tokens=STEP_TOKENS,
            where="here",
        ),
        weights=tuple(
            WeightsFacts(format=name, sha256="", size_bytes=10**8, parameters=10**8, kv_bytes_per_token=1000)
            for name in truths
        ),
        energy_basis="modelled" if known.get("energy", True) else None,
        energy_source="a made law",
        idle_w=(IDLE_W, 1.0, 4.0),
        quiet=True,
        ceilings=Ceilings(flop_per_s=1e11, bytes_per_s=1e10, source="made"),
        samples=tuple(samples),
    )
