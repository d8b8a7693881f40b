"""The optimizers that a config may name, and what a search must know of each."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from nas_submod.optimizers import constructors
from nas_submod.optimizers.base import Optimizer
from nas_submod.optimizers.bayesian.surrogate import surrogate
from nas_submod.optimizers.enumeration import partial_enumeration
from nas_submod.optimizers.evolution import regularized_evolution
from nas_submod.optimizers.exchanges import exchange
from nas_submod.optimizers.exhaustive import brute_force
from nas_submod.optimizers.greedy_family.rules import (
  greedy,
  greedy_plus_max,
  rcas,
  stochastic_greedy,
)
from nas_submod.optimizers.random_sets import random_search
from nas_submod.optimizers.restarts import local_search

# Sets asked in a round by optimizers whose answer depends on it, so that it does not depend on the
# number of devices.
FIXED_BATCH = 4
_MANY_MEASUREMENTS = 10_000  # of one network, where an optimizer does not say how many


class Entry(NamedTuple):
  """An optimizer that a config may name.

  Attributes:
    constructor: Makes it.
    defaults: `(width, resource names) -> arguments` that a config need not give; `width` is the
      number of sets that can be evaluated at once.
    runs: Names of the runs inside, from the resource names; None for its own name alone.
    extra_run: Name of a run that is added to those of an inner optimizer; "" for none.
    grows: It measures the required set with each single element added, then adds step by step.
  """

  constructor: Callable[..., Optimizer]
  defaults: Callable[[int, Sequence[str]], Mapping[str, Any]] = lambda width, names: {}
  runs: Callable[[Sequence[str]], tuple[str, ...]] | None = None
  extra_run: str = ""
  grows: bool = False

  @property
  def completes(self) -> bool:
    """Whether it completes an inner optimizer."""
    return "inner" in inspect.signature(self.constructor).parameters


def _rules(names: Sequence[str]) -> tuple[str, ...]:
  return ("unit", *names, "joint")


def _at_once(width: int, names: Sequence[str]) -> dict[str, Any]:
  return {"batch": width}


def _at_once_by_rule(width: int, names: Sequence[str]) -> dict[str, Any]:
  return {"batch": -(-width // len(_rules(names)))}


def _fixed(width: int, names: Sequence[str]) -> dict[str, Any]:
  return {"batch": FIXED_BATCH}


CATALOG: Mapping[str, Entry] = {
  "rcas": Entry(rcas, _at_once_by_rule, runs=_rules, grows=True),
  "greedy": Entry(greedy, _at_once, grows=True),
  "greedy_plus_max": Entry(greedy_plus_max, _at_once, grows=True),
  "stochastic_greedy": Entry(stochastic_greedy, _at_once),
  "exchange": Entry(exchange, _at_once, extra_run="exchange"),
  "partial_enumeration": Entry(partial_enumeration),
  "surrogate": Entry(surrogate, _fixed),
  "local_search": Entry(local_search),
  "random_search": Entry(random_search, _at_once),
  "regularized_evolution": Entry(regularized_evolution),
  "brute_force": Entry(brute_force),
}


class Named(NamedTuple):
  """An optimizer made by name.

  Attributes:
    optimizer: The optimizer.
    runs: Names of the runs inside, repeated if there are more.
    grows: As in `Entry`.
    evaluations: Sets that it asks at most, by an argument; None where nothing says so.
    measurements: Measurements of one network at most, where no limit is set.
  """

  optimizer: Optimizer
  runs: tuple[str, ...]
  grows: bool
  evaluations: int | None
  measurements: int


def make(
  name: str,
  options: Mapping[str, Any],
  resource_names: Sequence[str],
  width: int,
  inside: bool = False,
) -> Named:
  """Makes an optimizer by its name.

  Args:
    name: A key of `CATALOG`, or `module:function`.
    options: Its arguments. An optimizer that completes another one takes the name of that as
      `inner` ("rcas" by default), and hands it the options that are not its own.
    resource_names: The budgets.
    width: Number of sets that can be evaluated at once.
    inside: Whether another optimizer completes it.

  Raises:
    ValueError: If the optimizer or one of its options is unknown or not allowed.
  """
  entry = entry_of(name)
  given: dict[str, Any] = {
    key: tuple(v) if isinstance(v, list) else v for key, v in options.items()
  }
  parameters = inspect.signature(entry.constructor).parameters
  inner = None
  if entry.completes:
    rest = {key: given.pop(key) for key in list(given) if key not in parameters}
    inner = make(given.get("inner", "rcas"), rest, resource_names, width, inside=True)
    given["inner"] = inner.optimizer
  given = {**entry.defaults(width, resource_names), **given}
  if entry.grows and not inside:  # An inner optimizer runs many times over, each with n rows more.
    given.setdefault("wide_start", True)
  try:
    optimizer = constructors.make(name, entry.constructor, given)
  except TypeError as error:
    allowed = ", ".join(parameters) or "none"
    raise ValueError(f"config.search.options of {name}: {error}; allowed: {allowed}") from error
  evaluations = given.get("evaluations", constructors.default(entry.constructor, "evaluations"))
  measurements = 1 if optimizer.replicates is None else _MANY_MEASUREMENTS
  if inner is not None:
    runs = (*inner.runs, entry.extra_run) if entry.extra_run else inner.runs
    return Named(optimizer, runs, False, evaluations, min(measurements, inner.measurements))
  if optimizer.replicates is not None:
    # A race says how often it measures; others as often as they evaluate.
    measurements = max(given["race"]) if "race" in given else evaluations or _MANY_MEASUREMENTS
  runs = entry.runs(resource_names) if entry.runs else (name.rpartition(":")[2],)
  return Named(optimizer, runs, entry.grows, evaluations, measurements)


def entry_of(name: str) -> Entry:
  """The entry of an optimizer.

  Raises:
    ValueError: If there is none of that name.
  """
  if constructors.is_own(name):
    return Entry(constructors.own_constructor(name, tuple(CATALOG)))
  if name not in CATALOG:
    raise constructors.unknown(name, tuple(CATALOG))
  return CATALOG[name]
