"""A callback for the ``Trainer`` of Hugging Face's transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from negajoule.errors import ExtraMissingError
from negajoule.instrument.callbacks.training import MeasuredTraining, TrainingAccount

if TYPE_CHECKING:

    class TrainerCallback:
        """Stands for the library's class, which needn't be installed to check types."""

else:
    try:
        from transformers import TrainerCallback
    except ImportError as error:
        raise ExtraMissingError(
            "the package 'transformers' is needed for its callback", fix="pip install transformers"
        ) from error

__all__ = ["HuggingFaceCallback"]


class HuggingFaceCallback(MeasuredTraining, TrainerCallback):
    """Measures a ``Trainer``: training by epochs, evaluation apart, one row for each in the ledger.

    With several processes on a host the first measures all of them. An evaluation that is due is told from
    training as soon as the trainer decides on it; one that is called outside of training is seen from its
    first batch's end.

    Args:
        label: name of the training; the trainer's ``run_name`` by default.
        record: whether the ledger keeps it.
    """

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401, D102
        self._of(args).begin(epoch=_epoch(state), step=state.global_step)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401, D102
        self._of(args).train(epoch=_epoch(state), step=state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401, D102
        self._of(args).stepped(state.global_step)
        if control.should_evaluate:
            self._of(args).turn_to("evaluation")

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401, D102
        if control.should_evaluate:
            self._of(args).turn_to("evaluation")

    def on_prediction_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401, D102
        self._of(args).turn_to("evaluation", step=state.global_step)

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401, D102
        self._of(args).turn_back()

    def on_predict(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401, D102
        self._of(args).turn_back()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401, D102
        self._of(args).end()

    def _of(self, args: Any) -> TrainingAccount:  # noqa: ANN401 (the library's TrainingArguments)
        return self._opened(getattr(args, "local_process_index", None), getattr(args, "run_name", None))


def _epoch(state: Any) -> int:  # noqa: ANN401 (the library's TrainerState)
    """The epoch under way, from 1; the state holds how many have been done, with fractions."""
    return int(state.epoch or 0) + 1
