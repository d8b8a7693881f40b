"""SIGKILL at random moments, 100 times: the answer is that of an undisturbed run."""

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time

import pytest

from tests.test_experiments import CONFIG, ROOT, command, outcome, trainings

pytestmark = pytest.mark.faults
KILLS = {"search": 40, "train": 40, "export": 20}
LONGEST = 600  # seconds of a command


class Command:
  """A command that is killed after a number of changes to the files of its folder.

  Moments are counted in changes, not in seconds, so that they do not depend on the machine.

  Attributes:
    changes: Those that the last run saw.
  """

  def __init__(self, arguments, folder):
    self.arguments, self.folder, self.changes = arguments, folder, 0

  def run(self, most=None, delay=0.0):
    """Runs it; kills it so many seconds after its `most`th change. Returns whether it ended."""
    self.changes, state = 0, self._state()
    with tempfile.TemporaryFile("w+") as out:
      process = subprocess.Popen(self.arguments, cwd=ROOT, stdout=out, stderr=out)
      ends = time.monotonic() + LONGEST
      while process.poll() is None and time.monotonic() < ends:
        time.sleep(0.002)
        if (new := self._state()) != state:
          state, self.changes = new, self.changes + 1
          if most is not None and self.changes >= most:
            time.sleep(delay)
            break
      ended = process.poll() is not None
      process.kill()  # SIGKILL
      process.wait()
      out.seek(0)
      assert not ended or process.returncode == 0, out.read()
    return ended

  def _state(self):
    found = []
    for folder, _, names in os.walk(self.folder):
      for name in names:
        with contextlib.suppress(FileNotFoundError):
          stat = os.stat(os.path.join(folder, name))
          found.append((folder, name, stat.st_size, stat.st_mtime_ns))
    return sorted(found)


def search_in(workdir):
  return Command(command("search", f"--workdir={workdir}", "--cpu_devices=1"), workdir)


def train_in(workdir):
  flags = f"--workdir={workdir}", "--architecture=e2 . | e2 e4g2se", "--cpu_devices=1"
  rhythm = "--config.final.epochs=3", "--config.final.checkpoint_every=0.3"
  return Command(command("train", *flags, *rhythm), workdir)


def export_in(workdir):
  arguments = [sys.executable, "-m", "experiments.export", CONFIG, f"--workdir={workdir}"]
  return Command(arguments, workdir)


def check_whole(workdir):
  """Every file that has its own name is whole."""
  for path in workdir.rglob("*.json"):
    if "orbax-checkpoint-tmp" not in str(path):  # Its name says that it is unfinished.
      json.loads(path.read_text())
  for path in workdir.rglob("*.html"):
    assert path.read_text().rstrip().endswith("</html>")
  for path in workdir.rglob("*.jsonl"):
    # What a kill cut short is left out; all other lines are whole.
    *lines, _ = path.read_bytes().split(b"\n")
    assert all(json.loads(line) for line in lines)


def killed_until_done(make, workdir, kills, changes, check):
  """Kills a command so often, in new folders once it is done; checks every end.

  Args:
    make: Makes the command of a folder.
    workdir: Where the folders are.
    kills: How often it is killed.
    changes: Those of an undisturbed run.
    check: Compares with an undisturbed run.
  """
  rng, number = random.Random(kills), 0
  while kills:
    folder = workdir / str(number)
    current, before, ended = make(folder), {}, False
    while kills and not ended:
      ended = current.run(rng.randint(1, changes), rng.choice([0, rng.uniform(0, 0.2)]))
      kills -= not ended
      check_whole(folder)
      before = check.kept(folder, before)
    assert ended or current.run()
    check.end(folder)
    number += 1


class SearchCheck:
  def __init__(self, expected):
    self.expected = expected

  def kept(self, folder, before):
    """The journal only grows."""
    journal = folder / "evaluations.jsonl"
    lines = journal.read_bytes() if journal.exists() else b""
    known = before.get("lines", b"")
    whole = lines[: lines.rfind(b"\n") + 1]
    assert whole.startswith(known)
    return {"lines": whole}

  def end(self, folder):
    found = trainings(folder)
    assert len(set(found)) == len(found)  # Nothing was trained twice.
    assert sorted(found) == sorted(trainings(self.expected))
    assert outcome(folder) == outcome(self.expected)
    assert not list(folder.glob("*.part"))


class TrainCheck:
  def __init__(self, expected):
    self.expected = self._of(expected)

  def _of(self, folder):
    lines = (folder / "train" / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    metrics = json.loads((folder / "train" / "metrics.json").read_text())
    steps = [{k: v for k, v in row.items() if k != "images_per_second"} for row in rows]
    return metrics["test"], metrics["steps"], steps

  def kept(self, folder, before):
    """A checkpoint is done once it has its name; the last one stays."""
    names = [p.name for p in (folder / "train" / "checkpoints").glob("*") if p.name.isdigit()]
    last = max(map(int, names), default=0)
    assert last >= before.get("last", 0)
    return {"last": last}

  def end(self, folder):
    assert self._of(folder) == self.expected


class ExportCheck:
  def __init__(self, expected):
    self.expected = self._of(expected)

  def _of(self, folder):
    names = ("model.onnx", "model_int8.onnx", "model.tflite", "model_int8.tflite")
    content = json.loads((folder / "model" / "export.json").read_text())
    return {name: (folder / "model" / name).read_bytes() for name in names}, content["accuracy"]

  def kept(self, folder, before):
    return before

  def end(self, folder):
    assert self._of(folder) == self.expected


def test_search(tmp_path):
  whole = search_in(tmp_path / "whole")
  assert whole.run()
  check = SearchCheck(tmp_path / "whole")
  killed_until_done(search_in, tmp_path, KILLS["search"], whole.changes, check)


def test_train(tmp_path):
  whole = train_in(tmp_path / "whole")
  assert whole.run()
  check = TrainCheck(tmp_path / "whole")
  killed_until_done(train_in, tmp_path, KILLS["train"], whole.changes, check)


def test_export(tmp_path):
  trained = tmp_path / "trained"
  assert train_in(trained).run()

  def make(folder):
    shutil.copytree(trained, folder)
    return export_in(folder)

  whole = make(tmp_path / "whole")
  assert whole.run()
  check = ExportCheck(tmp_path / "whole")
  killed_until_done(make, tmp_path, KILLS["export"], whole.changes, check)
