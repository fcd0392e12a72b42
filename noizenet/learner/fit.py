"""The training loop: one step after the other, until the epochs or the minutes are over.

A run trains one network, or several, part after part: each has its own lessons and its own share
of the time; optimizer, clipping, annealing, checkpoints and trouble are the same for all.

Everything the loop needs to go on is in :meth:`Trainer.tensors` and :class:`Progress`: ten steps
equal five, a stop, and five more, bit for bit (as long as the schedule depends on steps; a budget
of minutes depends on the clock).
"""

import math
import time
from collections.abc import Callable, Sequence
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
LOSS_SMOOTHING = 0.2
HEARD_PART = "model"  # the name of the part that is heard
VALIDATION_TIME_SHARE = 0.1
CHECKPOINT_EVERY_S = 30.0


@dataclass
class Part:
    """A network and its lessons."""

    name: str
    model: Model
    batches: OneShot | Windows
    lr: float  # at its highest
    kept_steps: int  # whose history is kept at once (:mod:`noizenet.learner.bptt`)
    n_steps: float = math.inf  # training steps, at most
    time_share: float = 1.0  # of the time that is left when its turn comes, at most
    enough: float = -math.inf  # a smoothed loss below which it has learned enough


@dataclass
class Progress:
    """How far a run is."""

    step: int = 0
    elapsed_s: float = 0.0
    halvings: int = 0  # of the learning rate, after trouble
    troubles: int = 0  # non-finite steps in a row
    best_valid_bits: float = math.inf
    part: int = 0  # the one whose turn it is
    part_began: int = 0  # at which step
    part_began_s: float = 0.0
    part_loss: float = math.inf  # smoothed


@dataclass(frozen=True)
class StepReport:
    """What one step did."""

    step: int
    part: str
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
    """Trains the networks of a run, one after the other; see :meth:`run`.

    Parameters
    ----------
    parts : the last one is the network that is heard: validated, and trained to the end
    validate : () -> bits per sample on the unseen songs, or None when there are none
    hear : called with the seconds and the steps of training after each step of the last part
    """

    def __init__(
        self,
        parts: Sequence[Part],
        config: FitConfig,
        journal: Journal,
        rng: int,
        validate: Callable[[], float] | None = None,
        stop: Stop | None = None,
        hear: Callable[[float, int], None] = lambda elapsed_s, step: None,
    ):
        self.hear = hear
        self.parts = list(parts)
        self.config = config
        self.journal = journal
        self.rng = rng
        self.validate = validate
        self.stop = stop or Stop()
        self.progress = Progress()
        self.optimizer = OPTIMIZERS[config.optimizer](
            [{"params": list(part.model.parameters()), "lr": part.lr} for part in parts],
            weight_decay=config.weight_decay,
        )
        self.carried: State | None = None
        if config.epochs is not None:
            heard = self.parts[-1]
            heard.n_steps = config.epochs * heard.batches.steps_per_epoch

    @property
    def part(self) -> Part:
        """The one whose turn it is."""
        return self.parts[self.progress.part]

    # --- what is saved -------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """Copies of everything that training changes."""
        found = {
            f"{part.name}.{name}": tensor
            for part in self.parts
            for name, tensor in part.model.state_dict().items()
        }
        for index, slots in self.optimizer.state_dict()["state"].items():
            for name, value in slots.items():
                found[f"optimizer.{index}.{name}"] = torch.as_tensor(value)
        if self.carried is not None:
            found |= {f"carried.{name}": t for name, t in self.carried._asdict().items()}
        return {name: tensor.detach().clone().contiguous() for name, tensor in found.items()}

    def restore(self, tensors: dict[str, Tensor], progress: dict | None = None) -> None:
        """Go back to what :meth:`tensors` returned."""
        group = {name: {} for name in ("optimizer", "carried", *(p.name for p in self.parts))}
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            if kind in group:
                group[kind][rest] = tensor
        for part in self.parts:
            part.model.load_state_dict(group[part.name])
        slots: dict[int, dict] = {}
        for name, tensor in group["optimizer"].items():
            index, _, slot = name.partition(".")
            slots.setdefault(int(index), {})[slot] = tensor.clone()
        state = self.optimizer.state_dict()
        self.optimizer.load_state_dict({"state": slots, "param_groups": state["param_groups"]})
        carried = group["carried"]
        device = self.parts[-1].model.residual_scale.device
        self.carried = None
        if carried:
            self.carried = State(*(carried[name].to(device) for name in State._fields))
        if progress is not None:
            self.progress = Progress(**progress)

    # --- the loop ------------------------------------------------------------------------------

    def share_done(self) -> float:
        """How much of the training is over, 0 to 1, by steps or by time."""
        if math.isfinite(self.config.budget_s):
            by_time = self.progress.elapsed_s / self.config.budget_s
        else:
            by_time = 0.0
        # a part that is over may have taken fewer steps than it was given
        to_come = sum(part.n_steps for part in self.parts[self.progress.part :])
        by_steps = self.progress.step / (self.progress.part_began + to_come)
        return min(1.0, max(by_steps, by_time))

    def share_of_part(self) -> float:
        """The same of the part whose turn it is."""
        progress = self.progress
        by_steps = (progress.step - progress.part_began) / self.part.n_steps
        began_s = progress.part_began_s
        budget_s = (self.config.budget_s - began_s) * self.part.time_share
        by_time = (progress.elapsed_s - began_s) / budget_s if budget_s > 0 else 1.0
        return min(1.0, max(by_steps, by_time))

    def lr(self) -> float:
        """Learning rate of the step at hand: warm-up, cosine annealing, halvings."""
        lr = self.part.lr * 0.5**self.progress.halvings
        if self.config.anneal:
            cosine = (1 + math.cos(math.pi * self.share_of_part())) / 2
            lr *= LAST_LR_SHARE + (1 - LAST_LR_SHARE) * cosine
            lr *= min(1.0, (self.progress.step - self.progress.part_began + 1) / WARMUP_STEPS)
        return lr

    def _take_turns(self, last_step_s: float) -> bool:
        """Whether there is a step to do; the next part's turn comes when one is over."""
        progress = self.progress
        while True:
            left_s = self.config.budget_s - progress.part_began_s
            ends_s = progress.part_began_s + left_s * self.part.time_share
            # a step that would end after the time is not begun
            late = progress.elapsed_s + last_step_s / 2 >= ends_s
            enough = progress.part_loss < self.part.enough
            if not (late or enough or progress.step - progress.part_began >= self.part.n_steps):
                return True
            if self.part is self.parts[-1]:
                return False
            progress.part += 1
            progress.part_began = progress.step
            progress.part_began_s = progress.elapsed_s
            progress.part_loss = math.inf
            progress.halvings = 0
            last_step_s = 0.0
            self.carried = None

    def run(self) -> None:
        """Train until the epochs or the minutes are over or a stop is requested."""
        began_s = time.monotonic() - self.progress.elapsed_s
        saved_s = validated_s = time.monotonic()
        validation_s = last_step_s = 0.0
        good = self.tensors()
        try:
            while not self.stop.requested and self._take_turns(last_step_s):
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
                if self.validate and waited and self._heard_epoch_ended():
                    self._validate()
                    validated_s = time.monotonic()
                    validation_s = validated_s - now_s
                    self.progress.elapsed_s = validated_s - began_s
                if self.part is self.parts[-1]:
                    self.hear(self.progress.elapsed_s, self.progress.step)
                    self.progress.elapsed_s = time.monotonic() - began_s
                if now_s - saved_s > CHECKPOINT_EVERY_S:
                    self._save(best=False)
                    saved_s = time.monotonic()
        except Interrupted:
            self.optimizer.zero_grad(set_to_none=True)
        if self.validate and not self.stop.requested:
            self._validate()
        self._save(best=False)

    def _heard_epoch_ended(self) -> bool:
        done = self.progress.step - self.progress.part_began
        return self.part is self.parts[-1] and done % self.part.batches.steps_per_epoch == 0

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
        part = self.part
        model = part.model
        batch = part.batches[self.progress.step - self.progress.part_began]
        model.train()
        self.optimizer.zero_grad(set_to_none=True)
        if batch.fresh or self.carried is None:
            state = model.initial_state(batch.inputs.shape[0])
        else:
            state = self.carried
        done = backpropagate(
            model,
            batch.inputs,
            batch.targets,
            state,
            part.kept_steps,
            mask_seed=self.rng * 1_000_000_007 + self.progress.step,
            observe_weight=OBSERVE_WEIGHT if self.progress.step > self.progress.part_began else 1.0,
            between=self._check_stop,
            weights=batch.weights,
            guide=batch.guide,
        )
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), self.config.clip).item()
        if not (math.isfinite(done.loss) and math.isfinite(norm)):
            return False
        lr = self.lr()
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        if not all(torch.isfinite(weight).all() for weight in model.parameters()):
            return False
        if isinstance(part.batches, Windows):
            self.carried = done.state
        progress = self.progress
        if math.isinf(progress.part_loss):
            progress.part_loss = done.loss
        progress.part_loss += LOSS_SMOOTHING * (done.loss - progress.part_loss)
        progress.step += 1
        progress.troubles = 0
        now_s = time.monotonic()
        self.progress.elapsed_s = now_s - began_s
        self.journal.step(
            StepReport(
                step=self.progress.step,
                part=part.name,
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
