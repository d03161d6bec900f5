"""A process that runs one generative model once: prompts, or texts to judge it by. Job in, findings out.

Every measurement has a process of its own, so that no file finds the caches, threads or memory of another.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from negajoule.compress.forced import log_probabilities
from negajoule.engine import LlamaEngine
from negajoule.errors import CODES, CompressError, ExtraMissingError, NegajouleError
from negajoule.meter import Meter, Window

if TYPE_CHECKING:
    from negajoule.engine import Engine, Progress

__all__ = ["Found", "Job", "main", "peak_bytes", "run_job"]

KIBIBYTE = 1024
_CONTEXT_SPARE = 8
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What a process shall do.

    Attributes:
        engine: "llama.cpp" for a GGUF file, "transformers" for a folder.
        model: the file or folder.
        threads: that it may use.
        prompts: to answer, each on its own; the first one is answered once before, to warm up.
        answer_tokens: length of each answer.
        judged: texts to judge it by.
    """

    engine: Literal["llama.cpp", "transformers"] = "llama.cpp"
    model: str
    threads: int = 1
    prompts: tuple[tuple[int, ...], ...] = ()
    answer_tokens: int = 48
    judged: tuple[tuple[int, ...], ...] = ()


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a job.

    Attributes:
        load_s: CPU time of loading [s].
        prompt_tokens: computed.
        output_tokens: produced.
        prefill_s: CPU time until the first token of each answer, summed [s].
        decode_s: CPU time after it [s].
        window: what the meter saw of answers and judging.
        started_s: UTC seconds since 1970 [s].
        log_probabilities: for each judged text, of its tokens after the first.
        peak_bytes: the most memory that the process held [B].
        error: code, message and fix of what went wrong.
    """

    load_s: float = 0.0
    prompt_tokens: int = 0
    output_tokens: int = 0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    window: Window | None = None
    started_s: float = 0.0
    log_probabilities: tuple[tuple[float, ...], ...] = ()
    peak_bytes: int = 0
    error: tuple[str, str, str] | None = None

    @property
    def decode_tokens_per_cpu_s(self) -> float:
        """Tokens for each second of CPU time; the first of each answer comes of prefill [1/s]."""
        return self.output_tokens / self.decode_s

    @property
    def prefill_tokens_per_cpu_s(self) -> float:
        """Prompt tokens for each second of CPU time [1/s]."""
        return self.prompt_tokens / self.prefill_s

    @property
    def energy_per_token_j(self) -> float:
        """Energy of a produced token, its share of the prompts' included [J]."""
        assert self.window is not None, "prompts were answered"
        return self.window.energy.value / self.output_tokens


def run_job(job: Job, log: Path) -> Found:
    """Do a job in a process of its own.

    Args:
        job: what to do.
        log: file for all that it prints.

    Raises:
        CompressError: what went wrong; (K106) if the process broke off.
        ExtraMissingError: (X101) if it lacks a library.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(job.threads)), "HF_HUB_OFFLINE": "1"}
    with log.open("ab") as errors:
        done = subprocess.run(
            [sys.executable, "-m", "negajoule.compress.generative_worker"],
            input=msgspec.json.encode(job),
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            check=False,
        )
    if done.returncode or not done.stdout:
        why = "it was killed, most likely out of memory" if done.returncode == -9 else f"its log: {log}"
        raise CompressError(
            f"the process that should run {Path(job.model).name} broke off", code="K106", fix=why
        )
    found = msgspec.json.decode(done.stdout, type=Found)
    if found.error is not None:
        code, message, fix = found.error
        kind = ExtraMissingError if code == "X101" else CompressError
        raise kind(message, code=code if code in CODES else None, fix=fix)
    return found


def _open(job: Job) -> Engine:
    longest = max(map(len, (*job.prompts, *job.judged)), default=1) + job.answer_tokens + _CONTEXT_SPARE
    if job.engine == "llama.cpp":
        return LlamaEngine(
            job.model,
            slots=1,
            slot_context_tokens=longest,
            threads=job.threads,
            batch_threads=job.threads,
        )
    from negajoule.engine.transformers import TransformersEngine

    return TransformersEngine(Path(job.model), slots=1, threads=job.threads)


def _do(job: Job) -> Found:
    start_s = time.process_time()
    engine = _open(job)
    load_s = time.process_time() - start_s
    meter = Meter.for_process()
    for prompt in job.prompts[:1]:
        _answer(engine, prompt, min(4, job.answer_tokens), _Counts())
    counts = _Counts()
    started_s, before = time.time(), meter.read()
    for prompt in job.prompts:
        _answer(engine, prompt, job.answer_tokens, counts)
    judged = tuple(tuple(log_probabilities(engine, tokens)) for tokens in job.judged)
    window = meter.between(before, meter.read())
    engine.close()
    return Found(
        load_s=load_s,
        prompt_tokens=counts.prompt,
        output_tokens=counts.output,
        prefill_s=counts.prefill_s,
        decode_s=counts.decode_s,
        window=window,
        started_s=started_s,
        log_probabilities=judged,
        peak_bytes=peak_bytes(),
    )


def peak_bytes() -> int:
    """The most memory this process held; ``ru_maxrss`` would count what its parent held before [B]."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * KIBIBYTE
    return 0


class _Counts:
    """Tokens and CPU time of answers, by phase."""

    def __init__(self) -> None:
        self.prompt = self.output = 0
        self.prefill_s = self.decode_s = 0.0


def _answer(engine: Engine, prompt: tuple[int, ...], tokens: int, counts: _Counts) -> None:
    """Answer a prompt of which nothing is cached; greedy, always of the same length."""
    start_s = time.process_time()
    first_s: list[float] = []
    produced = 0

    def progress(event: Progress) -> None:
        nonlocal produced
        if event.kind == "decode":
            produced += event.tokens
            if not first_s:
                first_s.append(time.process_time())

    body = {
        "prompt": list(prompt),
        "max_tokens": tokens,
        "temperature": 0.0,
        "ignore_eos": True,
        "cache_prompt": False,
    }
    result = engine.run("completion", body, lambda _: False, progress)
    end_s = time.process_time()
    middle_s = first_s[0] if first_s else end_s
    counts.prompt += result.timings.prompt_tokens
    counts.output += max(produced, result.timings.output_tokens) - 1
    counts.prefill_s += middle_s - start_s
    counts.decode_s += end_s - middle_s


def main() -> None:
    """Read a job from standard input, do it, write what came of it."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    try:
        found = _do(job)
    except NegajouleError as error:
        found = Found(error=(error.code, error.message, error.fix))
    except MemoryError:
        found = Found(error=("K106", f"out of memory with {job.model}", "take a smaller model"))
    replies.write(msgspec.json.encode(found))
    replies.close()


if __name__ == "__main__":
    main()
