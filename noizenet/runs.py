"""A run's folder, which explains itself.

    runs/<name>/
      config.json         every setting, resolved; `--config` repeats the run from it
      run.json            command, versions, machine, git commit, times
      log.txt             what was said on the screen
      metrics.jsonl       one line for each training step and validation
      checkpoints/        last.safetensors, best.safetensors
      tensorboard/        `tensorboard --logdir runs` shows runs side by side
      audio/  pictures/   what it played, and how that looks

A checkpoint is one safetensors file: weights, optimizer, codec and position. Loading it never
runs code, and a file that was cut short or edited is refused.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from noizenet import config as configs
from noizenet.errors import RunError
from noizenet.files import known_runs, run_folder, write_text, writing
from noizenet.learner.fit import HEARD_PART, StepReport

CHECKPOINT_VERSION = 1
PACKAGES = ("noizenet", "torch", "numpy", "numba", "librosa", "soundfile", "scikit-learn")


# --- checkpoints ---------------------------------------------------------------------------------


def _digest(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    """SHA-256 over names, shapes and bytes of all tensors and over the metadata."""
    sha = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.view(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def save_checkpoint(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write tensors and JSON facts as one safetensors file."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {"version": str(CHECKPOINT_VERSION), "facts": json.dumps(facts, sort_keys=True)}
    metadata["sha256"] = _digest(tensors, metadata)
    with writing(path) as temporary:
        try:
            save_file(tensors, temporary, metadata)
        except SafetensorError as error:
            raise RunError(f"{path}: cannot be written ({error})") from None


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`save_checkpoint` wrote.

    Raises
    ------
    RunError
        When the file is missing, cut short, edited, or of another version.
    """
    if not path.is_file():
        raise RunError(f"{path}: no such checkpoint; was the run stopped before its first?")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            version = metadata.get("version")
            if version != str(CHECKPOINT_VERSION):
                raise RunError(
                    f"{path}: checkpoint of version {version}, this NoizeNet reads version "
                    f"{CHECKPOINT_VERSION}; train again or use the NoizeNet that wrote it"
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise RunError(f"{path}: not a whole checkpoint, it may be cut short ({error})") from None
    stored = metadata.pop("sha256", "")
    if stored != _digest(tensors, metadata):
        raise RunError(f"{path}: its contents were changed after it was written; not loaded")
    return tensors, json.loads(metadata["facts"])


# --- the folder ----------------------------------------------------------------------------------


def _git_commit() -> str | None:
    """The checkout's commit, where there is one."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None


def _version(package: str) -> str | None:
    """A package's version; None for NoizeNet used from its folder without being installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _facts() -> dict[str, Any]:
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "began": time.strftime("%Y-%m-%d %H:%M:%S"),
        "versions": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "machine": platform.platform(),
        "processors": os.cpu_count(),
        "git_commit": _git_commit(),
    }


class Run:
    """An open run: it writes down what happens (:class:`noizenet.learner.fit.Journal`).

    Make one with :meth:`create` or :meth:`open`.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.extra: dict[str, Tensor] = {}  # saved with every checkpoint, e.g. the codec
        self.config: Any = None
        self.unit = "sample"
        self._bar: tqdm | None = None
        self._tenths = 0  # of training, when the last line about them was written
        self._writer = None
        self._thread_error: OSError | None = None
        self._hook_before: Callable | None = None
        self._purge_step: int | None = None

    # --- making and finding ------------------------------------------------------------------

    @classmethod
    def create(cls, name: str, config: Any) -> "Run":
        """A new folder; an existing name is refused."""
        folder = run_folder(name)
        if folder.exists():
            raise RunError(
                f"{folder}: this run exists already; --resume continues it, another --run starts "
                "a new one"
            )
        run = cls(folder)
        run.config = config
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise RunError(f"{folder}: cannot be written ({error.strerror})") from None
        try:
            run._write_json("config.json", configs.to_dict(config))
            run._write_json("run.json", _facts())
        except RunError:
            run.discard()
            raise
        return run

    @classmethod
    def open(cls, name: str, kind: type) -> "Run":
        """A run that exists, with its config."""
        folder = run_folder(name)
        if not (folder / "config.json").is_file():
            raise RunError(f"{folder}: there is no such run; {known_runs()}")
        run = cls(folder)
        run.config = configs.read_json(kind, folder / "config.json")
        return run

    def go_on(self, config: Any, step: int) -> None:
        """Continue after ``step`` with a config that differs in what a resumed run may change."""
        self.config = config
        self._purge_step = step + 1
        try:
            facts = json.loads((self.folder / "run.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            facts = {}
        facts["resumed"] = [*facts.get("resumed", []), _facts() | {"after_step": step}]
        self._write_json("config.json", configs.to_dict(config))
        self._write_json("run.json", facts)

    def discard(self) -> None:
        """Remove a folder in which nothing has happened yet."""
        with contextlib.suppress(RunError):
            self.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- writing down ------------------------------------------------------------------------

    @property
    def writer(self):
        """The TensorBoard writer, opened when first used (it takes a second to import)."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._hook_before, threading.excepthook = threading.excepthook, self._keep_thread_error
            # steps after the checkpoint that a stopped run goes on from are taken again
            with self._tensorboard_errors():
                self._writer = SummaryWriter(
                    self.folder / "tensorboard", flush_secs=20, purge_step=self._purge_step
                )
        return self._writer

    def _keep_thread_error(self, failure: threading.ExceptHookArgs) -> None:
        """TensorBoard writes in a thread of its own, whose traceback is not for the screen."""
        if isinstance(failure.exc_value, OSError):
            self._thread_error = failure.exc_value
        else:
            threading.__excepthook__(failure)

    @contextlib.contextmanager
    def _tensorboard_errors(self):
        """What went wrong in its thread is raised at some later call."""
        path = self.folder / "tensorboard"
        try:
            yield
        except OSError as error:
            raise RunError(f"{path}: cannot be written ({error.strerror or error})") from None

    def say(self, text: str = "") -> None:
        """Print lines, around the progress bar, and keep them in log.txt."""
        tqdm.write(text) if self._bar else print(text, flush=True)
        self._append("log.txt", text + "\n")

    def _append(self, name: str, text: str) -> None:
        try:
            with open(self.folder / name, "a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise RunError(f"{self.folder / name}: cannot be written ({error.strerror})") from None

    def _write_json(self, name: str, values: dict[str, Any]) -> None:
        write_text(self.folder / name, json.dumps(values, indent=2) + "\n")

    def _metric(self, **values: Any) -> None:
        self._append("metrics.jsonl", json.dumps(values) + "\n")

    @contextlib.contextmanager
    def progress_bar(self, share_done: float):
        """Show how far training is until the block ends: a bar, or a line now and then."""
        self._tenths = int(10 * share_done)
        self._bar = tqdm(
            total=1.0,
            initial=share_done,
            bar_format="{percentage:3.0f}% {bar} {elapsed}, {remaining} left{postfix}",
            dynamic_ncols=True,
            miniters=0,  # progress is a share here: a step may be ever so small a part of it
            disable=None,  # where it is written to a file or a pipe
        )
        try:
            with self._bar:
                yield
        finally:
            self._bar = None

    def step(self, report: StepReport) -> None:
        self._show_progress(report)
        heard = report.part == HEARD_PART
        group = "train" if heard else report.part
        for name, value in (
            ("loss", report.loss),
            ("gradient_norm", report.gradient_norm),
            ("learning_rate", report.lr),
            (f"{self.unit if heard else 'code'}s_per_second", report.numbers_per_s),
        ):
            self.add_scalar(f"{group}/{name}", value, report.step)
        self._metric(**vars(report))

    def _show_progress(self, report: StepReport) -> None:
        if self._bar is None:
            return
        heard = report.part == HEARD_PART
        state = (
            f"{'' if heard else report.part + ', '}epoch {report.epoch + 1}, "
            f"loss {report.loss:.3f}, {report.numbers_per_s:,.0f} "
            f"{self.unit if heard else 'code'}s/s"
        )
        if not self._bar.disable:
            self._bar.set_postfix_str(state, refresh=False)
            self._bar.update(report.share_done - self._bar.n)
        elif (tenths := int(10 * report.share_done)) > self._tenths:
            self._tenths = tenths
            self.say(f"{100 * report.share_done:7.0f} %  {state}")

    def validated(self, step: int, bits: float, best: bool) -> None:
        self.add_scalar("valid/bits_per_sample", bits, step)
        self._metric(step=step, valid_bits_per_sample=bits, best=best)

    def add_valid_loss(self, step: int, loss: float) -> None:
        """The loss on what is unseen, in the unit of the training loss."""
        self.add_scalar("valid/loss", loss, step)
        self._metric(step=step, valid_loss=loss)

    def save(self, tensors: dict[str, Tensor], progress: dict, best: bool) -> None:
        name = "best" if best else "last"
        facts = {"progress": progress, "config": configs.to_dict(self.config)}
        save_checkpoint(self.checkpoint(name), {**tensors, **self.extra}, facts)

    def checkpoint(self, name: str) -> Path:
        """Path of the ``last`` or ``best`` checkpoint."""
        return self.folder / "checkpoints" / f"{name}.safetensors"

    def metrics(self) -> list[dict[str, Any]]:
        """All lines of metrics.jsonl, oldest first; one that a full disk cut short is left out."""
        path = self.folder / "metrics.jsonl"
        if not path.exists():
            return []
        found = []
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                found.append(json.loads(line))
        return found

    def add_scalar(self, name: str, value: float, step: int | None = None) -> None:
        """A point of one of TensorBoard's curves."""
        with self._tensorboard_errors():
            self.writer.add_scalar(name, value, step)

    def add_config(self) -> None:
        """Show the config in TensorBoard, as text."""
        lines = json.dumps(configs.to_dict(self.config), indent=2).splitlines()
        with self._tensorboard_errors():
            self.writer.add_text("config", "\n".join(f"    {line}" for line in lines))

    def add_sound(self, name: str, samples: np.ndarray, sample_rate_hz: int, step: int) -> None:
        """Let TensorBoard play a sound."""
        audible = torch.from_numpy(np.clip(samples, -1, 1))[None]
        with self._tensorboard_errors():
            self.writer.add_audio(name, audible, step, sample_rate=sample_rate_hz)

    def add_picture(self, name: str, pixels: np.ndarray, step: int) -> None:
        """Show an (H, W, 3) picture in TensorBoard."""
        with self._tensorboard_errors():
            self.writer.add_image(name, pixels, step, dataformats="HWC")

    def add_hparams(self, settings: dict[str, Any], results: dict[str, float]) -> None:
        """Line this run up with others in TensorBoard's table of hyper-parameters."""
        from torch.utils.tensorboard.summary import hparams

        plain = {
            name: value if isinstance(value, (bool, int, float, str)) else str(value)
            for name, value in settings.items()
        }
        results = {f"result/{name}": value for name, value in results.items()}
        # SummaryWriter.add_hparams would open a second run below this one
        with self._tensorboard_errors():
            for summary in hparams(plain, results):
                self.writer.file_writer.add_summary(summary)
        for name, value in results.items():
            self.add_scalar(name, value)

    def close(self) -> None:
        """Let go of the TensorBoard file."""
        writer, self._writer = self._writer, None
        try:
            with self._tensorboard_errors():
                if writer is not None:
                    writer.close()
                error, self._thread_error = self._thread_error, None
                if error is not None:
                    raise error
        finally:
            if self._hook_before is not None:
                threading.excepthook, self._hook_before = self._hook_before, None
