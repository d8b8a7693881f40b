"""The benchmark of the input pipeline: the steps it times, and all its rows."""

import subprocess
import sys
import types

import pytest
from absl import flags
from absl.testing import flagsaver

from benchmarks import input_pipeline


@pytest.fixture(autouse=True)
def parsed():
  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()


def test_the_first_steps_are_not_timed(monkeypatch):
  now, closed, seen = [0.0], [], []
  monkeypatch.setattr(input_pipeline, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))

  def batches():
    try:
      for i in range(100):
        now[0] += 2.0 if i < 5 else 0.02  # Compilation slows the first steps.
        yield i
    finally:
      closed.append(True)

  with flagsaver.flagsaver(images=10, timed=20):
    speed = input_pipeline.images_per_second(seen.append, batches())
  assert seen == list(range(25)) and closed
  assert speed == pytest.approx(500)  # 10 images in 20 milliseconds.


@pytest.mark.slow
def test_every_row():
  arguments = ["--images=4", "--timed=2", "--threads=1,3", "--accelerators=5,100000"]
  command = [sys.executable, "-m", "benchmarks.input_pipeline", *arguments]
  said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600).stdout
  for what in (
    "threads: 1",
    "threads: 3",
    "model",
    "both",
    "accelerator limits",
    "pipeline limits",
  ):
    assert what in said, said
