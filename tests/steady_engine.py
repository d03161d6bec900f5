"""A fake engine that gives every request exactly the tokens it asks for, at an even pace; it says "fake"."""

from __future__ import annotations

import time

from negajoule.engine import FakeEngine, Progress, Result, Timings


class SteadyEngine(FakeEngine):
    """``FakeEngine`` draws the length of its answers; phases are measured on answers of a known length."""

    def __init__(self, *, step_s: float = 0.004, **options) -> None:
        super().__init__(**options)
        self.step_s = step_s

    def run(self, task, body, on_chunk, on_progress=None):
        prompt, output = len(body["prompt"]), body["max_tokens"]
        with self._free_slots:
            for _ in range(output):
                time.sleep(self.step_s)
                on_progress(Progress("decode", 1))
        usage = {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}
        return Result(timings=Timings(0, prompt, self.step_s, output, output * self.step_s), usage=usage)
