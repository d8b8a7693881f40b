import pathlib
import re
import runpy

ROOT = pathlib.Path(__file__).parents[1]
FILE = ROOT / "examples" / "new_optimizer.py"


def test_the_new_optimizer_is_short_and_runs_beside_others(capsys):
  """That it is a good optimizer is checked by the list of tests/optimizers/conformance.py."""
  assert len(FILE.read_text().splitlines()) < 60
  runpy.run_path(str(FILE), run_name="__main__")
  rows = [line.split() for line in capsys.readouterr().out.splitlines()]
  values = {row[0]: float(row[1]) for row in rows}
  assert list(values) == ["annealing", "random", "rcas"]
  assert values["annealing"] > values["random"]


def test_the_examples_of_the_documentation_run_as_they_say(capsys, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  text = (ROOT / "docs" / "optimizers.md").read_text()
  first, function, going_on = re.findall("```python\n(.*?)```", text, re.S)
  found = {}
  exec(first, found)
  value, bound, failed = (float(part) for part in capsys.readouterr().out.split())
  assert failed == 0
  assert (1 - 1 / 2.718281828) * bound < value <= bound
  assert found["problem"].feasible(found["result"].mask)
  exec(function, found)
  gained, violations = found["result"].value, found["result"].violations
  assert violations.monotonicity_failed == violations.submodularity_failed == 0
  assert gained > 0
  exec(going_on, found)
  assert len((tmp_path / "measurements.jsonl").read_text().splitlines()) == 20
