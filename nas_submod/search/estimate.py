"""How many trainings a search will make: for `--dry_run`, and for the time that is left."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from nas_submod import optimizers
from nas_submod.evaluation.objective import CONTEST
from nas_submod.search.setup import OF_AN_INNER, Setup, first_additions, is_greedy, own_limit

_MOST_TRIED = 1_000  # measurements of the stand-in, and rounds
_NOISE = 0.3  # of a training of it: half of what a block gains, as on digits


class Estimate(NamedTuple):
  """Trainings that a search will make.

  Attributes:
    candidates: Distinct networks of one block more than the start.
    search: In full, roughly; None: more than a thousand.
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

  An optimizer that has no number of its own is run, on a function that stands for the accuracy,
  for a thousand measurements at most.
  """
  search = setup.config["search"]
  first, limit = first_additions(setup), search["max_evaluations"]
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
  if search["optimizer"] in OF_AN_INNER:
    return None
  return own_limit(search["optimizer"], search["options"])


class _TooManyError(Exception):
  """The stand-in was measured so often that it does not matter how often."""


def _measurements(setup: Setup) -> int | None:
  """How often the optimizer will measure a network, roughly; None: more than a thousand times."""
  search = setup.config["search"]
  if own_limit := _own_limit(setup):
    return own_limit
  if search["optimizer"] == "brute_force":
    return setup.space.distinct()
  stand_in, measured = _stand_in(setup), 0

  def value(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    nonlocal measured
    measured += len(masks)
    return stand_in(masks)

  def on_round(number: int, *_: Any) -> None:
    if max(number, measured) > _MOST_TRIED:
      raise _TooManyError

  limit, seed = search["max_evaluations"] or None, setup.config["seed"]
  try:
    optimizers.maximize(setup.problem, value, setup.optimizer, limit, seed, callback=on_round)
  except _TooManyError:
    return None
  return measured


def _stand_in(setup: Setup) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
  """A noisy function of networks, monotone and submodular: concave in the blocks of each stage.

  `masks [K, n] -> (values [K], standard errors [K])`; these are known as in a search, where a
  measurement is the mean of several trainings.
  """
  rng, replicates = np.random.default_rng(0), setup.config["search"]["replicates"]
  stages, options = len(setup.space.stages), len(setup.space.options)
  stage_of = np.repeat(range(stages), [stage.positions for stage in setup.space.stages])
  weights = np.append(rng.uniform(0.5, 1, (options, stages)), np.zeros((1, stages)), 0)
  noise = _NOISE / replicates**0.5

  def value(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    chosen = setup.space.architecture(masks) - 1  # The last row is that of an empty position.
    in_stage = weights[chosen, stage_of] @ np.eye(stages)[stage_of]
    errors = np.full(len(masks), noise if replicates > 1 else np.nan)
    return np.sqrt(in_stage).sum(1) + rng.normal(0, noise, len(masks)), errors

  return value
