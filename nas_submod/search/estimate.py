"""Estimates how many trainings a search makes, for `--dry_run` and for the time left."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from nas_submod import optimizers, parallel
from nas_submod.evaluation.evaluator import SHARED_WEIGHTS
from nas_submod.evaluation.shared_weights.settings import method_of
from nas_submod.search.setup import Setup, first_additions

_MOST_TRIED = 1_000  # measurements of the stand-in, and rounds
_NOISE = 0.3  # of one training of the stand-in: half of a block's gain, as on digits


class Estimate(NamedTuple):
  """Trainings that a search will make.

  Attributes:
    candidates: Distinct fitting networks with one block more than the start.
    search: Trainings, roughly; None if more than a thousand.
    most: The largest possible value of `search`; None if nothing bounds it.
    scored: Scores with shared weights, roughly; None if more than a thousand.
    final: The largest possible number of trainings for finalists, references and the signal.
    rounds: Rounds of these trainings, roughly, with at most one on each device at a time; None if
      `search` is None.
  """

  candidates: int
  search: int | None
  most: int | None
  scored: int | None
  final: int
  rounds: int | None


def estimate(setup: Setup) -> Estimate:
  """Estimates the number of trainings.

  An optimizer that states no number runs on a stand-in for the accuracy, for at most a thousand
  measurements.
  """
  search = setup.config["search"]
  first, limit = first_additions(setup), search["max_evaluations"]
  measured, places = _measurements(setup)
  bounds = [setup.space.distinct() * setup.most_measurements]
  bounds += [bound for bound in (limit, setup.evaluations) if bound]
  known = measured is not None or limit
  most = search["replicates"] * min(bounds) if known else None
  expected = most
  if measured is not None:
    expected = search["replicates"] * min(measured, *bounds)
  scored = setup.config["evaluation"]["pool"] if setup.guided else 0
  if method_of(setup.config) == SHARED_WEIGHTS:
    scored, expected, most = expected, 0, 0
  finalists = search["finalists"] + len(setup.references) + 2 * setup.grows
  final = search["finalist_replicates"] * finalists
  rounds = None
  if expected is not None:
    devices = parallel.device_count()
    in_search = expected * places / (search["replicates"] * measured) if measured else expected
    rounds = math.ceil(in_search / devices) + math.ceil(final / devices)
  return Estimate(len(first) - 1, expected, most, scored, final, rounds)


class _TooManyError(Exception):
  """The stand-in was measured so often that the exact number does not matter."""


def _measurements(setup: Setup) -> tuple[int | None, int]:
  """Rough number of measurements of the optimizer, and how many trainings fit into their rounds.

  The number is None if it is more than a thousand.
  """
  search, devices = setup.config["search"], parallel.device_count()

  def places_of(sets: int) -> int:
    return -(-sets * search["replicates"] // devices) * devices

  if known := setup.evaluations:
    width = _width(setup)
    return known, known // width * places_of(width) + places_of(known % width)
  stand_in, measured, places = _stand_in(setup), 0, 0

  def value(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    nonlocal measured, places
    measured += len(masks)
    places += places_of(len(masks))
    return stand_in(masks)

  def on_round(number: int, *_: Any) -> None:
    if max(number, measured) > _MOST_TRIED:
      raise _TooManyError

  limit, seed = search["max_evaluations"] or None, setup.config["seed"]
  try:
    optimizers.maximize(setup.problem, value, setup.optimizer, limit, seed, callback=on_round)
  except _TooManyError:
    return None, 0
  return measured, places


def _width(setup: Setup) -> int:
  """Sets that the optimizer asks for in a round, at most."""
  state = jax.eval_shape(setup.optimizer.init, setup.problem, jax.random.key(0))
  return int(jax.eval_shape(setup.optimizer.ask, state)[1].size)


def _stand_in(setup: Setup) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
  """A noisy, monotone, submodular function of networks: concave in the blocks of each stage.

  `masks [K, n] -> (values [K], standard errors [K])`. As in a search, standard errors are known
  only if a measurement is the mean of several trainings.
  """
  rng, replicates = np.random.default_rng(0), setup.config["search"]["replicates"]
  stages, options = len(setup.space.stages), len(setup.space.options)
  stage_of = np.repeat(range(stages), [stage.positions for stage in setup.space.stages])
  weights = np.append(rng.uniform(0.5, 1, (options, stages)), np.zeros((1, stages)), 0)
  noise = _NOISE / replicates**0.5

  def value(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    chosen = setup.space.architecture(masks) - 1  # -1 is an empty position, the last row.
    in_stage = weights[chosen, stage_of] @ np.eye(stages)[stage_of]
    errors = np.full(len(masks), noise if replicates > 1 else np.nan)
    return np.sqrt(in_stage).sum(1) + rng.normal(0, noise, len(masks)), errors

  return value
