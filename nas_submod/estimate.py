"""How many trainings a search will make: for `--dry_run`, and for the time that is left."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from nas_submod import resources, search_setup
from nas_submod.objective import CONTEST
from nas_submod.optimizers import named
from nas_submod.search_setup import Setup, is_greedy

_LAZY_STEP = 3  # networks that a step of a lazy greedy run measures, roughly
_EAGER_SHARE = 0.6  # of the first candidates that a step of an eager one does
_EXCHANGES = 100  # that are tried, roughly


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

  A greedy run takes as many steps as average first additions fit into the budgets, and measures
  about three networks a step if it is lazy, twice each if it races; runs share the first step, and
  half of the others. An exchange tries some hundred networks more; an enumeration completes every
  seed.
  """
  search = setup.config["search"]
  name, options, limit = search["optimizer"], search["options"], search["max_evaluations"]
  first = search_setup.first_additions(setup)
  measured = _measurements(setup, name, options, first)
  # No network is measured more often than that.
  bounds = [setup.space.distinct() * setup.most_measurements]
  bounds += [limit] if limit else []
  if name == "best_singleton":
    bounds.append(len(first))
  own_limit = None if name in search_setup.OF_AN_INNER else search_setup.own_limit(name, options)
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


def _measurements(
  setup: Setup, name: str, options: Mapping[str, Any], first: np.ndarray
) -> int | None:
  """How often the optimizer will measure a network, roughly; None where nothing says so.

  Args:
    setup: The search.
    name: The optimizer.
    options: Its arguments.
    first: From `first_additions`. `[K, positions]`.
  """
  additions = len(first) - 1
  if name in search_setup.OF_AN_INNER:
    rest = {key: option for key, option in options.items() if key != "inner"}
    inner = _measurements(setup, options.get("inner", "rcas"), rest, first)
    if inner is None:
      return None
    if name == "exchange":
      return inner + _EXCHANGES
    return inner * max(math.comb(additions, options.get("depth", 1)) // 2, 1)
  if name not in search_setup.OPTIMIZERS or search_setup.own_limit(name, options):
    return search_setup.own_limit(name, options)
  if name == "brute_force":
    return setup.space.distinct()
  if name == "best_singleton":
    return len(first)
  steps = _greedy_steps(setup, first)
  if name == "stochastic_greedy":
    return 1 + steps * min(options["sample"], additions)
  default = named.default(search_setup.constructor_of(name), "lazy")
  a_step = _LAZY_STEP if options.get("lazy", default) else _EAGER_SHARE * additions
  runs = 2 + len(setup.budget) if name == "rcas" else 1
  measured = len(first) + math.ceil(a_step * steps * (1 + (runs - 1) / 2))
  return measured * (2 if options.get("race") else 1)


def _greedy_steps(setup: Setup, first: np.ndarray) -> int:
  """How many average first additions fit."""
  costs = resources.network_costs(setup.space, first)[:, search_setup.columns(setup)]
  room = np.array(list(setup.budget.values())) - costs[0]
  extra = np.maximum((costs[1:] - costs[0]).mean(0), 1) if len(first) > 1 else room
  return int((room / extra).min())
