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


@pytest.mark.parametrize("name", ["create", "install", "launch", "collect", "delete"])
def test_every_command_names_the_tpu_and_its_zone(name):
  arguments = ["run"] if name in ("launch", "collect") else []
  commands = [words for words in dry_run(name, *arguments) if words[0] == "gcloud"]
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


def test_launch_starts_every_worker_and_worker_0_keeps_the_bucket():
  flag = "--architecture=e6 e3 | e6"
  first, second = dry_run("launch", "run", flag, BUCKET="gs://bucket")
  assert "--worker=0" in first
  assert "gcloud storage rsync --recursive gs://bucket/run runs/run" in first[-1]
  assert "--worker=all" in second
  inner = second[-1].removeprefix("--command=")
  words = shlex.split(inner)
  assert flag in words
  assert {"--distributed", "--workdir=runs/run", "experiments.train"} <= set(words)
  (alone,) = dry_run("launch", "run", flag)
  assert alone == second
  for command in (inner, first[-1].removeprefix("--command=")):
    subprocess.run(["sh", "-n", "-c", command], check=True)


def test_launch_without_a_name_says_what_is_missing():
  done = subprocess.run([FOLDER / "launch.sh"], capture_output=True, text=True)
  assert done.returncode != 0
  assert "name of the run" in done.stderr
