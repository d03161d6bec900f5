"""A small made-up world of routing: three tasks, three models, outcomes that depend on the task."""

from __future__ import annotations

import numpy as np

from negajoule.route import Outcomes

MODELS = ("small", "middle", "large")
ABILITY = {"sums": (0.1, 0.4, 0.9), "facts": (0.8, 0.8, 0.85), "code": (0.2, 0.9, 0.6)}
LENGTH = {"sums": 200.0, "facts": 20.0, "code": 100.0}
OUTPUT_J = np.array([0.1, 0.3, 1.0])
INPUT_J = np.array([0.01, 0.02, 0.05])
WORDS = {
    "sums": "What is {a} plus {b} times {c}? Give the number",
    "facts": "who wrote the book number {a} of the {b} kings",
    "code": "Write a function def f_{a}(x): that returns x + {b}",
}


def made_up(queries: int = 240, seed: int = 0, tasks: tuple[str, ...] = tuple(ABILITY)) -> Outcomes:
    """Outcomes drawn at random."""
    rng = np.random.default_rng(seed)
    names = rng.choice(tasks, queries)
    prompts = [
        WORDS[name].format(**dict(zip("abc", rng.integers(2, 60, 3).tolist(), strict=True))) for name in names
    ]
    ability = np.array([ABILITY[name] for name in names])
    score = (rng.random(ability.shape) < ability).astype(float)
    in_tokens = np.array([[len(prompt) / 4] * 3 for prompt in prompts])
    out_tokens = np.array([LENGTH[name] for name in names])[:, None] * rng.lognormal(0, 0.2, (queries, 3))
    energy_j = in_tokens * INPUT_J + out_tokens * OUTPUT_J
    return Outcomes(prompts, names.astype(str), MODELS, score, in_tokens, out_tokens, energy_j)
