"""The scripts for Cloud TPU, with a stand-in for gcloud."""

import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests import gcloud_stub

ROOT = pathlib.Path(__file__).parent.parent
FOLDER = ROOT / "experiments" / "tpu"


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
SUBCOMMANDS = {
  "create": ["create"],
  "install": ["scp", "ssh"],
  "data": ["ssh"],
  "launch": ["ssh", "ssh"],
  "collect": ["scp"],
  "delete": ["delete"],
}


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_command_names_the_tpu_and_its_zone(name):
  arguments = {"launch": ["train", "run"], "collect": ["run"]}.get(name, [])
  found = dry_run(name, *arguments, BUCKET="gs://bucket")
  commands = [words for words in found if words[0] == "gcloud"]
  assert [words[4] for words in commands] == SUBCOMMANDS[name]
  for words in commands:
    assert words[:4] == GCLOUD
    assert "--zone=zone-a" in words
    assert any(word.partition(":")[0] == "mine" for word in words)


def test_create_takes_flags_of_gcloud():
  (words,) = dry_run("create", "--spot", ACCELERATOR_TYPE="v5litepod-8")
  assert "--accelerator-type=v5litepod-8" in words
  assert words[-1] == "--spot"


def test_launch_without_flags_passes_none():
  (words,) = dry_run("launch", "search", "run")
  started = shlex.split(words[-1].removeprefix("--command="))
  command = ".venv/bin/python -m experiments.search --distributed --workdir=runs/run"
  [begin, end] = started.index("run"), started.index("<")
  assert started[begin:end] == ["run", "run", "", *command.split()]


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_dry_run_works_at_any_place(place):
  arguments = ["train", "run", "--seed=1"]
  arguments.insert(place, "--dry_run")
  environment = os.environ | {"PATH": "/usr/bin:/bin", "TPU_NAME": "mine"}
  done = subprocess.run(
    [FOLDER / "launch.sh", *arguments], capture_output=True, text=True, env=environment
  )
  assert done.returncode == 0
  assert done.stdout.startswith("gcloud compute tpus tpu-vm ssh mine")


def test_help_prints_the_usage():
  done = subprocess.run([FOLDER / "create.sh", "--help"], capture_output=True, text=True)
  assert done.returncode == 0
  assert "Usage: experiments/tpu/create.sh" in done.stdout


@pytest.mark.parametrize("command", ["search", "train"])
def test_launch_starts_every_worker(command):
  flag = "--architecture=e6 e3 | e6"
  (words,) = dry_run("launch", command, "run", flag)
  assert "--worker=all" in words
  started = shlex.split(words[-1].removeprefix("--command="))
  assert flag in started
  assert {"--distributed", "--workdir=runs/run", f"experiments.{command}"} <= set(started)


def stub(folder):
  """Puts a stand-in for gcloud into a folder."""
  gcloud = folder / "gcloud"
  source = (ROOT / "tests" / "gcloud_stub.py").read_text(encoding="utf-8")
  gcloud.write_text(f"#!{sys.executable} -IS\n{source}", encoding="utf-8")
  gcloud.chmod(0o755)


@pytest.mark.parametrize("bucket", ["", "gs://bucket"])
def test_gcloud_takes_every_command(bucket, tmp_path):
  stub(tmp_path)
  log = tmp_path / "gcloud.log"
  environment = os.environ | {
    "PATH": f"{tmp_path}:{os.environ['PATH']}",
    "GCLOUD_LOG": str(log),
    "GIT_DIR": str(ROOT / ".git"),
    "TPU_NAME": "mine",
    "ZONE": "zone-a",
    "BUCKET": bucket,
  }
  scripts = {name: [] for name in SUBCOMMANDS if bucket or name != "data"}
  scripts |= {"create": ["--spot"], "launch": ["search", "run", "--seed=1"], "collect": ["run"]}
  for name, arguments in scripts.items():
    done = subprocess.run(
      [FOLDER / f"{name}.sh", *arguments],
      cwd=tmp_path,
      env=environment,
      capture_output=True,
      text=True,
    )
    assert done.returncode == 0, done.stderr
  called = [line.split()[4] for line in log.read_text().splitlines()]
  expected = [sub for name in scripts for sub in SUBCOMMANDS[name]]
  if not bucket:
    expected.remove("ssh")  # Nothing to fetch before a launch.
  assert called == expected


@pytest.mark.parametrize(
  ("words", "said"),
  [
    ("compute tpus tpu-vm create mine --zone=a --version=v --spott", "spott"),
    ("compute tpus tpu-vm create mine --zone=a", "version"),
    ("compute tpus tpu-vm stopp mine", "Invalid choice"),
    ("storage rsync --recursive runs", "1 arguments"),
  ],
)
def test_the_stand_in_refuses_what_gcloud_refuses(words, said):
  assert said in gcloud_stub.fault(words.split())


@pytest.fixture
def host(tmp_path):
  """Starts a command on a host whose python only prints, with a stand-in for gcloud."""
  folder = tmp_path / "nas_submod"
  (folder / ".venv" / "bin").mkdir(parents=True)
  (folder / "experiments" / "tpu").mkdir(parents=True)
  shutil.copy(FOLDER / "host.sh", folder / "experiments" / "tpu")
  (tmp_path / "bucket").mkdir()
  python = folder / ".venv" / "bin" / "python"
  python.write_text('#!/bin/sh\necho $JAX_COMPILATION_CACHE_DIR python "$@"; sleep 30 & wait\n')
  python.chmod(0o755)
  stub(tmp_path)

  def start(words):
    command = words[-1].removeprefix("--command=")
    environment = os.environ | {
      "PATH": f"{tmp_path}:{os.environ['PATH']}",
      "HOME": str(tmp_path),
      "GCLOUD_LOG": str(tmp_path / "gcloud.log"),
      "GCLOUD_BUCKET": str(tmp_path / "bucket"),
    }
    # In the foreground and in a new session, so that a signal reaches all its processes.
    command = command.replace(" &)", ")")
    return subprocess.Popen(
      ["bash", "-c", command], cwd=tmp_path, env=environment, start_new_session=True
    )

  return start, tmp_path


def wait_for(file, content, times=1):
  for _ in range(500):
    if file.exists() and file.read_text().count(content) >= times:
      return
    time.sleep(0.02)
  raise AssertionError(f"{content!r} is not in {file}")


def run_files(folder, **content):
  folder.mkdir(parents=True, exist_ok=True)
  for name, text in content.items():
    (folder / name).write_text(text)


def read_files(folder):
  return {path.name: path.read_text() for path in folder.iterdir() if path.name != ".copy_id"}


def test_a_notice_to_a_host_copies_the_run_to_the_bucket(host):
  start, folder = host
  flag = "--config.space.name=é\t$(x)"
  restore, words = dry_run("launch", "train", "run", flag, BUCKET="gs://bucket/", LC_ALL="C")
  run_files(folder / "nas_submod" / "runs" / "run", first="1", second="2")
  assert start(restore).wait() == 0
  process = start(words)
  called = (
    f"gs://bucket/programs python -m experiments.train --distributed --workdir=runs/run {flag}\n"
  )
  wait_for(folder / "nas_submod" / "run.log", called)
  os.killpg(process.pid, signal.SIGTERM)
  process.wait()
  kept = folder / "bucket" / "run"
  wait_for(kept / "complete", "\n")
  to = (kept / "complete").read_text().strip()
  assert read_files(kept / to) == {"first": "1", "second": "2"}


def test_worker_0_keeps_copying_and_a_copy_that_is_cut_short_hides_none(host):
  start, folder = host
  restore, run = dry_run("launch", "train", "run", BUCKET="gs://bucket", COPY_EVERY="1")
  assert "--worker=0" in restore and "--worker=all" in run
  kept, own = folder / "bucket" / "run", folder / "nas_submod" / "runs" / "run"
  run_files(kept / "b", full="")  # Copies to b are cut short.
  run_files(own, first="old", second="old")
  assert start(restore).wait() == 0
  process = start(run)
  wait_for(kept / "complete", "a")
  run_files(own, first="new", second="new")
  wait_for(kept / "b" / "first", "new")
  os.killpg(process.pid, signal.SIGKILL)
  process.wait()
  assert (kept / "complete").read_text() == "a\n" and not (kept / "b" / "second").exists()

  # A run on the disk is newer than the bucket's, and stays. Without one, the complete copy comes.
  for left, expected in ((True, "new"), (False, "old")):
    if not left:
      own.rename(folder / "gone")
    assert start(restore).wait() == 0
    assert read_files(own) == {"first": expected, "second": expected}


def test_a_bucket_that_cannot_be_read_loses_no_copy(host):
  start, folder = host
  restore, run = dry_run("launch", "train", "run", BUCKET="gs://bucket", COPY_EVERY="1")
  kept, own = folder / "bucket" / "run", folder / "nas_submod" / "runs" / "run"
  run_files(kept, complete="a\n", unreadable="")
  run_files(kept / "a", first="old")
  assert start(restore).wait() != 0 and not own.exists()
  run_files(own, first="new")
  process = start(run)
  wait_for(folder / "nas_submod" / "run.log", "ERROR", times=2)
  os.killpg(process.pid, signal.SIGKILL)
  process.wait()
  assert read_files(kept / "a") == {"first": "old"} and not (kept / "b").exists()


def test_a_host_with_an_old_run_copies_nothing(host):
  start, folder = host
  run_files(folder / "nas_submod" / "runs" / "run", first="old")
  run = ["cd nas_submod && experiments/tpu/host.sh run run gs://bucket true"]
  assert start(run).wait() == 0 and not list((folder / "bucket").iterdir())
  restore, _ = dry_run("launch", "train", "run", BUCKET="gs://bucket")
  assert start(restore).wait() == start(run).wait() == 0
  assert read_files(folder / "bucket" / "run" / "a") == {"first": "old"}


def test_a_second_run_on_a_host_is_refused(host):
  start, folder = host
  (words,) = dry_run("launch", "train", "run")
  first = start(words)
  wait_for(folder / "nas_submod" / "run.log", "python")
  second = start(words)
  assert second.wait() == 1 and first.poll() is None
  log = folder / "nas_submod" / "run.log"
  wait_for(log, "error: a run is active on this host")
  os.killpg(first.pid, signal.SIGTERM)
  first.wait()
  wait_for(log, "exit code")
  assert "python -m experiments.train" in log.read_text().splitlines()[0]  # It is not cut.


def test_a_run_never_replaces_copies_of_another_one(host):
  start, folder = host
  restore, run = dry_run("launch", "train", "run", BUCKET="gs://bucket", COPY_EVERY="1")
  kept, own = folder / "bucket" / "run", folder / "nas_submod" / "runs" / "run"
  run_files(kept, complete="a\n")
  run_files(kept / "a", step="1000", **{".copy_id": "1"})
  run_files(own, step="1")  # Of a launch that did not name the bucket.
  assert start(restore).wait() != 0 and read_files(own) == {"step": "1"}
  process = start(run)
  wait_for(folder / "nas_submod" / "run.log", "holds another run")
  os.killpg(process.pid, signal.SIGKILL)
  process.wait()
  assert read_files(kept / "a") == {"step": "1000"} and not (kept / "b").exists()


def test_a_first_copy_that_was_cut_short_is_no_run(host):
  start, folder = host
  restore, _ = dry_run("launch", "train", "run", BUCKET="gs://bucket", COPY_EVERY="1")
  run_files(folder / "bucket" / "run" / "a", first="1")
  assert start(restore).wait() == 0
  assert not (folder / "nas_submod" / "runs" / "run").exists()


def test_data_come_from_the_bucket(host):
  start, folder = host
  (words,) = dry_run("data", BUCKET="gs://bucket")
  run_files(folder / "bucket" / "data" / "cifar100", images="1")
  assert start(words).wait() == 0
  assert read_files(folder / "nas_submod" / "data" / "cifar100") == {"images": "1"}


@pytest.mark.parametrize(
  ("script", "arguments", "message"),
  [
    ("launch", ["train"], "name of the run"),
    ("launch", ["run", "--config=x"], 'unknown command "run"'),
    ("launch", ["train", "my run"], 'the name "my run"; allowed: letters'),
    ("launch", ["train", "a/b"], 'the name "a/b"'),
    ("launch", ["train", "programs"], "not data or programs"),
    ("launch", ["train", "run", "--workdir=elsewhere"], "--workdir=elsewhere; this script sets"),
    ("launch", ["train", "run", "--nodistributed"], "--nodistributed; this script sets"),
    ("launch", ["train", "run", "--dry_run=true"], "--dry_run=true; allowed: --dry_run"),
    ("collect", ["../run"], 'the name "../run"; allowed: letters'),
    ("delete", ["mine"], 'unknown argument "mine"'),
    ("data", [], "gs://NAME"),
  ],
)
def test_missing_arguments_are_named(script, arguments, message):
  environment = {name: value for name, value in os.environ.items() if name != "BUCKET"}
  found = [FOLDER / f"{script}.sh", "--dry_run", *arguments]
  done = subprocess.run(found, capture_output=True, text=True, env=environment)
  assert done.returncode != 0
  assert message in done.stderr


@pytest.mark.parametrize("seconds", ["0", "5min", "5 m"])
def test_a_wrong_time_between_copies_is_refused(seconds):
  script = pathlib.Path(__file__).parent.parent / "experiments/tpu/settings.sh"
  done = subprocess.run(
    ["bash", str(script)], env={"COPY_EVERY": seconds}, capture_output=True, text=True, check=False
  )
  assert done.returncode == 2 and f"COPY_EVERY={seconds}; allowed: whole seconds" in done.stderr
