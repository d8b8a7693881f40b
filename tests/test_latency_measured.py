"""The measurement of a latency table: the networks drawn, the sweeps, the command."""

import csv
import itertools
import subprocess
import sys

import numpy as np
import pytest

from nas_submod import resources
from nas_submod.export import timing
from nas_submod.networks import spaces
from nas_submod.networks.parts import parts
from nas_submod.resources.latency import by_part, fit, from_table, samples
from nas_submod.resources.latency.sheet import parse
from tests import tiny_config
from tests.latency_cases import (
  DIGITS,
  ROOT,
  write,
)
from tests.start_sets import contains_start

# Networks that fit and check


def test_samples_are_distinct_networks_and_checks_have_equal_multiply_adds():
  drawn = samples.draw(DIGITS, 13, 12, madds=150e3)
  assert len(drawn.fit) == 13 and len(drawn.check) == 12
  assert not set(drawn.fit) & set(drawn.check)
  for key, madds in (drawn.fit | drawn.check).items():
    assert contains_start(DIGITS, DIGITS.from_key(key))
    assert resources.network_cost(DIGITS, DIGITS.from_key(key))["madds"] == madds
  checks = list(drawn.check.values())
  assert max(checks) < 1.02 * min(checks) and abs(np.mean(checks) - 150e3) < 3e3
  assert max(drawn.fit.values()) > 4 * min(drawn.fit.values())
  tiny = spaces.from_config(tiny_config.get_config().space)
  few = samples.draw(tiny, 100, 100)
  assert len(few.fit) + len(few.check) == tiny.distinct()


def test_accuracy_counts_relative_errors_and_ranks():
  found = fit.accuracy(np.array([1.1, 1.8, 3.0]), np.array([1.0, 2.0, 3.0]))
  assert found == pytest.approx((0.2 / 3, 0.1, 1.0))
  assert np.isnan(fit.accuracy(np.ones(2), np.array([1.0, 2.0])).rank)
  assert fit.scaled(np.array([2.0, 4.0]), np.array([1.0, 2.0])) == pytest.approx(0.5)


# The measurement


def test_sweeps_run_everything_once_and_continue_from_the_log(tmp_path, monkeypatch):
  calls, clock = [], itertools.count()
  monkeypatch.setattr(timing.time, "thread_time", lambda: next(clock) * 1e-3)
  runs = {name: lambda name=name: calls.append(name) for name in "abc"}
  log = tmp_path / "log.jsonl"

  def interrupt(done):
    if done == 13:
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    timing.round_robin(runs, 30, log=log, settings={"x": 1}, show=interrupt)
  assert len(log.read_text().splitlines()) == 1 + 13
  times = timing.round_robin(runs, 30, log=log, settings={"x": 1})
  assert times == pytest.approx({"a": 1.0, "b": 1.0, "c": 1.0})
  assert len(log.read_text().splitlines()) == 1 + 30
  turns = [tuple(calls[i : i + 3]) for i in range(0, len(calls), 3)]
  assert len(turns) == 30 + 2  # One more at each start, which does not count.
  assert all(sorted(turn) == ["a", "b", "c"] for turn in turns) and len(set(turns)) > 1
  with pytest.raises(ValueError, match="holds sweeps of other settings, parts or versions"):
    timing.round_robin(runs, 30, log=log, settings={"x": 2})
  log.write_text("no log\n")
  with pytest.raises(ValueError, match="holds sweeps of other settings, parts or versions"):
    timing.round_robin(runs, 30, log=log)


def test_no_more_sweeps_count_than_are_asked_for(tmp_path, monkeypatch):
  times = iter([0.0, *[1.0] * 20, *[5.0] * 40])
  monkeypatch.setattr(timing, "sweep", lambda runs, rng, clock: [next(times)])
  monkeypatch.setattr(timing, "PERCENTILE", 100)
  log = tmp_path / "log.jsonl"
  assert timing.round_robin({"a": print}, 60, log=log) == {"a": 5.0}
  assert timing.round_robin({"a": print}, 20, log=log) == {"a": 1.0}


def test_programs_are_loaded_anew_and_percentiles_averaged(monkeypatch):
  # The first sweep of each set of programs does not count.
  times = iter([9.0, *[5.0] * 50, 9.0, *[3.0] * 50])
  monkeypatch.setattr(timing, "sweep", lambda runs, rng, clock: [next(times)])
  renewed = []
  found = timing.round_robin({"a": print}, 100, renew=lambda: renewed.append(1) or {"a": print})
  assert found == {"a": 4.0} and renewed == [1]


def command(*flags):
  line = [sys.executable, "-m", "experiments.measure_latency", "--config=tests/tiny_config.py"]
  return subprocess.run([*line, *flags], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
  ("path", "message"),
  [
    (".", "is a folder; allowed: the path of a file"),
    ("setup/t.csv", "cannot be written: "),
    ("setup", "exists, and may hold measurements: move it, or name another --output"),
  ],
)
def test_a_wrong_output_is_refused_before_anything_is_measured(tmp_path, path, message):
  (tmp_path / "setup").touch()
  done = command(f"--output={tmp_path / path}")
  assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1


def test_a_measured_table_limits_a_search(tmp_path):
  pytest.importorskip("onnx", reason="needs the extra export")
  pytest.importorskip("onnxruntime", reason="needs the extra export")
  table = tmp_path / "table.csv"
  done = command(f"--output={table}", "--sweeps=3", "--networks=3", "--checks=4")
  assert done.returncode == 0, done.stderr
  assert "3 to fit, of all sizes" in done.stdout and "4 to check" in done.stdout
  assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]
  space = spaces.from_config(tiny_config.get_config().space)
  sheet = parse(str(table), table.read_text())
  assert sheet.comments["runtime"].startswith("onnxruntime 1.")
  assert {"device", "threads", "date", "versions", "space", "correction_ms"} <= set(sheet.comments)
  found = by_part.read_measured(sheet)
  assert (len(found.parts), len(found.networks), len(found.checks)) == (len(parts(space)), 3, 4)
  known = resources.from_config({"latency": str(table)})
  costs = resources.network_cost(space, space.start, known)
  assert 0 < costs["latency_ms"] < sum(found.parts.values())
  assert known["latency_ms"].additive


@pytest.mark.slow
def test_parts_are_exported_and_filled_in_elsewhere(tmp_path):
  for package in ("onnx", "onnxruntime", "ai_edge_litert"):
    pytest.importorskip(package, reason="needs the extras export and tflite")
  space = spaces.from_config(tiny_config.get_config().space)
  done = command(f"--export_parts={tmp_path}", "--networks=2", "--checks=1")
  assert done.returncode == 0, done.stderr
  again = command(f"--export_parts={tmp_path}")
  assert again.returncode == 2 and "parts.csv exists, and may hold measurements" in again.stderr
  count = len(parts(space)) + 3
  assert len(list(tmp_path.glob("*.onnx"))) == len(list(tmp_path.glob("*.tflite"))) == count
  rows = list(csv.DictReader((tmp_path / "parts.csv").read_text().splitlines()[5:]))
  for row in rows:
    timing.prepare_onnxruntime(tmp_path / f"{row['file']}.onnx")()
    timing.prepare_litert(tmp_path / f"{row['file']}.tflite")()
  filled = [f"{row['part']},{1 if '/0.' not in row['part'] else 2.5}" for row in rows]
  table = write(tmp_path / "filled.csv", ["name,ms", *filled])
  with pytest.raises(ValueError, match="line 7: milliseconds is empty; allowed: a number"):
    from_table(f"{tmp_path}/parts.csv")
  done = command(f"--from_csv={table}", f"--output={tmp_path}/out.csv")
  assert done.returncode == 0, done.stderr
  assert "# correction_ms: " in (tmp_path / "out.csv").read_text()
