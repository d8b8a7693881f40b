"""Searches with changed configs, which benchmarks keep in workdirs and judge."""

import pathlib
from typing import Any

from ml_collections import ConfigDict

from nas_submod import files, search
from nas_submod.evaluation.journal import JOURNAL_FILE, Journal
from nas_submod.evaluation.training_evaluator import TrainingEvaluator
from nas_submod.search.setup import Setup
from nas_submod.workdir import make_workdir


def changed(config: ConfigDict, seed: int, changes: dict[str, Any]) -> ConfigDict:
  """Returns a copy with another seed and changed fields, such as `{"train.steps": 100}`.

  A dict replaces the whole content of a field.
  """
  this = config.copy_and_resolve_references()
  this.seed = seed
  for name, value in changes.items():
    *sections, field = name.split(".")
    part = this
    for section in sections:
      part = part[section]
    if isinstance(value, dict):
      del part[field]
      with part.unlocked():
        part[field] = value
    else:
      part[field] = value
  return this


def open_log(config: ConfigDict, workdir: pathlib.Path) -> Journal:
  """The journal of a workdir; what it holds already is not trained again."""
  return Journal(make_workdir(workdir, config.to_dict()) / JOURNAL_FILE)


def result(setup: Setup, log: Journal, workdir: pathlib.Path) -> dict[str, Any]:
  """The result of a search in a workdir, which runs unless it is finished."""
  path = workdir / "result.json"
  if not path.exists():
    train = TrainingEvaluator(setup.space, setup.data, setup.config)
    evaluator = search.evaluator_with_shared_weights(setup, train, workdir)
    files.write_json(path, search.run(setup, evaluator, log))
  return files.read_json(path)
