"""What a training says of itself on disk: one JSON object a line, and TensorBoard events."""

import json
import os
import pathlib
from collections.abc import Mapping

import jax
from tensorboardX import SummaryWriter

METRICS_FILE = "metrics.jsonl"


class MetricsLog:
  """Numbers by step; a context manager. Only process 0 writes."""

  def __init__(self, workdir: pathlib.Path, first: int):
    """Opens the files, and takes out what a run that goes on from step `first` will say again."""
    self._path = workdir / METRICS_FILE
    self._events: SummaryWriter | None = None
    if jax.process_index() == 0:
      self._keep_until(first)
      self._events = SummaryWriter(str(workdir / "tensorboard"), purge_step=first + 1)

  def _keep_until(self, step: int) -> None:
    if not self._path.exists():
      return
    content = self._path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1].splitlines(keepends=True)
    kept = [line for line in whole if json.loads(line)["step"] <= step]
    temporary = self._path.with_name(self._path.name + ".part")
    temporary.write_bytes(b"".join(kept))
    temporary.replace(self._path)

  def __enter__(self) -> "MetricsLog":
    return self

  def __exit__(self, *_: object) -> None:
    if self._events is not None:
      self._events.close()

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Adds the numbers of a step; when it returns they are on disk."""
    if self._events is None:
      return
    with self._path.open("a") as file:
      file.write(json.dumps({"step": step, **values}) + "\n")
      file.flush()
      os.fsync(file.fileno())
    for name, value in values.items():
      self._events.add_scalar(name, value, step)
    self._events.flush()
