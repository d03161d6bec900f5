"""Fine-tuning a generative model: all weights, adapters (LoRA), or adapters on 4-bit weights (QLoRA).

Adapters are peft's (Hu et al., arXiv 2106.09685; Dettmers et al., arXiv 2305.14314). What is measured before,
the training, and what is measured after are jobs of three processes: see ``four_bit_layers`` for why.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Literal

import msgspec

from negajoule.compress.calibration import load_whole
from negajoule.compress.four_bit_layers import (
    demand_gradients,
    refuse_repacked,
    strict_autograd,
    to_four_bits,
    widened,
)
from negajoule.compress.generative_worker import peak_bytes
from negajoule.compress.toolbox import library, torch
from negajoule.errors import CODES, CompressError, ExtraMissingError, NegajouleError
from negajoule.meter import Meter, Window

__all__ = [
    "AdapterJob",
    "AdapterReport",
    "Adapting",
    "adapt",
    "do_adapter_job",
    "gradient_gap",
    "judge_texts",
    "run_adapter_job",
    "with_adapters",
]

Way = Literal["full", "lora", "fp4", "nf4"]
SPREAD = 0.02
"""Standard deviation that adapters get where gradients are compared; they start at zero otherwise."""


class Adapting(msgspec.Struct, frozen=True, kw_only=True):
    """How a model is fine-tuned.

    Attributes:
        way: all weights, adapters on plain weights, or adapters on FP4 or NF4.
        compute: type of computation, and of the weights that aren't in 4 bits.
        rank: of the adapters.
        rate: learning rate; ``None`` takes 2e-5 for all weights and 1e-3 for adapters.
        steps: how many.
        batch: texts a step.
        seed: of the adapters.
    """

    way: Way = "fp4"
    compute: Literal["float32", "bfloat16"] = "float32"
    rank: int = 8
    rate: float | None = None
    steps: int = 4
    batch: int = 4
    seed: int = 0


class AdapterJob(msgspec.Struct, frozen=True, kw_only=True):
    """What a process shall do.

    Attributes:
        do: judge texts, train, or compare gradients with those of widened weights.
        source: a GGUF file.
        adapting: how it is fine-tuned; for judging, how its weights are held.
        texts: tokens, of one length each.
        adapters: file to write adapters to, or for judging to read them from; empty for none.
        threads: that it may use.
    """

    do: Literal["judge", "train", "gradients"]
    source: str
    adapting: Adapting
    texts: tuple[tuple[int, ...], ...]
    adapters: str = ""
    threads: int = 1


class AdapterReport(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it.

    Attributes:
        losses: of each step, before it.
        step_cpu_s: CPU time of each step [s].
        weight_bytes: memory of the model's weights without adapters [B].
        trained: how many numbers are trained.
        log_probabilities: for judging, of the tokens of each text after the first, summed, and their count.
        gradient_gap: the largest relative gap of an adapter's gradient [1].
        loss_gap: the relative gap of the loss [1].
        window: what the meter saw of training.
        started_s: UTC seconds since 1970 [s].
        peak_bytes: the most memory that the process held [B].
        error: code, message and fix of what went wrong.
    """

    losses: tuple[float, ...] = ()
    step_cpu_s: tuple[float, ...] = ()
    weight_bytes: int = 0
    trained: int = 0
    log_probabilities: tuple[tuple[float, int], ...] = ()
    gradient_gap: float | None = None
    loss_gap: float | None = None
    window: Window | None = None
    started_s: float = 0.0
    peak_bytes: int = 0
    error: tuple[str, str, str] | None = None

    @property
    def perplexity(self) -> float:
        """Of the judged texts [1]."""
        tokens = sum(count for _, count in self.log_probabilities)
        return math.exp(-sum(total for total, _ in self.log_probabilities) / tokens)


def with_adapters(model: Any, how: Adapting) -> Any:  # noqa: ANN401
    """A model as it is trained: weights in their type, adapters on all linear layers but the output.

    Args:
        model: of transformers, weights in 32 bits; it is changed.
        how: the way.

    Raises:
        ExtraMissingError: (X101) without peft or bitsandbytes.
    """
    lib = torch()
    lib.manual_seed(how.seed)
    model.to(getattr(lib, how.compute))
    if how.way == "full":
        return model
    if how.way in ("fp4", "nf4"):
        to_four_bits(model, how.way, how.compute)
    peft = library("peft", "train adapters")
    settings = peft.LoraConfig(
        r=how.rank, lora_alpha=2 * how.rank, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    return peft.get_peft_model(model, settings)


def adapt(model: Any, texts: list[Any], how: Adapting) -> tuple[list[float], list[float]]:  # noqa: ANN401
    """Train; the texts come around as often as the steps need.

    Args:
        model: from ``with_adapters``.
        texts: tensors of token numbers, each a batch.
        how: rate and steps.

    Returns:
        The loss of each step before it, and its CPU time [s].

    Raises:
        CompressError: (K104) if gradients don't reach the first layer, or training diverges.
    """
    lib = torch()
    if how.way in ("fp4", "nf4"):
        refuse_repacked(model)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    rate = how.rate or (2e-5 if how.way == "full" else 1e-3)
    optimiser = lib.optim.AdamW(trained, lr=rate)
    losses, seconds = [], []
    model.train()
    with strict_autograd():
        for step in range(how.steps):
            start_s = time.process_time()
            batch = texts[step % len(texts)]
            loss = model(batch, labels=batch).loss
            value = float(loss.detach())
            if not math.isfinite(value):
                raise CompressError("training diverged", code="K104", fix="lower the learning rate")
            loss.backward()
            if step == 0 and how.way != "full":
                demand_gradients(model)
            optimiser.step()
            optimiser.zero_grad()
            losses.append(value)
            seconds.append(time.process_time() - start_s)
    return losses, seconds


def gradient_gap(model: Any, batch: Any) -> tuple[float, float]:  # noqa: ANN401
    """How far loss and adapters' gradients are from those of the same weights, widened to plain layers.

    Args:
        model: with adapters on 4-bit weights; its adapters get small random values.
        batch: tensor of token numbers.

    Returns:
        The largest relative gap of an adapter's gradient, and of the loss [1].

    Raises:
        CompressError: (K104) if weights are repacked or a kernel passes no gradient.
    """
    lib = torch()
    with lib.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=SPREAD)
    found = []
    for one in (model, widened(model)):
        one.train()
        one.zero_grad()
        with strict_autograd():
            loss = one(batch, labels=batch).loss
            loss.backward()
        grads = {name: weight.grad.clone() for name, weight in one.named_parameters() if weight.requires_grad}
        found.append((float(loss.detach()), grads))
        one.zero_grad()
    (loss, mine), (other_loss, theirs) = found
    worst = 0.0
    for name, gradient in theirs.items():
        scale = float(gradient.norm())
        gap = float((mine[name] - gradient).norm())
        worst = max(worst, gap / scale if scale else gap)
    return worst, abs(loss - other_loss) / abs(other_loss)


def judge_texts(model: Any, texts: list[Any]) -> list[tuple[float, int]]:  # noqa: ANN401
    """Summed logarithms of probabilities of each text's tokens after the first, and how many there are."""
    lib = torch()
    model.eval()
    found = []
    with lib.no_grad():
        for ids in texts:
            told = model(ids).logits[0, :-1].float().log_softmax(-1)
            found.append((float(told.gather(1, ids[0, 1:, None]).sum()), ids.shape[1] - 1))
    return found


def run_adapter_job(job: AdapterJob, log: Path) -> AdapterReport:
    """Do a job in a process of its own.

    Raises:
        CompressError: what went wrong; (K106) if the process broke off.
        ExtraMissingError: (X101) if it lacks a library.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(job.threads))
    with log.open("ab") as errors:
        done = subprocess.run(
            [sys.executable, "-m", "negajoule.compress.adapters"],
            input=msgspec.json.encode(job),
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, **threads, "HF_HUB_OFFLINE": "1"},
            check=False,
        )
    if done.returncode or not done.stdout:
        raise CompressError(f"the process that should {job.do} broke off", code="K106", fix=f"its log: {log}")
    report = msgspec.json.decode(done.stdout, type=AdapterReport)
    if report.error is not None:
        code, message, fix = report.error
        kind = ExtraMissingError if code == "X101" else CompressError
        raise kind(message, code=code if code in CODES else None, fix=fix)
    return report


def _weight_bytes(model: Any) -> int:  # noqa: ANN401
    """Memory of the weights that were there before adapters, scales of 4-bit weights included [B]."""
    size = 0
    for name, weight in model.named_parameters():
        if "lora_" in name:
            continue
        size += weight.numel() * weight.element_size()
        state = getattr(weight, "quant_state", None)
        if state is not None:
            size += state.absmax.numel() * state.absmax.element_size()
    return size


def do_adapter_job(job: AdapterJob) -> AdapterReport:
    """Do a job in this process.

    Raises:
        CompressError: (K101) if the model can't be loaded, (K102) for too few texts, (K104) see ``adapt``.
        ExtraMissingError: (X101) if a library is missing.
    """
    lib = torch()
    lib.set_num_threads(job.threads)
    how = job.adapting
    model = with_adapters(load_whole(Path(job.source)), how)
    weights = _weight_bytes(model)
    keep = library("safetensors.torch", "write adapters")
    trainable = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    if job.do == "judge":
        if job.adapters:
            with lib.no_grad():
                for name, values in keep.load_file(job.adapters).items():
                    trainable[name].copy_(values)
        told = judge_texts(model, [lib.tensor([list(text)]) for text in job.texts])
        return AdapterReport(weight_bytes=weights, log_probabilities=tuple(told), peak_bytes=peak_bytes())
    if job.do == "gradients":
        gap, loss_gap = gradient_gap(model, lib.tensor([list(job.texts[0])]))
        return AdapterReport(
            weight_bytes=weights, gradient_gap=gap, loss_gap=loss_gap, peak_bytes=peak_bytes()
        )
    batches = [
        lib.tensor([list(text) for text in job.texts[start : start + how.batch]])
        for start in range(0, len(job.texts) - how.batch + 1, how.batch)
    ]
    if not batches:
        raise CompressError("there are fewer texts than a batch takes", code="K102", fix="give more texts")
    meter = Meter.for_process()
    started_s, before = time.time(), meter.read()
    losses, seconds = adapt(model, batches, how)
    window = meter.between(before, meter.read())
    if job.adapters:
        keep.save_file(
            {name: weight.detach().contiguous() for name, weight in trainable.items()}, job.adapters
        )
    return AdapterReport(
        losses=tuple(losses),
        step_cpu_s=tuple(seconds),
        weight_bytes=weights,
        trained=sum(weight.numel() for weight in trainable.values()),
        window=window,
        started_s=started_s,
        peak_bytes=peak_bytes(),
    )


def main() -> None:
    """Read a job from standard input, do it, write what came of it."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=AdapterJob)
    try:
        report = do_adapter_job(job)
    except NegajouleError as error:
        report = AdapterReport(error=(error.code, error.message, error.fix))
    except MemoryError:
        report = AdapterReport(error=("K106", "out of memory", "take shorter texts or a smaller batch"))
    replies.write(msgspec.json.encode(report))
    replies.close()


if __name__ == "__main__":
    main()
