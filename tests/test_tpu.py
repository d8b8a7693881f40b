"""What the Cloud TPU scripts would run."""

import os
import pathlib
import shlex
import subprocess

import pytest

FOLDER = pathlib.Path(__file__).parent.parent / "experiments" / "tpu"


def dry_run(name, *arguments, **settings):
  done = subprocess.run(
    [FOLDER / f"{name}.sh", "--dry_run", *arguments],
    capture_output=True,
    text=True,
    env=os.environ | {"TPU_NAME": "mine", "ZONE": "zone-a"} | settings,
  )
  assert done.returncode == 0, done.stderr
  return [shlex.split(line) for line in done.stdout.splitlines()]


GCLOUD = ["gcloud", "compute", "tpus", "tpu-vm"]


@pytest.mark.parametrize("name", ["create", "install", "data", "launch", "collect", "delete"])
def test_every_command_names_the_tpu_and_its_zone(name):
  arguments = {"launch": ["train", "run"], "collect": ["run"]}.get(name, [])
  found = dry_run(name, *arguments, BUCKET="gs://bucket")
  commands = [words for words in found if words[0] == "gcloud"]
  assert commands
  for words in commands:
    assert words[:4] == GCLOUD
    assert words[4] == {"create": "create", "delete": "delete", "collect": "scp"}.get(
      name, words[4]
    )
    assert "--zone=zone-a" in words
    assert any(word.partition(":")[0] == "mine" for word in words)


def test_create_takes_flags_of_gcloud():
  (words,) = dry_run("create", "--spot", ACCELERATOR_TYPE="v5litepod-8")
  assert "--accelerator-type=v5litepod-8" in words
  assert words[-1] == "--spot"


def test_launch_without_flags_passes_none():
  (words,) = dry_run("launch", "search", "run")
  started = shlex.split(words[-1].removeprefix("--command="))
  inner = started[started.index("-c") + 1]
  assert inner == ".venv/bin/python -m experiments.search --distributed --workdir=runs/run"


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_dry_run_may_stand_anywhere(place):
  arguments = ["train", "run", "--seed=1"]
  arguments.insert(place, "--dry_run")
  environment = os.environ | {"PATH": "/usr/bin:/bin", "TPU_NAME": "mine"}
  done = subprocess.run(
    [FOLDER / "launch.sh", *arguments], capture_output=True, text=True, env=environment
  )
  assert done.returncode == 0
  assert done.stdout.startswith("gcloud compute tpus tpu-vm ssh mine")


def test_help_says_the_usage():
  done = subprocess.run([FOLDER / "create.sh", "--help"], capture_output=True, text=True)
  assert done.returncode == 0
  assert "Usage: experiments/tpu/create.sh" in done.stdout


@pytest.mark.parametrize("command", ["search", "train"])
def test_launch_starts_every_worker(command):
  flag = "--architecture=e6 e3 | e6"
  (words,) = dry_run("launch", command, "run", flag)
  assert "--worker=all" in words
  started = shlex.split(words[-1].removeprefix("--command="))
  inner = shlex.split(started[started.index("-c") + 1])
  assert flag in inner
  assert {"--distributed", "--workdir=runs/run", f"experiments.{command}"} <= set(inner)


def test_launch_with_a_bucket_keeps_the_run_there_and_goes_on_from_it(tmp_path):
  first, second = dry_run("launch", "train", "run", "--seed=1", BUCKET="gs://bucket")
  assert "--worker=0" in first
  assert "gcloud storage rsync --recursive gs://bucket/run runs/run" in first[-1]
  assert "--worker=all" in second
  for command in (first[-1], second[-1]):
    subprocess.run(["sh", "-n", "-c", command.removeprefix("--command=")], check=True)
  # What every worker runs, with programs that only say how they were called.
  folder = tmp_path / "nas_submod"
  (folder / ".venv" / "bin").mkdir(parents=True)
  (folder / "runs" / "run").mkdir(parents=True)
  for program in (folder / ".venv" / "bin" / "python", tmp_path / "gcloud"):
    program.write_text(f'#!/bin/sh\necho {program.name} "$@"\nexit 75\n')
    program.chmod(0o755)
  worker = second[-1].removeprefix("--command=") + "; wait"
  environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
  subprocess.run(
    ["bash", "-c", worker.replace("&)", ")")], cwd=tmp_path, env=environment, check=False
  )
  assert (folder / "run.log").read_text().splitlines() == [
    "python -m experiments.train --distributed --workdir=runs/run --seed=1",
    "gcloud storage rsync --recursive runs/run gs://bucket/run",
  ]


@pytest.mark.parametrize(
  ("script", "arguments", "message"),
  [
    ("launch", ["train"], "name of the run"),
    ("launch", ["run", "--config=x"], 'unknown command "run"'),
    ("data", [], "gs://NAME"),
  ],
)
def test_what_is_missing_is_said(script, arguments, message):
  environment = {name: value for name, value in os.environ.items() if name != "BUCKET"}
  found = [FOLDER / f"{script}.sh", "--dry_run", *arguments]
  done = subprocess.run(found, capture_output=True, text=True, env=environment)
  assert done.returncode != 0
  assert message in done.stderr
