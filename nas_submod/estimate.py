"""How many trainings a search will make: for `--dry_run`, and for the time that is left."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from nas_submod import optimizers, search_setup
from nas_submod.objective import CONTEST
from nas_submod.search_setup import Setup, is_greedy

_MOST_TRIED = 10_000  # measurements of the stand-in
_NOISE = 0.05  # of a measurement of it: a first block gains 0.7 to 1, others less


class Estimate(NamedTuple):
  """Trainings that a search will make.

  Attributes:
    candidates: Distinct networks of one block more than the start.
    search: In full, roughly; None where nothing says how many.
    most: The same at most; None where nothing says so.
    short: Those of `config.train.screen_steps` in the first step of a greedy search.
    final: At most, of finalists and for the signal.
  """

  candidates: int
  search: int | None
  most: int | None
  short: int
  final: int


def estimate(setup: Setup) -> Estimate:
  """How many trainings the search will make.

  An optimizer that has no number of its own is run, on a function that stands for the accuracy.
  """
  search = setup.config["search"]
  first, limit = search_setup.first_additions(setup), search["max_evaluations"]
  measured = _measurements(setup)
  # No network is measured more often than that.
  bounds = [setup.space.distinct() * setup.most_measurements]
  bounds += [limit] if limit else []
  if search["optimizer"] == "best_singleton":
    bounds.append(len(first))
  own_limit = _own_limit(setup)
  bounds += [own_limit] if own_limit else []
  known = measured is not None or limit
  most = search["replicates"] * min(bounds) if known else None
  expected = most
  if measured is not None:
    expected = search["replicates"] * min(measured, *bounds)
  new = min(len(first), limit or len(first)) - 1
  screens = setup.config["train"].get("screen_steps", 0) and is_greedy(setup) and new > CONTEST
  if screens and expected:
    expected -= new - new // 2  # the losers
  return Estimate(
    candidates=len(first) - 1,
    search=expected,
    most=most,
    short=new if screens else 0,
    final=search["finalist_replicates"] * (search["finalists"] + 2 * is_greedy(setup)),
  )


def _own_limit(setup: Setup) -> int | None:
  """Sets that the optimizer asks at most, by an argument of it."""
  search = setup.config["search"]
  if search["optimizer"] in search_setup.OF_AN_INNER:
    return None
  return search_setup.own_limit(search["optimizer"], search["options"])


def _measurements(setup: Setup) -> int | None:
  """How often the optimizer will measure a network, roughly; None where nothing says so."""
  search = setup.config["search"]
  if search["optimizer"] not in search_setup.OPTIMIZERS or _own_limit(setup):
    return _own_limit(setup)
  if search["optimizer"] == "brute_force":
    return setup.space.distinct()
  limit = min(search["max_evaluations"] or _MOST_TRIED, _MOST_TRIED)
  value, optimizer = _stand_in(setup), setup.optimizer
  found = optimizers.maximize(setup.problem, value, optimizer, limit, seed=setup.config["seed"])
  return found.evaluations if found.evaluations < _MOST_TRIED else None


def _stand_in(setup: Setup) -> Callable[[np.ndarray], np.ndarray]:
  """A noisy function of sets, monotone and submodular: by stage concave in what is chosen."""
  rng = np.random.default_rng(0)
  stage_of = np.repeat(
    np.arange(len(setup.space.stages)), [stage.positions for stage in setup.space.stages]
  )
  weights = rng.uniform(0.5, 1, setup.problem.n)
  in_stage = weights[:, None] * np.eye(len(setup.space.stages))[stage_of[setup.space.groups]]

  def value(masks: np.ndarray) -> np.ndarray:
    return np.sqrt(masks @ in_stage).sum(1) + rng.normal(0, _NOISE, len(masks))

  return value
