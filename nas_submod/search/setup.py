"""A search before it starts: its config checked, its data loaded, its optimizer made, its length.

Everything is checked before anything is trained.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nas_submod import data as datasets
from nas_submod import optimizers, parallel, resources, training
from nas_submod.evaluation.objective import SCORES
from nas_submod.networks import spaces
from nas_submod.networks.search_space import SearchSpace
from nas_submod.optimizers import Optimizer, constructors
from nas_submod.problem import Problem
from nas_submod.training import check_fit
from nas_submod.validation import checked_seed

# What `config.search.optimizer` may be, or `module:function`: a constructor of one's own.
OPTIMIZERS: tuple[str, ...] = (
  "rcas",
  "greedy",
  "greedy_plus_max",
  "stochastic_greedy",
  "best_singleton",
  "exchange",
  "partial_enumeration",
  "surrogate",
  "local_search",
  "random_search",
  "regularized_evolution",
  "brute_force",
)
OF_AN_INNER = ("exchange", "partial_enumeration")
# Those that measure the start with each single block more, and add block after block.
_GREEDY = ("rcas", "greedy", "greedy_plus_max", "best_singleton")
# Those whose answer does not depend on how many sets they ask in a round, without a limit.
_ANY_BATCH = (
  "greedy",
  "greedy_plus_max",
  "stochastic_greedy",
  "best_singleton",
  "exchange",
  "random_search",
)
# Sets asked in a round where the answer depends on it, and must not on the devices.
_FIXED_BATCH = 4
_MANY_MEASUREMENTS = 10_000  # of one network, where an optimizer does not say how many


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
  # What is asked ahead of a decision counts against a limit, and is what others inherit from.
  width = _FIXED_BATCH if trains_less or search["max_evaluations"] else parallel.device_count()
  optimizer, runs = make_optimizer(search["optimizer"], search["options"], names, width)
  checked_seed("config.seed", config["seed"])
  for name, least in (("replicates", 1), ("finalists", 1), ("finalist_replicates", 2)):
    if search[name] < least:
      raise ValueError(f"config.search.{name} is {search[name]}; at least {least}")
  data = datasets.load(config["data"])
  check_fit(space, data)
  # What an optimizer does not take it says here: too many elements, or no such resource.
  jax.eval_shape(optimizer.init, problem, jax.random.key(0))
  check_less_training(config, training.recipe(config["train"], data).steps)
  most = most_measurements(search, optimizer)
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
  if screen_steps and config["search"]["replicates"] > 1:
    raise ValueError(
      "config.train.screen_steps measures a network once at first: set it to 0, or "
      "config.search.replicates to 1; a race in config.search.options may measure again"
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
    name: One of `OPTIMIZERS`, or `module:function`.
    options: Its arguments. Of "exchange" and "partial_enumeration" `inner` is the name of the
      optimizer inside (rcas by default), which gets the options that are not theirs.
    resource_names: The budgets.
    width: Sets asked in a round by default: one a device, unless the answer depends on it.

  Raises:
    ValueError: If the optimizer or one of its options is unknown or not allowed.
  """
  constructor = constructor_of(name)
  given: dict[str, Any] = {
    key: tuple(v) if isinstance(v, list) else v for key, v in options.items()
  }
  rules = ("unit", *resource_names, "joint")
  runs: tuple[str, ...] = (name.rpartition(":")[2],)
  if name == "rcas":
    runs = rules
    given.setdefault("batch", -(-width // len(rules)))
  elif name in _ANY_BATCH:
    given.setdefault("batch", width)
  elif name == "surrogate":
    given.setdefault("batch", _FIXED_BATCH)
  if name in OF_AN_INNER:
    own = inspect.signature(constructor).parameters
    rest = {key: given.pop(key) for key in list(given) if key not in own}
    given["inner"], runs = make_optimizer(given.get("inner", "rcas"), rest, resource_names, width)
  if name == "exchange":
    if given["inner"].replicates is not None:
      raise ValueError("config.search.options: exchange takes no inner optimizer with replicates")
    runs = (*runs, "exchange")
  try:
    return constructors.make(name, constructor, given), runs
  except TypeError as error:
    allowed = ", ".join(inspect.signature(constructor).parameters) or "none"
    raise ValueError(f"config.search.options of {name}: {error}; allowed: {allowed}") from error


def constructor_of(name: str) -> Callable[..., Any]:
  """The constructor of an optimizer.

  Raises:
    ValueError: If there is none of that name.
  """
  if constructors.is_own(name):
    return constructors.own_constructor(name, OPTIMIZERS)
  if name not in OPTIMIZERS:
    raise constructors.unknown(name, OPTIMIZERS)
  return getattr(optimizers, name)


def most_measurements(search: Mapping[str, Any], optimizer: Optimizer) -> int:
  """How often `config.search` may measure one network."""
  if optimizer.replicates is None:
    return 1
  name, options = search["optimizer"], dict(search["options"])
  while name in OF_AN_INNER:
    name = options.pop("inner", "rcas")
  if name in OPTIMIZERS and name != "surrogate":
    return max(options["race"])
  limit = search["max_evaluations"] or _MANY_MEASUREMENTS
  return min(own_limit(name, options) or limit, limit)


def own_limit(name: str, options: Mapping[str, Any]) -> int | None:
  """Sets that an optimizer with an argument `evaluations` asks at most; None without one."""
  return options.get("evaluations", constructors.default(constructor_of(name), "evaluations"))


def first_additions(setup: Setup) -> np.ndarray:
  """The start set and all distinct networks of one more block that fit. `[K, positions]`."""
  start = jnp.asarray(setup.space.required)
  additions = setup.problem.additions(start)
  distinct = np.asarray(additions.fits & (additions.representative == jnp.arange(setup.problem.n)))
  masks = np.asarray(start) | np.eye(setup.problem.n, dtype=bool)[distinct]
  return setup.space.architecture(np.concatenate([np.asarray(start)[None], masks]))


def is_greedy(setup: Setup) -> bool:
  """Whether the search measures all first additions, and adds block after block."""
  return setup.config["search"]["optimizer"] in _GREEDY
