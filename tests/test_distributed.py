"""Several processes train and search like one; only process 0 writes, and all stop together."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.test_experiments import outcome, trainings
from tests.test_final import losses, wait_for_step

ROOT = pathlib.Path(__file__).parent.parent


def free_port():
  with socket.socket() as found:
    found.bind(("localhost", 0))
    return found.getsockname()[1]


@pytest.fixture(scope="module")
def start(digits_npz):
  """A function that starts a command in several processes, each with several CPU devices."""

  def start(workdir, processes, devices, *flags, module="train", of_process=None):
    command = [sys.executable, "-m", f"experiments.{module}", "--config=tests/tiny_config.py"]
    command += [f"--config.data.source=npz:{digits_npz}", f"--cpu_devices={devices}"]
    command += [f"--workdir={workdir}", *flags]
    if processes > 1:
      command += ["--distributed", f"--coordinator_address=localhost:{free_port()}"]
      command += [f"--num_processes={processes}"]
    workdir.mkdir(exist_ok=True)
    started = []
    for i in range(processes):
      own = [f"--process_id={i}"] if processes > 1 else []
      own += (of_process or {}).get(i, [])
      environment = os.environ | {"JAX_PLATFORMS": "cpu"}
      with (workdir / f"output{i}.txt").open("w") as out:
        started.append(
          subprocess.Popen([*command, *own], cwd=ROOT, env=environment, stdout=out, stderr=out)
        )
    return started

  return start


def training(steps):
  fields = {"epochs": 0.0, "log_every": 1, "checkpoint_every": 10, "steps": steps}
  return [f"--config.final.{n}={v}" for n, v in fields.items()] + ["--architecture=. | e2 e4g2se"]


def finish(processes, workdir, code=0):
  for i, process in enumerate(processes):
    assert process.wait(timeout=600) == code, (workdir / f"output{i}.txt").read_text()


def wait_for_trainings(processes, workdir, count):
  """Waits until a search has written as many lines of its journal."""
  journal = workdir / "evaluations.jsonl"
  while not (journal.exists() and journal.read_bytes().count(b"\n") >= count):
    assert all(process.poll() is None for process in processes)
    time.sleep(0.02)


_STREAM = ("--config.data.stream=True", "--config.data.image_size=8")


@pytest.mark.parametrize(
  "flags",
  [pytest.param((), id="held"), pytest.param(_STREAM, id="stream", marks=pytest.mark.slow)],
)
def test_two_processes_of_four_devices_train_as_one_device(start, tmp_path, flags):
  one, two = tmp_path / "one", tmp_path / "two"
  # Both at once, because most of the time is compilation.
  flags = *training(20), *flags
  running = start(one, 1, 1, *flags), start(two, 2, 4, *flags)
  finish(running[0], one)
  finish(running[1], two)
  expected, found = losses(one / "train"), losses(two / "train")
  assert list(found) == list(expected) == list(range(1, 21))
  # The order of float32 sums differs, and 20 steps amplify that.
  np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=1e-4)
  assert "test accuracy" in (two / "output0.txt").read_text()
  assert "test accuracy" not in (two / "output1.txt").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(("count", "devices"), [(2, 2), (4, 1)])
def test_a_notice_to_one_process_stops_all_and_all_go_on(start, tmp_path, count, devices):
  whole, pieces = tmp_path / "whole", tmp_path / "pieces"
  finish(start(whole, count, devices, *training(60)), whole)
  processes = start(pieces, count, devices, *training(60))
  wait_for_step(processes[0], pieces, 20)
  processes[1].send_signal(signal.SIGTERM)
  finish(processes, pieces, code=75)
  said = [(pieces / f"output{i}.txt").read_text() for i in range(count)]
  steps = {re.search(r"stopped on SIGTERM after step (\d+)", text)[1] for text in said}
  assert len(steps) == 1
  finish(start(pieces, count, devices, *training(60)), pieces)
  assert losses(pieces / "train") == losses(whole / "train")


def test_an_error_on_process_0_ends_all_processes(start, tmp_path):
  (tmp_path / "train").mkdir()
  (tmp_path / "train" / "config.json").write_text("{}")
  processes = start(tmp_path, 2, 1, *training(20))
  finish(processes, tmp_path, code=2)
  assert "holds another run" in (tmp_path / "output0.txt").read_text()
  assert "process 0 stopped with an error" in (tmp_path / "output1.txt").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("module", ["train", "search"])
@pytest.mark.parametrize("is_missing", [True, False])
def test_hosts_that_lack_data_or_have_others_end_all(
  start, tmp_path, digits_npz, module, is_missing
):
  """Each host reads its own copy, of which this one is another."""
  copy = tmp_path / "copy.npz"
  if not is_missing:
    with np.load(digits_npz) as arrays:
      content = dict(arrays)
    content["x_train"] = 255 - content["x_train"]
    np.savez(copy, **content)
  own = {1: [f"--config.data.source=npz:{copy}"]}
  flags = training(20) if module == "train" else []
  finish(start(tmp_path, 2, 1, *flags, module=module, of_process=own), tmp_path, code=2)
  first, second = ((tmp_path / f"output{i}.txt").read_text() for i in range(2))
  assert "process 1 stopped with an error; see its output" in first
  assert ("no file" if is_missing else "training images on process 1 are ") in second


@pytest.mark.slow
def test_two_processes_of_two_devices_search_as_one_device_killed_or_not(start, tmp_path):
  one, two = tmp_path / "one", tmp_path / "two"
  flags = ["--config.data.train_size=200", "--config.data.validation_size=100"]
  (alone,) = start(one, 1, 1, *flags, module="search")
  processes = start(two, 2, 2, *flags, module="search")
  wait_for_trainings(processes, two, 8)
  processes[1].kill()
  # The other process would wait 100 seconds before JAX ends it.
  processes[0].kill()
  for process in processes:
    process.wait()
  kept = len(trainings(two))
  finish(start(two, 2, 2, *flags, module="search"), two)
  finish([alone], one)
  assert outcome(two) == outcome(one)
  assert len(set(trainings(two))) == len(trainings(two)) >= kept
  found = json.loads((two / "result.json").read_text())
  assert found["evaluations"]["trained"] == len(trainings(two)) - kept
  assert found["compilations"] == 3
  assert "trained" in (two / "output0.txt").read_text()
  assert not re.search(r"params|madds", (two / "output1.txt").read_text())


@pytest.mark.slow
def test_a_search_of_four_processes_goes_on_after_a_notice_to_all(start, tmp_path):
  whole, pieces = tmp_path / "whole", tmp_path / "pieces"
  flags = ["--config.data.train_size=200", "--config.data.validation_size=100"]
  finish(start(whole, 4, 1, *flags, module="search"), whole)
  processes = start(pieces, 4, 1, *flags, module="search")
  wait_for_trainings(processes, pieces, 8)
  for process in processes:  # As when a TPU is taken away.
    process.send_signal(signal.SIGTERM)
  for process in processes:
    assert process.wait(timeout=600) != 0
  kept = len(trainings(pieces))
  assert 8 <= kept < len(trainings(whole))
  finish(start(pieces, 4, 1, *flags, module="search"), pieces)
  assert outcome(pieces) == outcome(whole)
  found = json.loads((pieces / "result.json").read_text())
  assert found["evaluations"]["trained"] == len(trainings(pieces)) - kept
