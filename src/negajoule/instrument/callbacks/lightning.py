"""A callback for the ``Trainer`` of Lightning, under either of its package names."""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib import import_module
from typing import Any

from negajoule.errors import ExtraMissingError
from negajoule.instrument.callbacks.training import MeasuredTraining, TrainingAccount

__all__ = ["LightningCallback"]

_PACKAGES = ("lightning.pytorch", "pytorch_lightning")


def _bases() -> tuple[type, ...]:
    """The ``Callback`` of the package that the program uses; of both, if it has imported both.

    Raises:
        ExtraMissingError: (X101) if neither is installed.
    """
    used = [module for name in _PACKAGES if (module := sys.modules.get(name)) is not None]
    for name in _PACKAGES:
        if not used:
            with suppress(ModuleNotFoundError):
                used.append(import_module(name))
    if not used:
        raise ExtraMissingError(
            "the package 'lightning' or 'pytorch_lightning' is needed for its callback",
            fix="pip install lightning",
        )
    return tuple(dict.fromkeys(module.Callback for module in used))


class _Hooks(MeasuredTraining):
    """Measures a ``Trainer``: training by epochs, validation and tests apart, one row for each in the ledger.

    With several processes on a host the first measures all of them. Predictions count as inference.

    Args:
        label: name of the training.
        record: whether the ledger keeps it.
    """

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ANN401
        self._of(trainer).begin(epoch=trainer.current_epoch + 1, step=trainer.global_step)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ANN401
        self._of(trainer).train(epoch=trainer.current_epoch + 1, step=trainer.global_step)

    def on_train_batch_end(self, trainer: Any, *_: Any, **__: Any) -> None:  # noqa: ANN401
        self._of(trainer).stepped(trainer.global_step)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ANN401
        self._of(trainer).turn_to("evaluation", step=trainer.global_step)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ANN401
        self._of(trainer).turn_back()

    def on_test_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ANN401
        self._of(trainer).turn_to("evaluation", step=trainer.global_step)

    def on_test_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ANN401
        self._of(trainer).turn_back()

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ANN401
        self._of(trainer).turn_to("inference", step=trainer.global_step)

    def on_predict_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ANN401
        self._of(trainer).turn_back()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ANN401
        self._of(trainer).end()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:  # noqa: ANN401
        self._of(trainer).end("failed" if isinstance(exception, Exception) else "cancelled")

    def _of(self, trainer: Any) -> TrainingAccount:  # noqa: ANN401 (either library's trainer)
        return self._opened(getattr(trainer, "local_rank", None), None)


LightningCallback: Any = type("LightningCallback", (_Hooks, *_bases()), {"__doc__": _Hooks.__doc__})
"""Lightning's callback; see ``_Hooks`` for what it does."""
