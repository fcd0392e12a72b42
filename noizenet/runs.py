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
import time
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
from noizenet.learner.fit import StepReport

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
        self._writer = None

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
        write_text(folder / "config.json", json.dumps(configs.to_dict(config), indent=2) + "\n")
        write_text(folder / "run.json", json.dumps(_facts(), indent=2) + "\n")
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

    def discard(self) -> None:
        """Remove a folder in which nothing has happened yet."""
        self.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- writing down ------------------------------------------------------------------------

    @property
    def writer(self):
        """The TensorBoard writer, opened when first used (it takes a second to import)."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(self.folder / "tensorboard", flush_secs=20)
        return self._writer

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

    def _metric(self, **values: Any) -> None:
        self._append("metrics.jsonl", json.dumps(values) + "\n")

    @contextlib.contextmanager
    def progress_bar(self, share_done: float):
        """Show how far training is until the block ends."""
        layout = "{l_bar}{bar}| {elapsed}<{remaining}{postfix}"
        self._bar = tqdm(total=1.0, initial=share_done, bar_format=layout, dynamic_ncols=True)
        with self._bar:
            try:
                yield
            finally:
                self._bar.refresh()
        self._bar = None

    def step(self, report: StepReport) -> None:
        if self._bar is not None:
            self._bar.set_postfix_str(
                f"epoch {report.epoch + 1}, loss {report.loss:.3f}, "
                f"{report.numbers_per_s:,.0f} {self.unit}s/s",
                refresh=False,
            )
            self._bar.update(report.share_done - self._bar.n)
        for name, value in (
            ("train/loss", report.loss),
            ("train/gradient_norm", report.gradient_norm),
            ("train/learning_rate", report.lr),
            (f"train/{self.unit}s_per_second", report.numbers_per_s),
        ):
            self.writer.add_scalar(name, value, report.step)
        self._metric(**vars(report))

    def validated(self, step: int, bits: float, best: bool) -> None:
        self.writer.add_scalar("valid/bits_per_sample", bits, step)
        self._metric(step=step, valid_bits_per_sample=bits, best=best)

    def save(self, tensors: dict[str, Tensor], progress: dict, best: bool) -> None:
        name = "best" if best else "last"
        facts = {"progress": progress, "config": configs.to_dict(self.config)}
        save_checkpoint(self.checkpoint(name), {**tensors, **self.extra}, facts)

    def checkpoint(self, name: str) -> Path:
        """Path of the ``last`` or ``best`` checkpoint."""
        return self.folder / "checkpoints" / f"{name}.safetensors"

    def metrics(self) -> list[dict[str, Any]]:
        """All lines of metrics.jsonl, oldest first."""
        path = self.folder / "metrics.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def add_sound(self, name: str, samples: np.ndarray, sample_rate_hz: int, step: int) -> None:
        """Let TensorBoard play a sound."""
        audible = torch.from_numpy(np.clip(samples, -1, 1))[None]
        self.writer.add_audio(name, audible, step, sample_rate=sample_rate_hz)

    def add_picture(self, name: str, pixels: np.ndarray, step: int) -> None:
        """Show an (H, W, 3) picture in TensorBoard."""
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
        for summary in hparams(plain, results):
            self.writer.file_writer.add_summary(summary)
        for name, value in results.items():
            self.writer.add_scalar(name, value)

    def close(self) -> None:
        """Let go of the TensorBoard file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
