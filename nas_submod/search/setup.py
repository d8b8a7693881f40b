"""The setup of a search: everything is checked, loaded and made before anything is trained."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nas_submod import data as datasets
from nas_submod import parallel, precision, resources, training
from nas_submod.evaluation.evaluator import SHARED_WEIGHTS, Evaluation, Score, score_named
from nas_submod.evaluation.shared_weights import settings as shared_settings
from nas_submod.evaluation.shared_weights.settings import method_of
from nas_submod.fields import check_config, check_sizes
from nas_submod.networks import architectures, spaces
from nas_submod.networks.search_space import SearchSpace
from nas_submod.optimizers import Optimizer, catalog
from nas_submod.optimizers.catalog import FIXED_BATCH
from nas_submod.problem import Problem
from nas_submod.training import check_fit
from nas_submod.validation import imported, located

_MOST_ELEMENTS = 10_000  # A greedy round has this many sets, each of this many elements.


class Setup(NamedTuple):
  """A checked config: everything that a search needs, nothing trained yet.

  Attributes:
    config: The config.
    space: The search space.
    data: The images.
    problem: The ground set, its groups and its knapsacks.
    resources: The resources by name, see `resources.from_config`.
    budget: Budgets by resource, as the config gives them.
    optimizer: The optimizer.
    runs: Names of the runs inside the optimizer. With more runs than names, the names repeat.
    grows: Whether the optimizer measures all first additions, then adds block after block.
    evaluations: Largest number of sets that the optimizer asks for; None if not known in advance.
    most_measurements: Largest number of measurements of one network. Later replicates have fresh
      seeds.
    shares: Whether shared weights are trained first, see `search.sharing`.
    guided: Whether the optimizer then chooses from a pool of networks that they score.
    score: The score of an evaluation.
    references: Networks within the budgets to compare the answer with, by name.
  """

  config: Mapping[str, Any]
  space: SearchSpace
  data: datasets.Data
  problem: Problem
  resources: resources.Resources
  budget: dict[str, int | float]
  optimizer: Optimizer
  runs: tuple[str, ...]
  grows: bool
  evaluations: int | None
  most_measurements: int
  shares: bool
  guided: bool
  score: Score
  references: Mapping[str, tuple[int, ...]]

  def check(self, evaluation: Evaluation) -> None:
    """Raises ValueError if an evaluation cannot belong to this search."""
    self.space.from_key(evaluation.key)
    self.score(evaluation)


def make_setup(config: Mapping[str, Any], data: datasets.Data | None = None) -> Setup:
  """Checks a config and loads its data.

  Args:
    config: `seed`, `space`, `data`, `budget`, `score`, `train` and `search`; see `configs/`.
      Without `resources`, the defaults apply; without `evaluation`, networks are trained.
    data: What `data.load(config["data"])` returned, if it is known; None loads it.

  Raises:
    ValueError: If a setting cannot work; one line says what is allowed.
  """
  if precision.other_settings().get("jax_enable_x64"):
    raise ValueError("JAX is set to 64 bits (jax_enable_x64); allowed: 32 bits")
  check_config(config, ("seed", "space", "data", "budget", "score", "search", "train"))
  space = spaces.from_config(config["space"])
  if space.elements > _MOST_ELEMENTS:
    raise ValueError(
      f"config.space has {space.elements:,} elements, {space.positions:,} positions times "
      f"{len(space.options):,} options; allowed: up to {_MOST_ELEMENTS:,}"
    )
  check_sizes(config, space.image_shape)
  table = resources.from_config(config.get("resources"))
  budget = resources.check_budget(space, config["budget"], table)
  method = method_of(config)
  score = score_named(config["score"])
  cost, limits = resources.knapsacks(space, budget, table)
  additive = tuple(name for name in budget if table[name].additive)
  problem = Problem(
    groups=space.groups,
    cost=cost,
    budget=limits,
    required=space.required,
    canonical=space.canonical_mask,
    priced=[name in additive for name in budget],
  )
  search, limit = config["search"], config["search"]["max_evaluations"] or None
  guided = search["options"].get("features") == SHARED_WEIGHTS
  # Both are made after the shared weights are trained.
  later = ("features", "pool") if guided else ()
  options = {name: option for name, option in search["options"].items() if name not in later}
  named = make_optimizer(config, space, additive, options)
  data = datasets.load(config["data"]) if data is None else data
  check_fit(space, data)
  # The optimizer raises here if it cannot take the problem, such as too many elements.
  jax.eval_shape(named.optimizer.init, problem, jax.random.key(0))
  if shares := guided or method == SHARED_WEIGHTS:
    check_sharing(config, data, guided)
  evaluations = space.distinct() if named.asks_all else named.evaluations
  if guided and config["evaluation"]["pool"] < (asked := min(evaluations or 1, limit or math.inf)):
    raise ValueError(
      f"config.evaluation.pool is {config['evaluation']['pool']}; allowed: {asked} or "
      "more, the number of networks that surrogate trains"
    )
  with located("config.train"):
    training.recipe(config["train"], data)  # Raises if it is not possible.
  return Setup(
    config=config,
    space=space,
    data=data,
    problem=problem,
    resources=table,
    budget=budget,
    optimizer=named.optimizer,
    runs=named.runs,
    grows=named.grows,
    evaluations=evaluations,
    most_measurements=min(named.measurements, limit or named.measurements),
    shares=shares,
    guided=guided,
    score=score,
    references=_references(space, search.get("references") or (), problem),
  )


def _references(
  space: SearchSpace, names: Sequence[str], problem: Problem
) -> dict[str, tuple[int, ...]]:
  """The networks of `config.search.references` that are within the budgets.

  Raises:
    ValueError: If one is not a network of the space.
  """
  found = {}
  for name in names:
    with located("config.search.references"):
      architecture = architectures.read(space, name)
    if problem.within_budget(problem.cost(jnp.asarray(space.mask(architecture)))):
      found[name] = tuple(architecture)
  return found


def make_optimizer(
  config: Mapping[str, Any],
  space: SearchSpace,
  resource_names: Sequence[str],
  options: Mapping[str, Any],
) -> catalog.NamedOptimizer:
  """Makes the optimizer of a config.

  Args:
    config: `search`.
    space: The space, for the option `features`: `module:function` names a function that makes a
      traceable function `mask [n] -> [d]` from the space.
    resource_names: Names of the budgets that are prices.
    options: Arguments of the optimizer.

  Raises:
    ValueError: If the optimizer or one of its options is unknown or not allowed.
  """
  search = config["search"]
  # With a limit, speculative sets change the answer, so the number of sets asked in a round may not
  # depend on the devices.
  width = FIXED_BATCH if search["max_evaluations"] else parallel.device_count()
  if isinstance(name := options.get("features"), str):
    options = {**options, "features": _features(name, space)}
  return catalog.make(search["optimizer"], options, resource_names, width)


def _features(name: str, space: SearchSpace) -> Callable[[jax.Array], jax.Array]:
  """Makes the features `mask [n] -> [d]` with a user's function of the space, `module:function`.

  Raises:
    ValueError: If it cannot be imported, has other arguments or returns no function.
  """
  function = imported("features", name, f"{SHARED_WEIGHTS}, or module:function for your own")
  form = "allowed: a function space -> (mask [n] -> [d])"
  try:
    inspect.signature(function).bind(space)
  except TypeError as error:
    raise ValueError(f"features {name!r}: {error}; {form}") from None
  features = function(space)
  if not callable(features):
    raise ValueError(f"features {name!r} returned {type(features).__name__}; {form}")
  return features


def check_sharing(config: Mapping[str, Any], data: datasets.Data, guided: bool) -> None:
  """Checks the settings of shared weights, and settings that exclude them.

  Raises:
    ValueError: If one is not possible.
  """
  if guided and config["search"]["optimizer"] != "surrogate":
    raise ValueError(
      f"config.search.options.features needs the optimizer surrogate, not "
      f"{config['search']['optimizer']}"
    )
  if guided and "pool" in config["search"]["options"]:
    raise ValueError(
      "with features=shared_weights the pool is generated: remove config.search.options.pool; "
      "config.evaluation.pool is its size"
    )
  if guided and method_of(config) == SHARED_WEIGHTS:
    raise ValueError(
      "config.search.options.features=shared_weights needs config.evaluation.method=training"
    )
  if config["score"] == "negative_train_loss":
    raise ValueError(
      "shared weights have no training loss of a network: config.score must be negative_loss or "
      "accuracy"
    )
  shared_settings.from_config(config, data)


def first_additions(setup: Setup) -> np.ndarray:
  """The start network, then all distinct fitting networks with one more block. `[K, positions]`."""
  start = jnp.asarray(setup.space.required)
  additions = setup.problem.additions(start)
  distinct = np.asarray(additions.fits & (additions.representative == jnp.arange(setup.problem.n)))
  masks = np.asarray(start) | np.eye(setup.problem.n, dtype=bool)[distinct]
  return setup.space.architecture(np.concatenate([np.asarray(start)[None], masks]))
