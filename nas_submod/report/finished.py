"""A finished search, as reports read it: its config, answer and evaluations."""

import math
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from nas_submod import resources
from nas_submod.evaluation.evaluator import (
  SHARED_WEIGHTS,
  TRAINING,
  Evaluation,
  Score,
  mean,
  score_named,
)
from nas_submod.evaluation.journal import JOURNAL_FILE, Journal
from nas_submod.evaluation.shared_weights.settings import method_of
from nas_submod.fields import is_number
from nas_submod.files import local_path, read_json
from nas_submod.networks import spaces
from nas_submod.networks.search_space import SearchSpace
from nas_submod.validation import located
from nas_submod.workdir import CONFIG_FILE, INPUTS_FILE

RESULT_FILE = "result.json"
# Fields that a report needs, with their types; those of a section come after it.
_Fields = Mapping[str, type | tuple[type, ...]]
_NUMBER = (int, float, type(None))
_CONFIG: _Fields = {"space": dict, "search": dict, "seed": int, "data": dict, "train": dict}
_RESULT: _Fields = {
  **dict.fromkeys(("path", "finalists", "architecture", "binding"), list),
  **dict.fromkeys(("budget", "resources", "evaluations", "seconds", "signal"), dict),
  **dict.fromkeys(("score", "optimizer", "devices"), str),
  **dict.fromkeys(("value", "standard_error", "upper_bound", "rounds", "compilations"), _NUMBER),
  **{
    f"evaluations.{n}": int for n in ("trained", "scored", "reused", "failed", "journal", "steps")
  },
  "evaluations.causes": dict,
  **{f"seconds.{name}": _NUMBER for name in ("total", "compile", "train", "score", "rest")},
  **{f"signal.{name}": _NUMBER for name in ("mean_gain_of_first_additions", "ratio")},
  "signal.replicate_standard_deviation": _NUMBER,
  **dict.fromkeys(("seed", "signal.replicates", "resources.params", "resources.madds"), int),
}
_ROW: _Fields = {"architecture": list, "resources": dict, "value": _NUMBER}
_ROWS: Mapping[str, _Fields] = {
  "path": {**_ROW, "run": str, "step": int, "tie": bool, "evaluations": int},
  "finalists": {**_ROW, "run": str, "tie": bool, "standard_error": _NUMBER, "scores": list},
}


class Finished(NamedTuple):
  """A finished search.

  Attributes:
    name: Its folder, as it was given.
    config: The config.
    result: The content of `result.json`. Numbers that JSON cannot hold are None or not finite.
    evaluations: All evaluations, in the order in which they were made.
    space: The search space.
    resources: The resources by name.
    score: The score of an evaluation.
    inputs: Fingerprints of its images and other inputs, by name; may be empty.
    notes: Which resources are not in `resources`, because a table or code no longer exists.
  """

  name: str
  config: Mapping[str, Any]
  result: Mapping[str, Any]
  evaluations: tuple[Evaluation, ...]
  space: SearchSpace
  resources: resources.Resources
  score: Score
  inputs: Mapping[str, str]
  notes: tuple[str, ...] = ()

  @property
  def uses_shared_weights(self) -> bool:
    """Whether the values of the search are scores with shared weights."""
    return method_of(self.config) == SHARED_WEIGHTS

  @property
  def runs(self) -> tuple[str, ...]:
    """Names of the runs that took a step."""
    return tuple(dict.fromkeys(row["run"] for row in self.result["path"]))

  @property
  def finalists(self) -> list[Mapping[str, Any]]:
    """The finalists, the best first."""
    return sorted(self.result["finalists"], key=lambda row: -real(row["value"], -math.inf))


def make(
  name: str,
  config: Mapping[str, Any],
  result: Mapping[str, Any],
  evaluations: Iterable[Evaluation],
  inputs: Mapping[str, str] | None = None,
) -> Finished:
  """Makes the record of a search.

  Args:
    name: Its folder.
    config: The config.
    result: What `search.run` returned, or the content of `result.json`.
    evaluations: Its journal.
    inputs: The content of `inputs.json`.

  Raises:
    ValueError: If the config names a space or a score that does not exist here.
  """
  table, notes = _resources_of(config.get("resources"))
  return Finished(
    name,
    config.to_dict() if isinstance(config, ConfigDict) else config,
    result,
    tuple(evaluations),
    spaces.from_config(config["space"]),
    table,
    score_named(result["score"]),
    inputs or {},
    notes,
  )


def _resources_of(
  settings: Mapping[str, Any] | None,
) -> tuple[resources.Resources, tuple[str, ...]]:
  """The resources of a config that can still be computed, and notes on the others."""
  given, notes = dict(settings or {}), []
  for name, value in dict(given).items():
    try:
      resources.from_config({name: value})
    except ValueError as error:
      del given[name]
      shown = "latency_ms" if name == "latency" else name
      notes.append(f"{shown} of networks other than the answer is left out: {error}")
  return resources.from_config(given), tuple(notes)


def read(workdir: str | os.PathLike) -> Finished:
  """Reads a finished search from its folder; changes nothing there.

  Raises:
    ValueError: If the folder has no finished search, or a file is damaged.
  """
  path = local_path(workdir)
  if not path.is_dir():
    raise ValueError(f"there is no folder {path}; allowed: the --workdir of a finished search")
  try:
    config, result = read_json(path / CONFIG_FILE), read_json(path / RESULT_FILE)
  except OSError as error:
    raise ValueError(
      f"{error.filename} cannot be read ({error.strerror}): is {path} the --workdir of a search, "
      "and did it end? The same search command continues it"
    ) from error
  for name, content, needed in ((CONFIG_FILE, config, _CONFIG), (RESULT_FILE, result, _RESULT)):
    _check(path / name, content, needed)
  for section, needed in _ROWS.items():
    for number, row in enumerate(result[section]):
      _check(path / RESULT_FILE, row, needed, f"{section}[{number}].")
  for name, limit in result["budget"].items():
    if not is_number(limit):
      raise ValueError(f"{path / RESULT_FILE} is damaged: budget.{name} is {limit!r}")
  if not result["finalists"]:
    raise ValueError(f"{path / RESULT_FILE} is damaged, it has no finalists")
  inputs = read_json(path / INPUTS_FILE) if (path / INPUTS_FILE).exists() else None
  if not isinstance(inputs, dict | None):
    raise ValueError(f"{path / INPUTS_FILE} is damaged, it is no JSON object")
  found = make(str(workdir), config, result, Journal(path / JOURNAL_FILE), inputs)
  with located(f"{path / RESULT_FILE} is damaged"):
    for row in (result, *(row for section in _ROWS for row in result[section])):
      found.space.check(row["architecture"])
  return found


def _check(file: pathlib.Path, content: Any, needed: _Fields, place: str = "") -> None:
  """Raises ValueError if an object of a file lacks a field, or has one of another type."""
  if not isinstance(content, dict):
    what = f"{place.rstrip('.')} is {content!r}" if place else "it is no JSON object"
    raise ValueError(f"{file} is damaged, {what}")
  for field, kind in needed.items():
    *section, last = field.split(".")
    inside = content[section[0]] if section else content
    if last not in inside:
      raise ValueError(f"{file} has no {place}{field}: it is not that of a search")
    if not isinstance(inside[last], kind):
      raise ValueError(f"{file} is damaged: {place}{field} is {inside[last]!r}")


def real(value: float | None, missing: float = math.nan) -> float:
  """A number of `result.json`; `missing` if there is none."""
  return missing if value is None or math.isnan(value) else float(value)


def score_name(search: Finished) -> str:
  """The score in words."""
  return str(search.result["score"]).replace("_", " ")


def fresh_replicates(search: Finished) -> range:
  """The replicates of the finalists' scores, which the search itself has not used."""
  best = search.finalists[0]
  key, wanted = search.space.key(best["architecture"]), [real(score) for score in best["scores"]]
  trained = {
    e.replicate: search.score(e) for e in search.evaluations if (e.key, e.method) == (key, TRAINING)
  }
  # A journal may also hold replicates of the same search with another limit.
  for first in sorted(trained, reverse=True):
    replicates = range(first, first + len(wanted))
    if [trained.get(replicate) for replicate in replicates] == wanted:
      return replicates
  raise ValueError(
    f"{search.name}: the journal lacks the trainings of the answer; the same search command makes "
    "them again"
  )


def within_budget(search: Finished) -> set[str]:
  """Keys of the evaluated networks that fit; the workdir may hold those of a larger budget."""
  limits = {n: v for n, v in search.result["budget"].items() if n in search.resources}
  keys = sorted({evaluation.key for evaluation in search.evaluations})
  if not limits or not keys:
    return set(keys)
  networks = np.array([search.space.from_key(key) for key in keys])
  costs = resources.network_costs(search.space, networks, tuple(limits), search.resources)
  # With the tolerance of a search for costs that are not whole numbers.
  slack = 1 if costs.dtype.kind in "iu" else 1 + 2e-6
  fits = np.all(costs <= slack * np.array(list(limits.values())), axis=1)
  return {keys[row] for row in np.flatnonzero(fits)}


def trainings(search: Finished) -> int:
  """Number of trainings in the journal."""
  return sum(evaluation.method == TRAINING for evaluation in search.evaluations)


def scores_of(search: Finished, fresh: bool) -> dict[str, list[float]]:
  """Finite scores by key of a network that fits.

  Args:
    search: The search.
    fresh: Whether to take scores with fresh seeds, or scores of the search itself.
  """
  replicates = fresh_replicates(search)
  wanted = replicates if fresh else range(replicates.start)
  fitting = within_budget(search)
  found: dict[str, list[float]] = {}
  for evaluation in search.evaluations:
    # Negative replicates are scores with shared weights of networks that are also trained.
    if evaluation.replicate not in wanted or evaluation.key not in fitting:
      continue
    if math.isfinite(score := search.score(evaluation)):
      found.setdefault(evaluation.key, []).append(score)
  return found


def mean_scores(search: Finished) -> dict[str, float]:
  """Mean score in the search by key of a network; fresh seeds are left out."""
  return {key: mean(scores) for key, scores in scores_of(search, fresh=False).items()}


def seconds_before(search: Finished) -> float:
  """Seconds of training shared weights, which come before all evaluations."""
  return real(search.result["seconds"].get("shared_weights"), 0.0)


def start_scores(search: Finished) -> list[float]:
  """Training scores of the start network: with fresh seeds if there are any, else all."""
  key = search.space.key(search.space.start)
  if fresh := scores_of(search, fresh=True).get(key):
    return fresh
  return [] if search.uses_shared_weights else scores_of(search, fresh=False).get(key, [])


def answer_scores(search: Finished) -> list[float]:
  """The scores of the answer with fresh seeds."""
  return row_scores(search.finalists[0])


def row_scores(row: Mapping[str, Any]) -> list[float]:
  """The scores of a finalist or a reference with fresh seeds; failed trainings are NaN."""
  return [real(score) for score in row["scores"]]


def accuracy(search: Finished) -> float:
  """Mean accuracy of the answer with fresh seeds, on the validation split; NaN if unknown."""
  key, fresh = search.space.key(search.result["architecture"]), fresh_replicates(search)
  rows = [e for e in search.evaluations if e.key == key and e.replicate in fresh]
  known = [e.metrics["accuracy"] for e in rows if e.metrics and "accuracy" in e.metrics]
  return mean(known) if known else math.nan


def deviation(search: Finished) -> float:
  """Standard deviation of one training between seeds; NaN if unknown."""
  return real(search.result["signal"]["replicate_standard_deviation"])
