"""Searches within several budgets, and the page of their answers."""

import json
import shutil
import subprocess
import sys

import pytest

from nas_submod import files, search
from nas_submod.evaluation.journal import JOURNAL_FILE, Journal
from nas_submod.report import finished, front
from nas_submod.report.verdict import verdicts
from nas_submod.search import front as front_search
from nas_submod.search.setup import make_setup
from nas_submod.workdir import make_workdir
from tests import tiny_config
from tests.evaluators import computed
from tests.test_experiments import ROOT

REFERENCE = "e2 . | e2 ."


def config_of(*budgets):
  config = tiny_config.get_config()
  with config.ignore_type():
    config.front = budgets
  config.search.references = (REFERENCE,)
  return config


def test_an_entry_is_a_budget_or_a_share_of_it():
  found = front_search.configs(config_of(0.5, {"params": 900, "madds": 4e3}))
  limits = [{k: v for k, v in c.budget.items() if v is not None} for c in found.values()]
  assert list(found) == ["budget_1", "budget_2"]
  assert limits == [{"params": 500.0, "madds": 4_000.0}, {"params": 900, "madds": 4e3}]
  assert all(not this.front for this in found.values())  # Each can be searched alone.


@pytest.mark.parametrize(
  ("entries", "words"),
  [
    ((1.0,), "two or more budgets in config.front"),
    (
      (0.5, 0),
      r"config.front\[1\] is 0; allowed: a share of config.budget, above 0 and",
    ),
    ((8000, 12000), r"config.front\[0\] is 8000; allowed: a share"),
    ((0.5, "all"), r"config.front\[1\] is 'all'"),
    ((1.0, 0.5), r"config.front\[1\] is .*none smaller and one larger"),
    ((0.5, 0.5), "none smaller and one larger"),
    (({"params": 500}, {"madds": 9_000}), "limits of the same resources"),
    (({"params": 500}, {"params": "x"}), "config.budget.params is 'x'; allowed: numbers above 0"),
    (0.5, "config.front is 0.5; allowed: a list"),
  ],
)
def test_a_wrong_list_is_refused(entries, words):
  with pytest.raises(ValueError, match=words):
    config = config_of()
    with config.ignore_type():
      config.front = entries
    front_search.configs(config)


def test_values_that_depend_on_budgets_are_refused():
  config = config_of(0.5, 1.0)
  config.evaluation.method = "shared_weights"
  with pytest.raises(ValueError, match="values that do not depend on the budgets"):
    front_search.configs(config)


@pytest.fixture(scope="module")
def searches(tmp_path_factory):
  """Searches within three budgets, of which the second is hardly larger than the first."""
  folder, found = tmp_path_factory.mktemp("front"), []
  for name, config in front_search.configs(config_of(0.5, 0.52, 1.5)).items():
    setup = make_setup(config)
    make_workdir(folder / name, config.to_dict())
    journal = Journal(folder / name / JOURNAL_FILE)
    result = search.run(setup, computed(setup.space), journal)
    files.write_json(folder / name / "result.json", result)
    found.append(finished.read(folder / name))
  return found


def made_of(name, budget, *finalists):
  """A search with these finalists: madds and scores of each."""
  rows = [
    {"architecture": [int(madds), 0, 1, 0], "resources": {"madds": madds}, "value": sum(scores) / 2}
    | {"scores": scores, "standard_error": 0.0, "text": name, "tie": False}
    for madds, scores in finalists
  ]
  result = {
    "score": "negative_loss",
    "budget": {"madds": budget},
    "finalists": rows,
    "signal": {"replicate_standard_deviation": 0.1, "replicates": 8},
  }
  return finished.make(name, tiny_config.get_config(), result, [])


def test_a_point_is_the_best_finalist_of_all_that_fit():
  points = front.points(
    [
      made_of("small", 10, (9, [0.5, 0.6]), (8, [0.1, 0.2])),
      made_of("middle", 20, (19, [0.3, 0.4])),  # Worse than what the small one found.
      made_of("large", 30, (29, [0.55, 0.57]), (28, [0.7, 0.2])),  # Not surely better.
      made_of("huge", 40, (40.00001, [0.9, 0.91])),  # Within the tolerance of float costs.
    ]
  )
  assert [point.found for point in points] == ["small", "small", "large", "huge"]
  assert [point.row["value"] for point in points] == pytest.approx([0.55, 0.55, 0.56, 0.905])
  notes = ["", "the same network", "tie with the smaller one", ""]
  assert [point.note for point in points] == notes


def test_references_are_trained_where_they_fit_and_compared(searches):
  costs = {"params": 526, "madds": 3_808}
  for one in searches:
    fits = all(costs[name] <= limit for name, limit in one.result["budget"].items())
    assert [row["name"] for row in one.result["references"]] == [REFERENCE] * fits
    assert any(REFERENCE in found.sentence for found in verdicts(one, [])) == fits
  assert [row["name"] for row in front.references(searches)] == [REFERENCE]


def test_the_page_and_the_text_have_all_points(searches, tmp_path):
  page, text = front.page(searches, tmp_path), front.text(searches)
  for point in front.points(searches):
    assert f"{point.row['value']:.4f}" in text
    assert f"{point.row['value']:.4f}".replace("-", "\N{MINUS SIGN}") in page
  assert f"reference {REFERENCE}" in page and f"reference {REFERENCE}" in text
  assert json.dumps(front.content(searches), allow_nan=False)


def test_the_page_is_written_again_from_the_folder(searches):
  folder = files.local_path(searches[0].name).parent
  files.write_json(folder / front.FILE, {"points": [{}] * len(searches)})
  shutil.copytree(folder / "budget_1", folder / f"budget_{len(searches) + 1}")  # Of another front.
  front.write(folder)
  assert (folder / front.PAGE).read_text() == front.page(searches, folder)
  assert (folder / "figures" / "front_params.svg").exists()


def run_command(workdir):
  flags = [
    "--config=tests/tiny_config.py",
    "--config.search.optimizer=random_search",
    "--config.search.max_evaluations=4",
    "--config.front=(0.8, 1.0)",
    "--pareto",
    f"--workdir={workdir}",
  ]
  command = [sys.executable, "-m", "experiments.search", *flags]
  return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_every_journal_is_read_before_the_first_search(tmp_path):
  (tmp_path / "budget_2").mkdir()
  (tmp_path / "budget_2" / JOURNAL_FILE).write_text("hello\n")
  done = run_command(tmp_path)
  assert done.returncode == 2 and "budget_2/evaluations.jsonl: line 1 is not an" in done.stderr
  assert [path.name for path in tmp_path.iterdir()] == ["budget_2"]


@pytest.mark.slow
def test_the_command_trains_nothing_twice(tmp_path):
  printed = run_command(tmp_path).stdout
  assert "front: the best network within each budget" in printed
  assert len(json.loads((tmp_path / "front.json").read_text())["points"]) == 2
  first, second = (
    [json.loads(line) for line in (tmp_path / name / JOURNAL_FILE).read_text().splitlines()]
    for name in ("budget_1", "budget_2")
  )
  assert second[: len(first)] == first  # What is known comes first, whole.
  assert len({(e["key"], e["replicate"]) for e in second}) == len(second)
  results = [json.loads((tmp_path / f"budget_{n}" / "result.json").read_text()) for n in (1, 2)]
  assert results[1]["evaluations"]["trained"] > 0
  assert [result["compilations"] for result in results] == [3, 0]  # One set of programs for both.


def test_a_share_of_a_whole_budget_is_not_rounded_down():
  found = front_search._budget(0.29, {"params": 12_000}, "config.front")
  assert found == {"params": 3_480}
