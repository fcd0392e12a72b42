"""The training loop: one step after the other, until the epochs or the minutes are over.

Everything the loop needs to go on is in :meth:`Trainer.tensors` and :class:`Progress`: ten steps
equal five, a stop, and five more, bit for bit (as long as the schedule depends on steps; a budget
of minutes depends on the clock).
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Protocol

import torch
from torch import Tensor

from noizenet.config import FitConfig
from noizenet.errors import TrainingError
from noizenet.learner.batches import OneShot, Windows
from noizenet.learner.bptt import backpropagate
from noizenet.learner.model import Model, State

OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
    "nadam": torch.optim.NAdam,
    "adadelta": torch.optim.Adadelta,
}
WARMUP_STEPS = 5  # Adam's first steps are as long as its learning rate, whatever the gradient
LAST_LR_SHARE = 0.01
OBSERVE_WEIGHT = 0.2  # a value head's scale follows the error of about five steps
TROUBLES_IN_A_ROW = 3
VALIDATION_TIME_SHARE = 0.1
CHECKPOINT_EVERY_S = 30.0


@dataclass
class Progress:
    """How far a run is."""

    step: int = 0
    elapsed_s: float = 0.0
    halvings: int = 0  # of the learning rate, after trouble
    troubles: int = 0  # non-finite steps in a row
    best_valid_bits: float = math.inf


@dataclass(frozen=True)
class StepReport:
    """What one step did."""

    step: int
    epoch: int
    song: int | None
    loss: float
    gradient_norm: float
    lr: float
    numbers_per_s: float
    elapsed_s: float
    share_done: float


class Journal(Protocol):
    """Who is told what happens (:class:`noizenet.runs.Run` writes it down)."""

    def step(self, report: StepReport) -> None: ...
    def validated(self, step: int, bits: float, best: bool) -> None: ...
    def say(self, text: str) -> None: ...
    def save(self, tensors: dict[str, Tensor], progress: dict, best: bool) -> None: ...


class Stop:
    """A request to end training after the step at hand."""

    def __init__(self) -> None:
        self.requested = False


class Interrupted(Exception):
    """Raised inside a step to abandon it when a stop was requested."""


class Trainer:
    """Trains a model; see :meth:`run`.

    Parameters
    ----------
    validate : () -> bits per sample on the unseen songs, or None when there are none
    chunk_steps : steps whose history is kept at once (:mod:`noizenet.learner.bptt`)
    """

    def __init__(
        self,
        model: Model,
        batches: OneShot | Windows,
        config: FitConfig,
        journal: Journal,
        rng: int,
        chunk_steps: int,
        validate: Callable[[], float] | None = None,
        stop: Stop | None = None,
    ):
        self.model = model
        self.batches = batches
        self.config = config
        self.journal = journal
        self.rng = rng
        self.chunk_steps = chunk_steps
        self.validate = validate
        self.stop = stop or Stop()
        self.progress = Progress()
        self.optimizer = OPTIMIZERS[config.optimizer](
            model.parameters(), lr=config.lr, weight_decay=config.weight_decay
        )
        self.carried: State | None = None
        self.n_steps = (
            math.inf if config.epochs is None else config.epochs * batches.steps_per_epoch
        )

    # --- what is saved -------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """Copies of everything that training changes."""
        found = {f"model.{name}": t for name, t in self.model.state_dict().items()}
        for index, slots in self.optimizer.state_dict()["state"].items():
            for name, value in slots.items():
                found[f"optimizer.{index}.{name}"] = torch.as_tensor(value)
        if self.carried is not None:
            found["carried.past"], found["carried.recurrent"] = self.carried
        return {name: tensor.detach().clone().contiguous() for name, tensor in found.items()}

    def restore(self, tensors: dict[str, Tensor], progress: dict | None = None) -> None:
        """Go back to what :meth:`tensors` returned."""
        group = {"model": {}, "optimizer": {}, "carried": {}}
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            if kind in group:
                group[kind][rest] = tensor
        self.model.load_state_dict(group["model"])
        slots: dict[int, dict] = {}
        for name, tensor in group["optimizer"].items():
            index, _, slot = name.partition(".")
            slots.setdefault(int(index), {})[slot] = tensor.clone()
        state = self.optimizer.state_dict()
        self.optimizer.load_state_dict({"state": slots, "param_groups": state["param_groups"]})
        carried = group["carried"]
        device = self.model.residual_scale.device
        self.carried = None
        if carried:
            self.carried = State(carried["past"].to(device), carried["recurrent"].to(device))
        if progress is not None:
            self.progress = Progress(**progress)

    # --- the loop ------------------------------------------------------------------------------

    def share_done(self) -> float:
        """How much of the training is over, 0 to 1, by steps or by time."""
        by_steps = self.progress.step / self.n_steps
        return min(1.0, max(by_steps, self.progress.elapsed_s / self.config.budget_s))

    def lr(self) -> float:
        """Learning rate of the step at hand: warm-up, cosine annealing, halvings."""
        lr = self.config.lr * 0.5**self.progress.halvings
        if self.config.anneal:
            cosine = (1 + math.cos(math.pi * self.share_done())) / 2
            lr *= LAST_LR_SHARE + (1 - LAST_LR_SHARE) * cosine
            lr *= min(1.0, (self.progress.step + 1) / WARMUP_STEPS)
        return lr

    def run(self) -> None:
        """Train until the epochs or the minutes are over or a stop is requested."""
        began_s = time.monotonic() - self.progress.elapsed_s
        saved_s = validated_s = time.monotonic()
        validation_s = last_step_s = 0.0
        good = self.tensors()
        try:
            while self.progress.step < self.n_steps and not self.stop.requested:
                # a step that would end after the budget is not begun
                if self.progress.elapsed_s + last_step_s / 2 >= self.config.budget_s:
                    break
                step_began_s = time.monotonic()
                before = self.tensors()
                if self._step(began_s):
                    good = before
                else:
                    self._roll_back(good)
                now_s = time.monotonic()
                last_step_s = now_s - step_began_s
                self.progress.elapsed_s = now_s - began_s
                waited = now_s - validated_s > validation_s / VALIDATION_TIME_SHARE
                if self.validate and waited and self._epoch_ended():
                    self._validate()
                    validated_s = time.monotonic()
                    validation_s = validated_s - now_s
                    self.progress.elapsed_s = validated_s - began_s
                if now_s - saved_s > CHECKPOINT_EVERY_S:
                    self._save(best=False)
                    saved_s = time.monotonic()
        except Interrupted:
            self.optimizer.zero_grad(set_to_none=True)
        if self.validate and not self.stop.requested:
            self._validate()
        self._save(best=False)

    def _epoch_ended(self) -> bool:
        return self.progress.step % self.batches.steps_per_epoch == 0

    def _validate(self) -> None:
        bits = self.validate()
        best = bits < self.progress.best_valid_bits
        self.progress.best_valid_bits = min(bits, self.progress.best_valid_bits)
        self.journal.validated(self.progress.step, bits, best)
        if best:
            self._save(best=True)

    def _save(self, best: bool) -> None:
        self.journal.save(self.tensors(), asdict(self.progress), best)

    def _check_stop(self) -> None:
        if self.stop.requested:
            raise Interrupted

    def _step(self, began_s: float) -> bool:
        """One step; False when its loss, gradient or weights are not finite: it must be undone."""
        step_began_s = time.monotonic()
        batch = self.batches[self.progress.step]
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        if batch.fresh or self.carried is None:
            state = self.model.initial_state(batch.inputs.shape[0])
        else:
            state = self.carried
        done = backpropagate(
            self.model,
            batch.inputs,
            batch.targets,
            state,
            self.chunk_steps,
            mask_seed=self.rng * 1_000_000_007 + self.progress.step,
            observe_weight=OBSERVE_WEIGHT if self.progress.step else 1.0,
            between=self._check_stop,
            weights=batch.weights,
        )
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip).item()
        if not (math.isfinite(done.loss) and math.isfinite(norm)):
            return False
        lr = self.lr()
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        if not all(torch.isfinite(weight).all() for weight in self.model.parameters()):
            return False
        if isinstance(self.batches, Windows):
            self.carried = done.state
        self.progress.step += 1
        self.progress.troubles = 0
        now_s = time.monotonic()
        self.progress.elapsed_s = now_s - began_s
        self.journal.step(
            StepReport(
                step=self.progress.step,
                epoch=batch.epoch,
                song=batch.song,
                loss=done.loss,
                gradient_norm=norm,
                lr=lr,
                numbers_per_s=math.prod(batch.targets.shape[:2]) / (now_s - step_began_s),
                elapsed_s=self.progress.elapsed_s,
                share_done=self.share_done(),
            )
        )
        return True

    def _roll_back(self, good: dict[str, Tensor]) -> None:
        progress = self.progress
        progress.troubles += 1
        progress.halvings += 1
        self.restore(good)
        if progress.troubles >= TROUBLES_IN_A_ROW:
            self._save(best=False)
            raise TrainingError(
                f"step {progress.step + 1}: loss or gradient was not finite {TROUBLES_IN_A_ROW} "
                "times in a row; the last good state is kept. Try a lower --lr or a lower --clip"
            )
        self.journal.say(
            f"step {progress.step + 1}: loss or gradient is not finite; back to the last good "
            f"state, learning rate halved to {self.lr():.2g}"
        )
