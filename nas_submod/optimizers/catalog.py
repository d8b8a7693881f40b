"""The optimizers that a config may name, and what a search must know of each."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

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
from nas_submod.validation import imported

# Sets asked in a round by optimizers whose answer depends on that number; it is fixed, so that the
# answer does not depend on the devices.
FIXED_BATCH = 4
_MANY_MEASUREMENTS = 10_000  # of one network, if an optimizer states no number


class Entry(NamedTuple):
  """An optimizer that a config may name.

  Attributes:
    constructor: Makes it.
    defaults: `(width, resource names) -> arguments` that a config need not give; `width` is the
      number of sets that can be evaluated at once. The resources are those with a price.
    runs: `resource names -> names of the runs inside`; None if its own name is the only one.
    grows: Whether it first measures every single addition to the required set.
    asks_all: Whether it measures every feasible set.
    wraps: Whether it wraps an inner optimizer, named by the option `inner`.
    inner_width: The `width` of the inner optimizer; None for the same.
    extra_run: Name of a run added to the runs of the inner optimizer; "" for none.
  """

  constructor: Callable[..., Optimizer]
  defaults: Callable[[int, Sequence[str]], Mapping[str, Any]] = lambda width, names: {}
  runs: Callable[[Sequence[str]], tuple[str, ...]] | None = None
  grows: bool = False
  asks_all: bool = False
  wraps: bool = False
  inner_width: int | None = None
  extra_run: str = ""


def _rules(names: Sequence[str]) -> tuple[str, ...]:
  """The rules of `rcas`, in its order, for resources with a price."""
  return ("unit", *names, "joint") if names else ("unit",)


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
  "exchange": Entry(exchange, _at_once, wraps=True, extra_run="exchange"),
  # Many inner optimizers run side by side, so each asks one set at a time.
  "partial_enumeration": Entry(partial_enumeration, wraps=True, inner_width=1),
  "surrogate": Entry(surrogate, _fixed),
  "local_search": Entry(local_search),
  "random_search": Entry(random_search, _fixed),  # Only the best set of a round enters the path.
  "regularized_evolution": Entry(regularized_evolution),
  "brute_force": Entry(brute_force, asks_all=True),
}


class NamedOptimizer(NamedTuple):
  """An optimizer made by name.

  Attributes:
    optimizer: The optimizer.
    runs: Names of the runs inside; if there are more runs, the names repeat.
    grows: As in `Entry`.
    asks_all: As in `Entry`.
    evaluations: The most sets that it asks, by an argument; None if there is no bound.
    measurements: The most measurements of one network, if evaluations are not limited.
  """

  optimizer: Optimizer
  runs: tuple[str, ...]
  grows: bool
  asks_all: bool
  evaluations: int | None
  measurements: int


def make(
  name: str, options: Mapping[str, Any], resource_names: Sequence[str], width: int
) -> NamedOptimizer:
  """Makes an optimizer by its name.

  Args:
    name: A key of `CATALOG`, or `module:function`.
    options: Its arguments. An optimizer that wraps another one takes the other's name as `inner`
      ("rcas" by default), and passes on the options that are not its own.
    resource_names: The budgets whose resources have a price, see `Problem.priced`.
    width: Number of sets that can be evaluated at once.

  Raises:
    ValueError: If the optimizer or one of its options is unknown or not allowed.
  """
  entry = entry_of(name)
  given: dict[str, Any] = {
    key: tuple(v) if isinstance(v, list) else v for key, v in options.items()
  }
  parameters = inspect.signature(entry.constructor).parameters
  inner = None
  if entry.wraps:
    rest = {key: given.pop(key) for key in list(given) if key not in parameters}
    inner_width = entry.inner_width or width
    inner = make(given.get("inner", "rcas"), rest, resource_names, inner_width)
    given["inner"] = inner.optimizer
  takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
  if not takes_any and (unknown := [key for key in given if key not in parameters]):
    raise ValueError(
      f"config.search.options of {name} has {unknown[0]!r}; allowed: "
      f"{', '.join(parameters) or 'none'}"
    )
  given = {**entry.defaults(width, resource_names), **given}
  if entry.grows and width > 1:
    given.setdefault("wide_start", True)
  try:
    optimizer = entry.constructor(**given)
  except (TypeError, ValueError) as error:
    allowed = f"; allowed: {', '.join(parameters) or 'none'}" * isinstance(error, TypeError)
    raise ValueError(f"config.search.options of {name}: {error}{allowed}") from error
  check_made(name, optimizer)
  evaluations = given.get("evaluations", default_of(entry.constructor, "evaluations"))
  if inner is not None:
    runs = (*inner.runs, entry.extra_run) if entry.extra_run else inner.runs
    return inner._replace(optimizer=optimizer, runs=runs, grows=False, evaluations=evaluations)
  measurements = 1
  if optimizer.replicates is not None:
    # A race states how often it measures a network; others may use every evaluation for it.
    races = name in CATALOG and given.get("race")
    measurements = max(given["race"]) if races else evaluations or _MANY_MEASUREMENTS
  runs = entry.runs(resource_names) if entry.runs else (name.rpartition(":")[2],)
  return NamedOptimizer(optimizer, runs, entry.grows, entry.asks_all, evaluations, measurements)


def entry_of(name: str) -> Entry:
  """The entry of an optimizer, or one for a user's constructor.

  Raises:
    ValueError: If there is no optimizer of that name.
  """
  if isinstance(name, str) and name in CATALOG:
    return CATALOG[name]
  return Entry(users_constructor(name, tuple(CATALOG)))


def users_constructor(name: str, others: Sequence[str]) -> Callable[..., Any]:
  """Imports the constructor `module:function`; `others` are the other names allowed.

  Raises:
    ValueError: If the module cannot be imported or has no such function.
  """
  return imported("optimizer", name, f"{', '.join(others)}, or module:function for your own")


def check_made(name: str, optimizer: Any) -> None:
  """Raises ValueError if a constructor did not return an Optimizer."""
  if not isinstance(optimizer, Optimizer):
    raise ValueError(
      f"optimizer {name!r} returned {type(optimizer).__name__}; allowed: a "
      "nas_submod.optimizers.Optimizer(init, ask, tell, done, best)"
    )


def default_of(constructor: Callable[..., Any], argument: str) -> Any:
  """Default of an argument; None if it has no default or does not exist."""
  parameter = inspect.signature(constructor).parameters.get(argument)
  return None if parameter is None or parameter.default is parameter.empty else parameter.default
