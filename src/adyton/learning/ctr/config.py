"""How a CTR model is shaped and trained."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from adyton.learning.errors import ModelError
from adyton.learning.metrics import Metric


class Trainer(Enum):
    """How weights are learned. The stored values never change."""

    ROWS = "rows"
    """Adagrad, row by row, compiled for the CPU: one hidden layer."""
    BATCHES = "batches"
    """AdamW in torch, on a GPU where torch finds one: any shape."""


class Schedule(Enum):
    """How the learning rate goes on."""

    CONSTANT = "constant"
    LINEAR = "linear"
    """Straight to zero at the end of the last epoch."""


@dataclass(frozen=True)
class TrainConfig:
    """Shape and training of one factorised model.

    features: column names to use; None means every feature column except the user id, so that a model for devices can
        never memorise a person by default.
    fm_dim: width of the FM embedding of each field.   head_dim: width of the dot head between two sides.
    hidden: widths of each tower's hidden layers.   members: networks whose logits are averaged; the average of
        factorised scores is a factorised score, with `members` times longer vectors.
    leave_out: fields that a member does not read, member by member and from the start again: ((), ("user_id",)) makes
        every second member one of users in general. They differ more, so that their average errs less.
    taste_epochs: passes that a copy of each member goes on for. Users' levels come from the member itself, their
        tastes from both (`levels`): a second pass overfits the one and improves the other.
    distil_passes: 0, or passes in which `students` more networks learn the members' mean, after which only these are
        kept (`distil`): the scores of many with the vectors of few.
    min_count: values seen in fewer training rows share index 0 with unknown ones; None means one in a thousand rows,
        but 5 at least and 20 at most.   number_buckets: quantile buckets of a number.   list_slots: newest elements of
        a list that are pooled.
    trainer: see `Trainer`.   row_rate, row_decay: step of ROWS, and its pull of embeddings towards zero relative to it.
    learning_rate, batch_size, schedule, decay, dropout: of BATCHES.   max_epochs: of both.
    schedule: whether the rate falls to zero over `max_epochs`.
    checks_per_epoch: how often validation is measured.
    patience: checks without a better value before training ends.   stop_on: the metric to be best at.
    calibrate: fit scale and shift of the logit on the validation rows.
    threads: of ROWS, members trained at once, each with its own copy of the rows' codes; the model is the same. Of
        BATCHES, CPU threads of torch; batches are small, so that a second one rarely pays and hurts on a busy machine.
    decay: weight decay per unit of learning rate for embeddings, towers get a tenth.   dropout: of field embeddings.
    """

    features: tuple[str, ...] | None = None
    fm_dim: int = 8
    head_dim: int = 8
    hidden: tuple[int, ...] = (32,)
    members: int = 1
    leave_out: tuple[tuple[str, ...], ...] = ()
    taste_epochs: int = 0
    distil_passes: int = 0
    students: int = 1
    min_count: int | None = None
    number_buckets: int = 16
    list_slots: int = 20
    trainer: Trainer = Trainer.ROWS
    row_rate: float = 0.01
    row_decay: float = 0.01
    learning_rate: float = 0.001
    batch_size: int = 256
    max_epochs: int = 8
    schedule: Schedule = Schedule.CONSTANT
    checks_per_epoch: int = 2
    patience: int = 3
    decay: float = 0.0
    dropout: float = 0.0
    stop_on: Metric = Metric.AUC
    calibrate: bool = True
    threads: int = 1

    def __post_init__(self) -> None:
        counts = (
            "fm_dim", "head_dim", "members", "number_buckets", "list_slots", "batch_size", "max_epochs",
            "checks_per_epoch", "patience", "threads", "students",
        )  # fmt: skip
        for name in counts:
            if getattr(self, name) < 1:
                raise ModelError(f"must be at least 1, got {getattr(self, name)}", where=name)
        if self.min_count is not None and self.min_count < 1:
            raise ModelError(f"must be at least 1, got {self.min_count}", where="min_count")
        if not all(width >= 1 for width in self.hidden):
            raise ModelError("hidden layers must be at least 1 wide", where="hidden")
        if not 0 <= self.dropout < 1:
            raise ModelError("must lie in [0, 1)", where="dropout")
        if self.trainer is Trainer.ROWS and (len(self.hidden) != 1 or self.dropout or self.decay):
            raise ModelError(
                "training row by row takes one hidden layer, no dropout and no decay of AdamW",
                where="trainer",
                hint="use the trainer in batches, or row_decay",
            )
        if self.taste_epochs < 0 or (self.taste_epochs and self.trainer is not Trainer.ROWS):
            raise ModelError("is a number of passes, and of training row by row only", where="taste_epochs")
        if self.distil_passes < 0 or (self.distil_passes and self.trainer is not Trainer.ROWS):
            raise ModelError("is a number of passes, and of training row by row only", where="distil_passes")
        if self.row_rate <= 0 or self.row_decay < 0:
            raise ModelError("row_rate must be positive and row_decay must not be negative")
        if self.learning_rate <= 0 or self.decay < 0:
            raise ModelError("learning rate must be positive and decay must not be negative")

    @property
    def networks(self) -> int:
        """How many networks the model has."""
        return self.students if self.distil_passes else self.members * (1 + bool(self.taste_epochs))

    def as_trained_on(self) -> TrainConfig:
        """The shape in which training goes on: students are members like any others."""
        if not self.distil_passes:
            return self
        return replace(self, members=self.students, leave_out=(), taste_epochs=0, distil_passes=0)
