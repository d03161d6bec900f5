"""Steps that write ONNX files: the change of engine alone, 8 bits, 4 bits."""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from negajoule.compress.artefact import Artefact, Bench, finish, read_artefact
from negajoule.compress.cutter import TOKENIZER
from negajoule.compress.encoder import load_model
from negajoule.compress.run_onnx import MODEL, OnnxRunner, session
from negajoule.compress.run_torch import TorchRunner
from negajoule.compress.toolbox import library, onnx, onnxruntime, torch
from negajoule.errors import CompressError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from negajoule.compress.steps import FourBit, Int8, Onnx

__all__ = ["export", "to_four_bits", "to_int8", "to_onnx"]

OPERATORS = 17
"""Version of the operator set: the oldest that has all we need, so that older runtimes read the file."""

FAITHFUL = 1e-3
BATCH = 16


def to_onnx(_: Onnx, bench: Bench) -> None:
    """Export in 32 bits."""
    export(bench.source, bench.target / MODEL, bench)
    _finish(bench, "fp32", "ONNX Runtime")


def to_int8(step: Int8, bench: Bench) -> None:
    """Export and quantise to 8 bits."""
    quantise = library("onnxruntime.quantization", "quantise ONNX files")
    with _plain(bench) as plain, _silence():
        kinds = {"weight_type": quantise.QuantType.QInt8, "per_channel": step.per_channel}
        if step.ranges == "dynamic":
            quantise.quantize_dynamic(plain, bench.target / MODEL, **kinds)
        else:
            ready = plain.with_name("ready.onnx")
            library("onnxruntime.quantization.shape_inference", "quantise ONNX files").quant_pre_process(
                str(plain), str(ready), skip_symbolic_shape=True
            )
            reader = _Reader(bench, step.texts)
            # Not the additions: the mask's lowest number would stretch their range over all there is.
            quantise.quantize_static(
                ready,
                bench.target / MODEL,
                reader,
                op_types_to_quantize=["MatMul", "Gemm", "Gather"],
                **kinds,
            )
    _finish(bench, f"int8, {step.ranges}", f"int8 ({step.ranges})")


def to_four_bits(step: FourBit, bench: Bench) -> None:
    """Export and quantise the weights of linear maps to 4 bits."""
    module = library("onnxruntime.quantization.matmul_nbits_quantizer", "quantise ONNX files")
    with _plain(bench) as plain, _silence():
        work = module.MatMulNBitsQuantizer(onnx().load(plain), block_size=step.block, is_symmetric=True)
        work.process()
        work.model.save_model_to_file(str(bench.target / MODEL))
    _finish(bench, f"int4 weights, blocks of {step.block}", "4-bit weights")


def export(source: Path, file: Path, bench: Bench) -> None:
    """Write a model of PyTorch as ONNX and check that it gives the same scores.

    Args:
        source: folder of the artefact.
        file: to write.
        bench: whose texts the check uses.

    Raises:
        CompressError: (K101) if it can't be exported, (K105) if its scores differ.
    """
    about = read_artefact(source)
    if about.kind != "torch":
        raise CompressError(
            f"an artefact of kind {about.kind} can't be exported",
            fix="put this step before the others of ONNX",
        )
    model = load_model(source)
    # Its plain form: the mask is added once, not looked up in every layer, and 8 bits lose less by it.
    model.set_attn_implementation("eager")
    lib = torch()
    module: Any = lib.nn.Module

    class Scores(module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:  # noqa: ANN401
            return self.inner(input_ids=input_ids, attention_mask=attention_mask).logits

    runner = TorchRunner(model, source, about.max_length)
    sample = sorted(bench.texts.train.first(64).texts, key=len)
    numbers, mask = runner.cutter.batch(runner.cutter.cut(sample[:3]))
    both = {0: "texts", 1: "tokens"}
    try:
        with _silence():
            lib.onnx.export(
                Scores().eval(),
                (lib.from_numpy(numbers), lib.from_numpy(mask)),
                str(file),
                input_names=["input_ids", "attention_mask"],
                output_names=["scores"],
                dynamic_axes={"input_ids": both, "attention_mask": both, "scores": {0: "texts"}},
                opset_version=OPERATORS,
                dynamo=False,
            )
    except (RuntimeError, ValueError, TypeError) as error:
        raise CompressError(f"the model can't be exported to ONNX: {str(error).splitlines()[0]}") from None
    # Not the lengths that it was traced with: a length that was frozen into the graph shows here.
    long = sample[-5:]
    want = runner.run(long).rows
    got = OnnxRunner(session(file, bench.threads), source, about).run(long).rows
    worst = max(abs(a - b) for old, new in zip(want, got, strict=True) for a, b in zip(old, new, strict=True))
    if not worst <= FAITHFUL * max(1.0, *(abs(score) for row in want for score in row)):
        raise CompressError(f"the exported model's scores are off by {worst:.2g}", code="K105")


@contextlib.contextmanager
def _plain(bench: Bench) -> Iterator[Path]:
    """The source as an ONNX file in 32 bits, exported if it isn't one."""
    with tempfile.TemporaryDirectory(dir=bench.target.parent) as scratch:
        file = Path(scratch) / "plain.onnx"
        about = read_artefact(bench.source)
        if about.kind == "onnx" and about.precision == "fp32":
            shutil.copyfile(bench.source / MODEL, file)
        else:
            export(bench.source, file, bench)
        yield file


def _finish(bench: Bench, precision: str, step: str) -> None:
    before = read_artefact(bench.source)
    shutil.copyfile(bench.source / TOKENIZER, bench.target / TOKENIZER)
    about: Artefact = msgspec.structs.replace(
        before,
        kind="onnx",
        engine=f"onnxruntime {onnxruntime().__version__}",
        precision=precision,
        data=bench.texts.fingerprint,
        steps=(*before.steps, step),
        files={},
    )
    runner = OnnxRunner(session(bench.target / MODEL, bench.threads), bench.target, about)
    finish(bench.target, about, runner, bench.texts.train.texts)


class _Reader:
    """Batches of training texts, on which the ranges of activations are found."""

    def __init__(self, bench: Bench, count: int) -> None:
        about = read_artefact(bench.source)
        runner = OnnxRunner(None, bench.source, about)
        ids = runner.cutter.cut(bench.texts.train.first(count).texts)
        chunks = [runner.cutter.batch(ids[at : at + BATCH]) for at in range(0, len(ids), BATCH)]
        self._left = iter([{"input_ids": numbers, "attention_mask": mask} for numbers, mask in chunks])

    def get_next(self) -> dict[str, Any] | None:
        return next(self._left, None)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Exporter and quantiser advise at length, on every channel."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        before = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)
