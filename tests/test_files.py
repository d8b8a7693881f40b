"""Files survive a kill: writes are atomic, and logs lose at most an unfinished last line."""

import json
import os
import subprocess
import sys

import pytest

from nas_submod import files

# Executes the file alone, as importing the package loads JAX.
KILLED = """
import os, pathlib, sys
exec(pathlib.Path(sys.argv[2]).read_text())
{function} = lambda *_: os._exit(9)
write_json(pathlib.Path(sys.argv[1]), {{"new": 2}})
"""


@pytest.mark.parametrize("function", ["os.fsync", "pathlib.Path.replace"])
def test_a_kill_before_the_rename_leaves_the_old_content(tmp_path, function):
  path = tmp_path / "result.json"
  files.write_json(path, {"old": 1})
  code = KILLED.format(function=function)
  assert subprocess.run([sys.executable, "-c", code, path, files.__file__]).returncode == 9
  assert json.loads(path.read_text()) == {"old": 1}
  files.write_json(path, {"new": 2})
  assert json.loads(path.read_text()) == {"new": 2}


def test_two_writers_of_a_path_do_not_share_a_temporary_file(tmp_path, monkeypatch):
  """The second writes between the first one's write and rename."""
  path, pid = tmp_path / "file", os.getpid()
  fsync = os.fsync

  def other_writer(descriptor):
    fsync(descriptor)
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)
    files.write_bytes(path, b"second")
    assert path.read_bytes() == b"second"

  monkeypatch.setattr(os, "fsync", other_writer)
  files.write_bytes(path, b"first")
  assert path.read_bytes() == b"first"
  assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_content_and_no_temporary_file(tmp_path, monkeypatch):
  path = tmp_path / "file"
  files.write_bytes(path, b"old")

  def full(_):
    raise OSError("no space left on device")

  monkeypatch.setattr(os, "fsync", full)
  with pytest.raises(OSError, match="no space left"):
    files.write_bytes(path, b"new")
  assert path.read_bytes() == b"old"
  assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("torn", [b'{"step": 3', b'{"step": 3}', b"{"])
def test_an_unfinished_last_line_is_cut_off_the_file(tmp_path, torn):
  path = tmp_path / "log.jsonl"
  files.append_lines(path, [{"step": 1}, {"step": 2}])
  whole = path.read_bytes()
  path.write_bytes(whole + torn)
  assert files.read_lines(path) == [b'{"step": 1}', b'{"step": 2}']
  assert path.read_bytes() == whole
  files.append_lines(path, [{"step": 3}])
  assert [json.loads(line)["step"] for line in files.read_lines(path)] == [1, 2, 3]


def test_appended_lines_are_synced_in_the_file_before_it_returns(tmp_path, monkeypatch):
  path, synced = tmp_path / "log.jsonl", []

  def fsync(descriptor):
    assert os.path.samestat(os.fstat(descriptor), path.stat())
    synced.append(path.read_bytes())

  monkeypatch.setattr(os, "fsync", fsync)
  files.append_lines(path, [1])
  files.append_lines(path, [2, 3])
  assert synced == [b"1\n", b"1\n2\n3\n"]
