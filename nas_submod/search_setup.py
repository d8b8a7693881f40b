"""A search before it starts: its config checked, its data loaded, its optimizer made, its length.

Everything is checked before anything is trained.
"""

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from nas_submod import data as datasets
from nas_submod import optimizers, parallel, resources, spaces, training
from nas_submod.objective import SCORES, check_fit
from nas_submod.optimizers import Optimizer
from nas_submod.problem import Problem
from nas_submod.spaces import SearchSpace

# What `config.search.optimizer` may be.
OPTIMIZERS: tuple[str, ...] = (
  "rcas",
  "greedy",
  "exchange",
  "partial_enumeration",
  "surrogate",
  "local_search",
  "random_search",
  "regularized_evolution",
)
_OF_AN_INNER = ("exchange", "partial_enumeration")
# Sets asked in a round where the answer depends on it, and must not on the devices.
_FIXED_BATCH = 4


class Setup(NamedTuple):
  """A checked config: everything a search needs, nothing trained yet."""

  config: Mapping[str, Any]
  space: SearchSpace
  data: datasets.Data
  problem: Problem
  budget: dict[str, int]
  optimizer: Optimizer
  runs: tuple[str, ...]  # Names of what goes on inside the optimizer, again and again if more.
  most_measurements: int  # Of one network, by the search; later seeds are fresh.


def prepare(config: Mapping[str, Any]) -> Setup:
  """Checks a config and loads its data.

  Args:
    config: `seed`, `space`, `data`, `budget`, `score`, `train` and `search`; see `configs/`.

  Raises:
    ValueError: If anything in it cannot work: one line with what is allowed.
  """
  space = spaces.from_config(config["space"])
  budget = check_budget(space, config["budget"])
  if config["score"] not in SCORES:
    raise ValueError(f"unknown score {config['score']!r}; allowed: {', '.join(SCORES)}")
  names = tuple(budget)
  problem = Problem(
    groups=space.groups,
    cost=resources.mask_cost(space, names),
    budget=np.array(list(budget.values())),
    required=space.required,
    canonical=space.canonical_mask,
  )
  search = config["search"]
  trains_less = config["train"].get("inherit_steps", 0) or config["train"].get("screen_steps", 0)
  width = _FIXED_BATCH if trains_less else parallel.device_count()
  optimizer, runs = make_optimizer(search["optimizer"], search["options"], names, width)
  for name, least in (("replicates", 1), ("finalists", 1), ("finalist_replicates", 2)):
    if search[name] < least:
      raise ValueError(f"config.search.{name} is {search[name]}; at least {least}")
  data = datasets.load(config["data"])
  check_fit(space, data)
  check_less_training(config, training.recipe(config["train"], data).steps)
  most = most_measurements(search)
  return Setup(config, space, data, problem, budget, optimizer, runs, most)


def check_less_training(config: Mapping[str, Any], steps: int) -> None:
  """Checks `inherit_steps` and `screen_steps` of `config.train` beside `steps`, those in full.

  Raises:
    ValueError: If one is no possible number, or what else is set does not go with it.
  """
  inherit_steps, screen_steps = (
    config["train"].get(n, 0) for n in ("inherit_steps", "screen_steps")
  )
  if not 0 <= inherit_steps <= steps:
    raise ValueError(
      f"config.train.inherit_steps is {inherit_steps}; allowed: 0 (off) to {steps}, the steps of a "
      "training afresh"
    )
  if inherit_steps and config["score"] == "negative_train_loss":
    raise ValueError(
      "config.score=negative_train_loss compares whole trainings: set config.train.inherit_steps=0"
    )
  full = inherit_steps or steps
  if not 0 <= screen_steps < full:
    raise ValueError(
      f"config.train.screen_steps is {screen_steps}; allowed: 0 (off) to below {full}, the steps "
      "of a whole training"
    )
  search = config["search"]
  if screen_steps and (search["replicates"] > 1 or "race" in search["options"]):
    raise ValueError(
      "config.train.screen_steps measures a network once: set it to 0, or "
      "config.search.replicates to 1 and no race"
    )


def check_budget(space: SearchSpace, budget: Mapping[str, Any]) -> dict[str, int]:
  """The budgets as integers.

  Raises:
    ValueError: If there is none, one is unknown or not positive, or the start set is over it.
  """
  given = {name: value for name, value in budget.items() if value is not None}
  allowed = ", ".join(resources.RESOURCES)
  if not given:
    raise ValueError(f"config.budget is empty; allowed: {allowed}")
  start = resources.network_cost(space, space.start)
  for name, value in given.items():
    if name not in start:
      raise ValueError(f"unknown resource {name!r} in config.budget; allowed: {allowed}")
    if not value > 0:
      raise ValueError(f"config.budget.{name} is {value}; allowed are positive numbers")
    if start[name] > value:
      raise ValueError(
        f"the start set is over budget: {name} {start[name]:,} > {int(value):,}; "
        f"allow at least {start[name]:,} or start smaller"
      )
  return {name: int(value) for name, value in given.items()}


def make_optimizer(
  name: str, options: Mapping[str, Any], resource_names: Sequence[str], width: int
) -> tuple[Optimizer, tuple[str, ...]]:
  """An optimizer by its name, and the names of the runs inside it.

  Args:
    name: One of `OPTIMIZERS`.
    options: Its arguments. Of "exchange" and "partial_enumeration" `inner` is the name of the
      optimizer inside (rcas by default), which gets the options that are not theirs.
    resource_names: The budgets.
    width: Sets asked in a round by default: one a device, unless the answer depends on it.

  Raises:
    ValueError: If the optimizer or one of its options is unknown or not allowed.
  """
  if name not in OPTIMIZERS:
    raise ValueError(f"unknown optimizer {name!r}; allowed: {', '.join(OPTIMIZERS)}")
  make = getattr(optimizers, name)
  given: dict[str, Any] = {
    key: tuple(v) if isinstance(v, list) else v for key, v in options.items()
  }
  rules = ("unit", *resource_names, "joint")
  runs: tuple[str, ...] = (name,)
  if name == "rcas":
    runs = rules
    given.setdefault("batch", -(-width // len(rules)))
  elif name in ("greedy", "exchange", "random_search"):
    given.setdefault("batch", width)
  elif name == "surrogate":
    given.setdefault("batch", _FIXED_BATCH)
  if name in _OF_AN_INNER:
    own = inspect.signature(make).parameters
    rest = {key: given.pop(key) for key in list(given) if key not in own}
    given["inner"], runs = make_optimizer(given.get("inner", "rcas"), rest, resource_names, width)
  if name == "exchange":
    if given["inner"].replicates is not None:
      raise ValueError("config.search.options: exchange takes no inner optimizer with replicates")
    runs = (*runs, "exchange")
  try:
    return make(**given), runs
  except TypeError as error:
    raise ValueError(f"config.search.options of {name}: {error}") from error


def most_measurements(search: Mapping[str, Any]) -> int:
  """How often `config.search` may measure one network."""
  options = search["options"]
  if "surrogate" in (search["optimizer"], options.get("inner")):
    return _evaluations("surrogate", search)
  return max(options.get("race") or (1,))


def _evaluations(name: str, search: Mapping[str, Any]) -> int:
  """Measurements that an optimizer with an option `evaluations` makes at most."""
  default = inspect.signature(getattr(optimizers, name)).parameters["evaluations"].default
  most = search["options"].get("evaluations", default)
  return min(most, search["max_evaluations"] or most)


def first_additions(setup: Setup) -> np.ndarray:
  """The start set and all distinct networks of one more block that fit. `[K, positions]`."""
  start = jnp.asarray(setup.space.required)
  additions = setup.problem.additions(start)
  distinct = np.asarray(additions.fits & (additions.twin == jnp.arange(setup.problem.n)))
  masks = np.asarray(start) | np.eye(setup.problem.n, dtype=bool)[distinct]
  return setup.space.architecture(np.concatenate([np.asarray(start)[None], masks]))


def estimate_evaluations(setup: Setup) -> int:
  """How many trainings the search will make, roughly.

  A greedy run takes as many steps as average first additions fit into the budgets, and measures
  about three networks a step, twice each if it races; runs share the first step, and half of the
  others. An exchange tries some hundred networks more; an enumeration completes every seed.
  """
  search = setup.config["search"]
  name, options = search["optimizer"], search["options"]
  final = search["finalist_replicates"] * (search["finalists"] + 2)
  trainings = search["replicates"]
  if "evaluations" in inspect.signature(getattr(optimizers, name)).parameters:
    return trainings * _evaluations(name, search) + final
  first = first_additions(setup)
  costs = resources.network_costs(setup.space, first)[:, columns(setup)]
  room = np.array(list(setup.budget.values())) - costs[0]
  extra = np.maximum((costs[1:] - costs[0]).mean(0), 1) if len(first) > 1 else room
  steps = int((room / extra).min())
  measured = len(first) + math.ceil(3 * steps * (1 + (len(setup.runs) - 1) / 2))
  if "race" in options:
    measured *= 2
  if name == "exchange":
    measured += 100
  if name == "partial_enumeration":
    measured *= max(math.comb(len(first) - 1, options.get("depth", 1)) // 2, 1)
  return trainings * min(measured, search["max_evaluations"] or measured) + final


def is_greedy(setup: Setup) -> bool:
  """Whether the search adds block after block to the start set."""
  return setup.config["search"]["optimizer"] in ("rcas", "greedy")


def columns(setup: Setup) -> list[int]:
  """Where the budgets are in `resources.RESOURCES`."""
  return [resources.RESOURCES.index(name) for name in setup.budget]
