"""Tokens per CPU-second of the embedded engine: one request after the other against all at once.

Run ``python benchmarks/engine_batching.py``; ``--threads N`` and ``--batch-threads N`` override the defaults.
The CPU time is that of this process, which holds the model. Every request produces the same number of tokens,
from a prompt that is computed anew.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median

from negajoule.engine import LlamaEngine

QUESTIONS = (
    "Name three rivers in Europe.",
    "Why is the sky blue?",
    "Write a haiku about winter.",
    "What is a black hole?",
    "Give me a recipe for pancakes.",
    "Explain photosynthesis to a child.",
    "How do magnets work?",
    "Tell a short story about a fox.",
)


def ask(engine: LlamaEngine, number: int, tokens: int) -> int:
    """Ask one question; returns the number of tokens produced."""
    body = {
        "messages": [{"role": "user", "content": QUESTIONS[number % len(QUESTIONS)]}],
        "max_tokens": tokens,
        "ignore_eos": True,
        "cache_prompt": False,
        "seed": number,
    }
    return engine.run("chat", body, lambda chunk: False).timings.output_tokens


def measure(engine: LlamaEngine, at_once: int, tokens: int) -> tuple[float, float]:
    """Ask every question, ``at_once`` at a time; returns tokens per CPU-second and tokens per second."""
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        produced = sum(pool.map(lambda number: ask(engine, number, tokens), range(len(QUESTIONS))))
    return produced / (time.process_time() - cpu_s), produced / (time.perf_counter() - wall_s)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--batch-threads", type=int)
    parser.add_argument("--tokens", type=int, default=48, help="tokens per answer")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    engine = LlamaEngine(threads=options.threads, batch_threads=options.batch_threads)
    ask(engine, 0, 4)
    alone, together = [], []
    for _ in range(options.repeats):
        alone.append(measure(engine, 1, options.tokens))
        together.append(measure(engine, len(QUESTIONS), options.tokens))
    engine.close()
    figures = {
        "threads": engine.threads,
        "batch_threads": engine.batch_threads,
        "tokens_per_cpu_s_sequential": round(median(pair[0] for pair in alone), 2),
        "tokens_per_cpu_s_concurrent": round(median(pair[0] for pair in together), 2),
        "tokens_per_s_sequential": round(median(pair[1] for pair in alone), 2),
        "tokens_per_s_concurrent": round(median(pair[1] for pair in together), 2),
    }
    for name, value in figures.items():
        print(f"{name:<30} {value}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
