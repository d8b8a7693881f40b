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


def test_the_example_of_the_documentation_runs_as_it_says(capsys):
  [example] = re.findall("```python\n(.*?)```", (ROOT / "docs" / "optimizers.md").read_text(), re.S)
  found = {}
  exec(example, found)
  value, bound, failed = (float(part) for part in capsys.readouterr().out.split())
  assert failed == 0
  assert (1 - 1 / 2.718281828) * bound < value <= bound
  assert found["problem"].feasible(found["result"].mask)
