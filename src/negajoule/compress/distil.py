"""Distillation: a student learns the teacher's softened answers and its last state (Hinton et al., 2015).

    loss = (1 - labels) T^2 KL(teacher / T || student / T) + labels CE(student, label)
           + states MSE(normalised last state of the first token)

A student of the teacher's width is the teacher with fewer layers. It keeps its embeddings of words as they
are: training them takes a third of a small student's time, and those of words that the texts lack would no
longer fit the rest. One of another width starts with the teacher's embeddings, turned to their principal
axes, and random layers, and trains them all.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from negajoule.compress.artefact import read_artefact
from negajoule.compress.cutter import Cutter
from negajoule.compress.encoder import keep_layers, load_model, save_model
from negajoule.compress.prune import spread
from negajoule.compress.teacher import ask_teacher
from negajoule.compress.toolbox import torch, transformers
from negajoule.compress.training import seed_all, train
from negajoule.errors import CompressError

if TYPE_CHECKING:
    from negajoule.compress.artefact import Bench
    from negajoule.compress.steps import Distil, Recover

__all__ = ["distil", "make_student", "principal_axes", "recover"]

RATE_FROM_LAYERS = 1e-4
RATE_FROM_NOTHING = 5e-4


def distil(step: Distil, bench: Bench) -> None:
    """Make a student of the source and teach it.

    Raises:
        CompressError: (K101) if the source has too few layers, (K104) if training diverges.
    """
    seed_all(bench.seed, bench.threads)
    source = load_model(bench.source)
    student = make_student(step, source)
    rate = step.rate or (RATE_FROM_LAYERS if step.hidden is None else RATE_FROM_NOTHING)
    _teach(
        student,
        bench,
        epochs=step.epochs,
        rate=rate,
        batch=step.batch,
        temperature=step.temperature,
        labels=step.labels,
        states=step.states,
    )
    save_model(bench, student, f"distilled to {_shape(student)}")


def recover(step: Recover, bench: Bench) -> None:
    """Teach what pruning left.

    Raises:
        CompressError: (K104) if training diverges.
    """
    seed_all(bench.seed, bench.threads)
    student = load_model(bench.source)
    _teach(
        student,
        bench,
        epochs=step.epochs,
        rate=step.rate,
        batch=step.batch,
        temperature=2.0,
        labels=0.3,
        states=1.0,
    )
    save_model(bench, student, f"recovered in {step.epochs} epochs")


def make_student(step: Distil, source: Any) -> Any:  # noqa: ANN401
    """A student before its training.

    Args:
        step: its shape.
        source: the model it starts from; left as it is.

    Raises:
        CompressError: (K101) if the shape can't be had.
    """
    config = source.config
    if step.hidden is None or step.hidden == config.hidden_size:
        if step.layers > config.num_hidden_layers:
            raise CompressError(
                f"a student of {step.layers} layers can't be cut from {config.num_hidden_layers}",
                fix="give hidden=... for a student of another shape",
            )
        student = copy.deepcopy(source)
        keep_layers(student, spread(config.num_hidden_layers, step.layers))
        return student
    width = step.hidden
    heads = step.heads or max(1, width // (config.hidden_size // config.num_attention_heads))
    if width > config.hidden_size or width % heads:
        raise CompressError(
            f"a student {width} wide with {heads} heads can't be had from a teacher {config.hidden_size} wide"
        )
    neurons = step.neurons or width * config.intermediate_size // config.hidden_size
    small = copy.deepcopy(config)
    small.num_hidden_layers, small.hidden_size, small.num_attention_heads = step.layers, width, heads
    small.intermediate_size = neurons
    student = transformers().AutoModelForSequenceClassification.from_config(small).float()
    base, old = student.base_model.embeddings, source.base_model.embeddings
    with torch().no_grad():
        axes = principal_axes(old.word_embeddings.weight, width)
        for name in ("word_embeddings", "position_embeddings", "token_type_embeddings"):
            if hasattr(base, name) and hasattr(old, name):
                getattr(base, name).weight.copy_(getattr(old, name).weight @ axes)
    return student


def principal_axes(vectors: Any, width: int) -> Any:  # noqa: ANN401
    """The directions in which vectors differ most.

    Args:
        vectors: one a row.
        width: how many directions.

    Returns:
        A matrix with a direction a column.
    """
    centred = vectors - vectors.mean(0)
    _, axes = torch().linalg.eigh(centred.T @ centred)
    return axes[:, -width:].flip(1)


def _teach(
    student: Any,  # noqa: ANN401
    bench: Bench,
    *,
    epochs: int,
    rate: float,
    batch: int,
    temperature: float,
    labels: float,
    states: float,
) -> None:
    nn = torch().nn.functional
    taught = ask_teacher(bench)
    about = read_artefact(bench.source)
    cutter = Cutter(bench.source, about.max_length, about.pad)
    soft = nn.softmax(taught.scores / temperature, dim=-1)
    same_width = taught.states.shape[1] == student.config.hidden_size
    goal = nn.layer_norm(taught.states, taught.states.shape[1:])

    def loss_of(found: Any, rows: list[int]) -> Any:  # noqa: ANN401
        logits = found.logits.float()
        loss = (1 - labels) * temperature**2 * nn.kl_div(
            nn.log_softmax(logits / temperature, dim=-1), soft[rows], reduction="batchmean"
        ) + labels * nn.cross_entropy(logits, taught.truth[rows])
        if same_width and states:
            state = found.hidden_states[-1][:, 0].float()
            loss = loss + states * nn.mse_loss(nn.layer_norm(state, state.shape[1:]), goal[rows])
        return loss

    train(
        student,
        cutter,
        cutter.cut(bench.texts.train.texts),
        loss_of,
        epochs=epochs,
        rate=rate,
        batch=batch,
        seed=bench.seed,
        frozen=[student.get_input_embeddings().weight] if same_width else [],
    )


def _shape(model: Any) -> str:  # noqa: ANN401
    return f"{model.config.num_hidden_layers} x {model.config.hidden_size}"
