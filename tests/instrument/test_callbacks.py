"""The callbacks of Hugging Face and Lightning, at the surface that the libraries document.

Where the libraries are installed they are used for real (``TestReal...``). They needn't be: the other tests
play their loops against stand-ins of the base classes, labelled as such.
"""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from negajoule.errors import ExtraMissingError
from negajoule.ledger import Ledger

MODULES = ("negajoule.instrument.callbacks.hugging_face", "negajoule.instrument.callbacks.lightning")
NAMES = ("HuggingFaceCallback", "LightningCallback")


@pytest.fixture
def fresh(monkeypatch):
    """The callbacks' modules are loaded anew, and forgotten again."""
    from negajoule.instrument import callbacks

    def forget():
        for module in MODULES:
            sys.modules.pop(module, None)
        for name in NAMES:
            vars(callbacks).pop(name, None)
        for module in ("hugging_face", "lightning"):
            vars(callbacks).pop(module, None)

    forget()
    yield callbacks
    forget()


class StandInBase:
    """Stands for the libraries' callback classes: they have hooks that do nothing."""


def stand_in(monkeypatch, name: str, **members: object) -> None:
    """Put a module in the place of a library's."""
    module = ModuleType(name)
    vars(module).update(members)
    parent = name.partition(".")[0]
    if parent != name:
        monkeypatch.setitem(sys.modules, parent, ModuleType(parent))
    monkeypatch.setitem(sys.modules, name, module)


def without(monkeypatch, *names: str) -> None:
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)


def stages():
    with Ledger(read_only=True) as ledger:
        return [(row.stage, row.label, row.status) for row in ledger.latest(100)[::-1]]


class TestHuggingFaceStandIn:
    @pytest.fixture
    def callback(self, monkeypatch, fresh):
        stand_in(monkeypatch, "transformers", TrainerCallback=StandInBase)
        return fresh.HuggingFaceCallback()

    ARGS = SimpleNamespace(local_process_index=0, run_name="tiny")

    def play(self, callback, *, first_step: int = 0, steps: int = 4, args=ARGS) -> None:
        """The order in which the trainer calls its callbacks, two steps an epoch, evaluation at each end."""
        state = SimpleNamespace(epoch=first_step / 2, global_step=first_step)
        control = SimpleNamespace(should_evaluate=False)
        callback.on_train_begin(args, state, control, model=None)
        while state.global_step < steps:
            callback.on_epoch_begin(args, state, control)
            for _ in range(2):
                state.global_step += 1
                state.epoch = state.global_step / 2
                callback.on_step_end(args, state, control)
            control.should_evaluate = True
            callback.on_epoch_end(args, state, control)
            callback.on_prediction_step(args, state, control)
            control.should_evaluate = False
            callback.on_evaluate(args, state, control, metrics={})
        callback.on_train_end(args, state, control)

    def test_epochs_and_evaluations_are_told_apart(self, callback):
        self.play(callback)
        assert isinstance(callback, StandInBase)
        found = [(s.stage, s.epoch, s.first_step, s.last_step) for s in callback.segments]
        assert [item for item in found if item[2] != item[3] or item[0] == "evaluation"] == [
            ("training", 1, 0, 2),
            ("evaluation", 1, 2, 2),
            ("training", 2, 2, 4),
            ("evaluation", 2, 4, 4),
        ]
        assert ("training", "tiny/epoch 1", "ok") in stages()
        assert callback.footprint.it_energy.value > 0

    def test_evaluation_outside_of_training(self, callback):
        state, control = SimpleNamespace(epoch=None, global_step=0), SimpleNamespace(should_evaluate=False)
        callback.on_prediction_step(self.ARGS, state, control)
        callback.on_evaluate(self.ARGS, state, control)
        assert stages() == [("evaluation", "tiny", "ok")]

    def test_other_ranks_say_nothing(self, callback):
        self.play(callback, args=SimpleNamespace(local_process_index=1, run_name=None))
        assert callback.segments == []
        assert callback.footprint is None

    def test_a_resume_goes_on_where_it_left(self, callback, fresh):
        self.play(callback, steps=2)
        resumed = fresh.HuggingFaceCallback("tiny")
        self.play(resumed, first_step=2)
        steps = [
            (s.first_step, s.last_step)
            for s in (*callback.segments, *resumed.segments)
            if s.last_step > s.first_step
        ]
        assert steps == [(0, 2), (2, 4)]
        assert resumed.segments[0].epoch == 2


class TestLightningStandIn:
    @pytest.fixture
    def callback(self, monkeypatch, fresh):
        without(monkeypatch, "pytorch_lightning")
        stand_in(monkeypatch, "lightning.pytorch", Callback=StandInBase)
        return fresh.LightningCallback("tiny")

    def play(self, callback, trainer) -> None:
        """The order in which the trainer calls its callbacks: a sanity check, then epochs and validation."""
        callback.on_validation_start(trainer, None)
        callback.on_validation_end(trainer, None)
        callback.on_train_start(trainer, None)
        for epoch in range(2):
            trainer.current_epoch = epoch
            callback.on_train_epoch_start(trainer, None)
            for _ in range(3):
                trainer.global_step += 1
                callback.on_train_batch_end(trainer, None, None, None, 0)
            callback.on_validation_start(trainer, None)
            callback.on_validation_end(trainer, None)
        callback.on_train_end(trainer, None)

    def test_epochs_and_validation_are_told_apart(self, callback):
        trainer = SimpleNamespace(local_rank=0, current_epoch=0, global_step=0)
        self.play(callback, trainer)
        callback.on_test_start(trainer, None)
        callback.on_test_end(trainer, None)
        callback.on_predict_start(trainer, None)
        callback.on_predict_end(trainer, None)
        found = [(s.stage, s.epoch, s.first_step, s.last_step) for s in callback.segments]
        assert [item for item in found if item[0] != "training" or item[2] != item[3]] == [
            ("evaluation", None, 0, 0),
            ("training", 1, 0, 3),
            ("evaluation", 1, 3, 3),
            ("training", 2, 3, 6),
            ("evaluation", 2, 6, 6),
            ("evaluation", None, 6, 6),
            ("inference", None, 6, 6),
        ]

    @pytest.mark.parametrize(
        ("error", "status"), [(ValueError("x"), "failed"), (KeyboardInterrupt(), "cancelled")]
    )
    def test_a_training_that_raises(self, callback, error, status):
        trainer = SimpleNamespace(local_rank=0, current_epoch=0, global_step=0)
        callback.on_train_start(trainer, None)
        callback.on_exception(trainer, None, error)
        assert stages() == [("training", "tiny/epoch 1", status)]

    def test_other_ranks_say_nothing(self, callback):
        self.play(callback, SimpleNamespace(local_rank=1, current_epoch=0, global_step=0))
        assert callback.segments == []

    def test_both_names_of_the_library_are_served(self, monkeypatch, fresh):
        class Other:
            """Stands for the callback class of ``pytorch_lightning``."""

        stand_in(monkeypatch, "lightning.pytorch", Callback=StandInBase)
        stand_in(monkeypatch, "pytorch_lightning", Callback=Other)
        assert issubclass(fresh.LightningCallback, StandInBase)
        assert issubclass(fresh.LightningCallback, Other)


def test_without_the_libraries_the_error_says_what_to_install(monkeypatch, fresh):
    without(monkeypatch, "transformers", "lightning", "lightning.pytorch", "pytorch_lightning")
    with pytest.raises(ExtraMissingError, match="pip install transformers"):
        _ = fresh.HuggingFaceCallback
    with pytest.raises(ExtraMissingError, match="pip install lightning"):
        _ = fresh.LightningCallback


class TestRealHuggingFace:
    """With torch and transformers, where they are installed."""

    @pytest.fixture
    def trainer(self, tmp_path, fresh):
        torch = pytest.importorskip("torch", reason="torch isn't installed")
        transformers = pytest.importorskip("transformers", reason="transformers isn't installed")

        class Line(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.line = torch.nn.Linear(4, 1)

            def forward(self, x, labels=None):
                out = self.line(x)
                return {"loss": ((out - labels) ** 2).mean(), "logits": out}

        data = [{"x": torch.ones(4) * n, "labels": torch.ones(1) * n} for n in range(16)]

        def make(epochs: float, callback):
            args = transformers.TrainingArguments(
                output_dir=str(tmp_path / "out"),
                num_train_epochs=epochs,
                per_device_train_batch_size=4,
                eval_strategy="epoch",
                save_strategy="epoch",
                report_to=[],
                use_cpu=True,
                disable_tqdm=True,
                run_name="line",
            )
            return transformers.Trainer(
                model=Line(), args=args, train_dataset=data, eval_dataset=data, callbacks=[callback]
            )

        return make

    @pytest.mark.filterwarnings("default")
    def test_a_training_with_evaluation_and_a_resume(self, trainer, fresh):
        first = fresh.HuggingFaceCallback()
        trainer(1, first).train()
        resumed = fresh.HuggingFaceCallback()
        trainer(2, resumed).train(resume_from_checkpoint=True)
        steps = [
            (s.stage, s.epoch, s.first_step, s.last_step)
            for s in (*first.segments, *resumed.segments)
            if s.last_step > s.first_step
        ]
        assert steps == [("training", 1, 0, 4), ("training", 2, 4, 8)]
        evaluated = [s for s in (*first.segments, *resumed.segments) if s.stage == "evaluation"]
        assert [s.epoch for s in evaluated] == [1, 2]
        assert all(s.footprint.it_energy.value > 0 for s in evaluated)
        assert {label for _, label, _ in stages()} == {"line/epoch 1", "line/epoch 2"}

    @pytest.mark.filterwarnings("default")
    def test_evaluation_alone(self, trainer, fresh):
        callback = fresh.HuggingFaceCallback()
        trainer(1, callback).evaluate()
        assert [s.stage for s in callback.segments] == ["evaluation"]


class TestRealLightning:
    """With Lightning under both of its names, where it is installed."""

    @pytest.mark.filterwarnings("default")
    @pytest.mark.parametrize("name", ["lightning.pytorch", "pytorch_lightning"])
    def test_fit_validate_test_and_predict(self, name, tmp_path, fresh, monkeypatch):
        torch = pytest.importorskip("torch", reason="torch isn't installed")
        library = pytest.importorskip(name, reason=f"{name} isn't installed")

        class Line(library.LightningModule):
            def __init__(self):
                super().__init__()
                self.line = torch.nn.Linear(4, 1)

            def training_step(self, batch, _):
                return self.line(batch).pow(2).mean()

            def validation_step(self, batch, _):
                self.log("loss", self.line(batch).pow(2).mean())

            test_step = validation_step

            def predict_step(self, batch, _):
                return self.line(batch)

            def configure_optimizers(self):
                return torch.optim.SGD(self.parameters(), lr=0.01)

        data = torch.utils.data.DataLoader(torch.ones(16, 4), batch_size=4)
        callback = fresh.LightningCallback("line")
        assert isinstance(callback, library.Callback)
        trainer = library.Trainer(
            max_epochs=2,
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            default_root_dir=str(tmp_path),
            callbacks=[callback],
        )
        model = Line()
        trainer.fit(model, data, data)
        trainer.test(model, data, verbose=False)
        trainer.predict(model, data)
        steps = [
            (s.stage, s.epoch, s.first_step, s.last_step)
            for s in callback.segments
            if s.last_step > s.first_step
        ]
        assert [step for step in steps if step[0] == "training"] == [
            ("training", 1, 0, 4),
            ("training", 2, 4, 8),
        ]
        kinds = [s.stage for s in callback.segments]
        assert kinds.count("inference") == 1
        assert kinds.count("evaluation") == 4, "the sanity check, two validations and a test"
