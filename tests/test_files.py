"""Files survive a kill: writes are atomic, and logs lose at most an unfinished last line."""

import json
import math
import os
import pathlib
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
    raise OSError(28, "no space left on device")

  monkeypatch.setattr(os, "fsync", full)
  with pytest.raises(OSError, match="no space left") as error:
    files.write_bytes(path, b"new")
  assert error.value.filename == str(path)
  assert path.read_bytes() == b"old"
  assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("torn", [b'{"step": 3', b"{", b"\0\0", b"\xff"])
def test_an_unfinished_last_line_is_not_read_and_is_cut_off_by_the_next(tmp_path, torn):
  path = tmp_path / "log.jsonl"
  files.append_lines(path, [{"step": 1}, {"step": 2}])
  whole = path.read_bytes()
  path.write_bytes(whole + torn)
  assert files.read_lines(path) == [b'{"step": 1}', b'{"step": 2}']
  assert path.read_bytes() == whole + torn  # Another process may be writing this line.
  files.append_lines(path, [{"step": 3}])
  assert [json.loads(line)["step"] for line in files.read_lines(path)] == [1, 2, 3]


def test_a_last_line_that_lacks_its_newline_alone_is_kept(tmp_path):
  path = tmp_path / "log.jsonl"
  path.write_bytes(b'{"step": 1}')
  assert files.read_lines(path) == [b'{"step": 1}']
  files.append_lines(path, [{"step": 2}])
  assert path.read_bytes() == b'{"step": 1}\n{"step": 2}\n'


@pytest.mark.parametrize("end", [b"\r", b"\r\n"])
def test_lines_that_an_editor_ended_in_its_way_are_kept(tmp_path, end):
  path = tmp_path / "log.jsonl"
  path.write_bytes(b'{"step": 1}' + end + b'{"step": 2}' + end)
  files.append_lines(path, [{"step": 3}])
  assert [json.loads(line)["step"] for line in files.read_lines(path)] == [1, 2, 3]


def test_infinity_and_nan_become_null(tmp_path):
  """JSON has neither, and other programs refuse the file."""
  content = {"value": -math.inf, "rows": [(1.5, math.nan)]}
  files.write_json(tmp_path / "result.json", content)
  files.append_lines(tmp_path / "log.jsonl", [content])
  for name in ("result.json", "log.jsonl"):
    found = json.loads((tmp_path / name).read_bytes(), parse_constant=pytest.fail)
    assert found == {"value": None, "rows": [[1.5, None]]}


def test_a_damaged_file_is_named(tmp_path):
  (tmp_path / "result.json").write_bytes(b'{"value": 1')
  with pytest.raises(ValueError, match=r"result\.json is damaged, it is no JSON: Expecting"):
    files.read_json(tmp_path / "result.json")


def test_paths_are_on_this_machine(monkeypatch):
  monkeypatch.setenv("HOME", "/home/me")
  assert files.local_path("~/x") == pathlib.Path("/home/me/x")
  assert files.local_path("a/b:c") == pathlib.Path("a/b:c")
  for text in ("gs://bucket/x", "s3://bucket"):
    with pytest.raises(ValueError, match=f"{text} is not on this machine.*with BUCKET"):
      files.local_path(text)


def test_appended_lines_are_synced_in_the_file_before_it_returns(tmp_path, monkeypatch):
  path, synced = tmp_path / "log.jsonl", []

  def fsync(descriptor):
    assert os.path.samestat(os.fstat(descriptor), path.stat())
    synced.append(path.read_bytes())

  monkeypatch.setattr(os, "fsync", fsync)
  files.append_lines(path, [1])
  files.append_lines(path, [2, 3])
  assert synced == [b"1\n", b"1\n2\n3\n"]
