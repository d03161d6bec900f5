"""Training in other people's loops, measured.

- ``ranks``: many processes on one host are one host
- ``training``: the account of a training, by stage and epoch
- ``hugging_face``: ``Trainer`` of transformers
- ``lightning``: ``Trainer`` of Lightning

The callbacks load their library when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from negajoule.lazy import names_from

if TYPE_CHECKING:
    from negajoule.instrument.callbacks.hugging_face import HuggingFaceCallback
    from negajoule.instrument.callbacks.lightning import LightningCallback
    from negajoule.instrument.callbacks.training import Segment, TrainingAccount

__all__ = ["HuggingFaceCallback", "LightningCallback", "Segment", "TrainingAccount"]

__getattr__ = names_from(
    globals(),
    {
        "HuggingFaceCallback": ".hugging_face",
        "LightningCallback": ".lightning",
        "Segment": ".training",
        "TrainingAccount": ".training",
    },
)
