"""Full disks and folders that cannot be written: one line at every stage, nothing half done."""

import contextlib
import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.faults.test_kills import check_whole
from tests.test_experiments import CONFIG, ROOT, command

pytestmark = pytest.mark.faults


def mount(folder, *options):
  done = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True)
  if done.returncode:
    pytest.skip(f"a file system can only be mounted by root: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path):
  """A function that makes a file system of so many kilobytes, or one that is read-only."""
  folder = tmp_path / "disk"
  folder.mkdir()
  with contextlib.ExitStack() as mounted:

    def make(kilobytes):
      mount(folder, "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs")
      mounted.callback(subprocess.run, ["umount", str(folder)], check=True)
      return folder

    yield make


def fill(folder, left):
  """Fills a file system but for so many kilobytes."""
  free = shutil.disk_usage(folder).free // 1024
  (folder / "filler").write_bytes(bytes((free - left) * 1024))


def one_line(arguments):
  """Runs a command that must fail with one line; returns it, and what was printed."""
  done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=300)
  assert done.returncode in (1, 2), done.stdout + done.stderr
  assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
  return done.stderr, done.stdout


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """The folder of a search, trained too."""
  folder = tmp_path_factory.mktemp("finished")
  found = f"--architecture={folder}/result.json"
  for arguments in (command("search"), command("train", found)):
    subprocess.run(
      [*arguments, f"--workdir={folder}", "--cpu_devices=1"],
      cwd=ROOT,
      check=True,
      capture_output=True,
    )
  return folder


@pytest.mark.parametrize(
  ("kilobytes", "words", "has_answer"),
  [
    (4, "cannot be written: No space left on device", False),  # At the start.
    (12, "evaluations.jsonl: No space left on device; the trainings are kept", False),
    (20, "result.json: No space left on device; the trainings are kept", True),
    (60, "report.html: No space left on device; the trainings are kept", True),
  ],
)
def test_search(kilobytes, words, has_answer, disk):
  workdir = disk(kilobytes) / "run"
  search = command("search", f"--workdir={workdir}", "--cpu_devices=1")
  said, printed = one_line(search)
  assert words in said and ("\nvalue " in printed) == has_answer
  check_whole(workdir)
  before = (workdir / "evaluations.jsonl").read_bytes() if has_answer else b""
  subprocess.run(["mount", "-o", "remount,size=4m", str(workdir.parent)], check=True)
  done = subprocess.run(search, cwd=ROOT, capture_output=True, text=True, check=True)
  assert "\nvalue " in done.stdout
  assert (workdir / "evaluations.jsonl").read_bytes().startswith(before)


@pytest.mark.parametrize(
  ("kilobytes", "words"),
  [
    (8, "cannot be written: No space left on device"),
    (16, "tensorboard: No space left on device; the same command continues"),
    (24, "checkpoints: No space left on device; the same command continues"),
    (150, "checkpoints: No space left on device; the same command continues"),
  ],
)
def test_train(kilobytes, words, disk):
  workdir = disk(kilobytes) / "run"
  flags = f"--workdir={workdir}", "--architecture=e2 . | e2 .", "--cpu_devices=1"
  said, _ = one_line(command("train", *flags))
  assert words in said
  check_whole(workdir)
  subprocess.run(["mount", "-o", "remount,size=8m", str(workdir.parent)], check=True)
  subprocess.run(command("train", *flags), cwd=ROOT, capture_output=True, check=True)
  assert json.loads((workdir / "train" / "metrics.json").read_text())["steps"] == 18


@pytest.mark.parametrize(("left", "file"), [(0, "model.onnx"), (60, "export.json")])
def test_export(left, file, finished, disk):
  folder = disk(1000)
  workdir = shutil.copytree(finished, folder / "run")
  fill(folder, left)
  said, _ = one_line([sys.executable, "-m", "experiments.export", CONFIG, f"--workdir={workdir}"])
  assert said == f"error: {workdir}/model/{file}: No space left on device\n"
  assert not list((workdir / "model").glob("*.part"))


@pytest.mark.parametrize("folders", [1, 2])
def test_report(folders, finished, disk):
  folder = disk(2000)
  workdirs = [str(shutil.copytree(finished, folder / str(i))) for i in range(folders)]
  before = [(path, path.read_bytes()) for path in folder.rglob("report.html")]
  fill(folder, 0)
  said, _ = one_line(
    [sys.executable, "-m", "experiments.report", *workdirs, f"--output={folder}/comparison"]
  )
  assert said.startswith(f"error: {folder}/0/") and said.endswith(": No space left on device\n")
  assert before and all(path.read_bytes() == content for path, content in before)


def test_a_read_only_folder(finished, disk, tmp_path):
  folder = disk(2000)
  workdir = shutil.copytree(finished, folder / "run")
  subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
  search = command("search", f"--workdir={workdir}")
  for arguments in (
    search,
    [*search, "--dry_run"],
    command("search", f"--workdir={folder / 'new'}"),
    command("train", f"--workdir={workdir}", f"--architecture={workdir}/result.json"),
    [sys.executable, "-m", "experiments.export", CONFIG, f"--workdir={workdir}"],
  ):
    said, _ = one_line(arguments)
    assert "Read-only file system" in said and str(folder) in said
  report = [sys.executable, "-m", "experiments.report", str(workdir), f"--output={tmp_path}/out"]
  done = subprocess.run(report, cwd=ROOT, capture_output=True, text=True, check=True)
  assert f"{workdir} cannot be written\n{tmp_path}/out/run/: report.html" in done.stdout
  check_whole(tmp_path / "out")
  assert (tmp_path / "out" / "run" / "report.html").exists()


def test_a_full_standard_output(finished):
  """The work is done, and the exit status says that nobody read of it."""
  search = command("search", f"--workdir={finished}")
  buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
  with open("/dev/full", "w") as full:
    done = subprocess.run(
      search, cwd=ROOT, env=buffered, stdout=full, stderr=subprocess.PIPE, text=True
    )
  assert done.returncode == 1 and done.stderr.count("\n") == 1
  assert "No space left on device" in done.stderr
