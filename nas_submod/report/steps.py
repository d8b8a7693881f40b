"""The path of a search step by step: the block added, its gain, and the runner-up."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from nas_submod.networks.search_space import SearchSpace
from nas_submod.optimizers import catalog
from nas_submod.optimizers.measurements import QUANTILE
from nas_submod.problem import SMALLEST_COST
from nas_submod.report.finished import Finished, deviation, mean_scores, real, scores_of
from nas_submod.resources import network_costs


class Addition(NamedTuple):
  """A block put at an empty position.

  Attributes:
    stage: Its stage, from 1.
    option: Its option, from 1.
    key: Key of the network with it.
    architecture: The network with it.
  """

  stage: int
  option: int
  key: str
  architecture: tuple[int, ...]


class Candidate(NamedTuple):
  """An addition that was measured, with its gain."""

  addition: Addition
  gain: float


class Step(NamedTuple):
  """A step of a path.

  Attributes:
    row: The step as `result.json` holds it.
    gain: Its value minus the value of the step before; NaN for the first.
    added: The block that it added; None if it changed the network in another way.
    runner_up: The best other addition measured there, by the rule of the run; None without one.
    doubt: Whether, within noise, `runner_up` may be better; None if unknown.
  """

  row: Mapping[str, Any]
  gain: float
  added: Addition | None = None
  runner_up: Candidate | None = None
  doubt: bool | None = None


class Chain(NamedTuple):
  """A path from network to network.

  Attributes:
    runs: The runs that took it.
    steps: Its steps.
    grows: Whether each step adds one block. Otherwise steps are successive best networks.
  """

  runs: tuple[str, ...]
  steps: tuple[Step, ...]
  grows: bool


def chains(search: Finished) -> list[Chain]:
  """The paths of a search; runs with the same path share it."""
  space = search.space
  merged: dict[tuple[str, ...], tuple[list[str], list[Mapping[str, Any]], bool]] = {}
  for run in search.runs:
    rows = [row for row in search.result["path"] if row["run"] == run]
    paths = _growing(space, rows)
    # Unless most steps add a block, the optimizer does not grow networks.
    grows = 2 * (len(rows) - len(paths)) >= len(rows)
    for path in paths if grows else [rows]:
      keys = tuple(space.key(row["architecture"]) for row in path)
      merged.setdefault(keys, ([], path, grows))[0].append(run)
  measured = mean_scores(search)
  found = [
    Chain(tuple(dict.fromkeys(runs)), tuple(_steps(search, runs[0], rows, grows, measured)), grows)
    for runs, rows, grows in merged.values()
  ]
  answer = space.key(search.result["architecture"])
  # Paths that reach the answer come first.
  return sorted(
    found, key=lambda chain: all(answer != space.key(s.row["architecture"]) for s in chain.steps)
  )


def _growing(
  space: SearchSpace, rows: Sequence[Mapping[str, Any]]
) -> list[list[Mapping[str, Any]]]:
  """Steps as paths that add block after block; a run may hold several, side by side."""
  paths: list[list[Mapping[str, Any]]] = []
  for row in rows:
    for path in reversed(paths):
      if _addition(space, path[-1]["architecture"], row["architecture"]):
        path.append(row)
        break
    else:
      paths.append([row])
  return paths


def _steps(
  search: Finished,
  run: str,
  rows: Sequence[Mapping[str, Any]],
  grows: bool,
  measured: Mapping[str, float],
) -> Iterator[Step]:
  yield Step(rows[0], math.nan)
  for before, row in itertools.pairwise(rows):
    gain = real(row["value"]) - real(before["value"])
    added = _addition(search.space, before["architecture"], row["architecture"])
    if not (grows and added):
      yield Step(row, gain)
      continue
    known = [a for a in additions(search.space, before["architecture"]) if a.key in measured]
    others = [a for a in known if a.key != added.key]
    base = search.space.key(before["architecture"])
    if base not in measured or not others:
      yield Step(row, gain, added)
      continue
    prices = _prices(search, run, before["architecture"], [added, *others])
    gains = np.array([gain, *(measured[a.key] - measured[base] for a in others)])
    # Elements without gain come last, whatever they cost.
    order = np.lexsort((-np.where(gains > 0, gains / prices, gains), gains <= 0))
    best = int(next(i for i in order if i > 0))
    doubt = True if row["tie"] else None
    # The noise of scores with shared weights is not known.
    if not search.uses_shared_weights and not doubt:
      doubt = _in_doubt(search, gains, prices, best, [base, added.key, others[best - 1].key])
    yield Step(row, gain, added, Candidate(others[best - 1], float(gains[best])), doubt)


def _in_doubt(
  search: Finished, gains: np.ndarray, prices: np.ndarray, best: int, keys: Sequence[str]
) -> bool:
  """Whether noise may have decided between the first addition and the one at `best`."""
  counts = {key: len(scores) for key, scores in scores_of(search, fresh=False).items()}
  noise = [deviation(search) / math.sqrt(counts.get(key, 1)) for key in keys]
  lead = gains[0] / prices[0] - gains[best] / prices[best]
  shares = 1 / prices[0] - 1 / prices[best], 1 / prices[0], 1 / prices[best]
  error = math.sqrt(sum((share * n) ** 2 for share, n in zip(shares, noise)))
  return bool(lead < QUANTILE * error)


def additions(space: SearchSpace, architecture: Sequence[int]) -> list[Addition]:
  """The distinct networks with one more block."""
  found: dict[str, Addition] = {}
  for stage, where in enumerate(space.stage_slices):
    for position in range(where.start, where.stop):
      for option in range(1, len(space.options) + 1) if not architecture[position] else ():
        grown = (*architecture[:position], option, *architecture[position + 1 :])
        key = space.key(grown)
        found.setdefault(key, Addition(stage + 1, option, key, grown))
  found.pop(space.key(architecture), None)
  return list(found.values())


def _addition(space: SearchSpace, before: Sequence[int], after: Sequence[int]) -> Addition | None:
  """The block that `after` adds to `before`; None if the difference is not one added block."""
  changed = [p for p, (old, new) in enumerate(zip(before, after)) if old != new]
  if len(changed) != 1 or before[changed[0]]:
    return None
  position = changed[0]
  stage = next(s for s, where in enumerate(space.stage_slices) if position < where.stop)
  return Addition(stage + 1, int(after[position]), space.key(after), tuple(after))


def _prices(
  search: Finished, run: str, base: Sequence[int], found: Sequence[Addition]
) -> np.ndarray:
  """Price of each addition to `base` by the rule of a run. `[K]`."""
  known = {n: v for n, v in search.result["budget"].items() if n in search.resources}
  limits = {n: v for n, v in known.items() if search.resources[n].additive}
  rule = run
  if rule not in (*limits, "joint"):
    options = search.config["search"]["options"]
    made_by = catalog.entry_of(options.get("inner") or search.config["search"]["optimizer"])
    rule = options.get("rule") or catalog.default_of(made_by.constructor, "rule") or "unit"
  if rule.startswith("density:"):
    rule = list(search.result["budget"])[int(rule.partition(":")[2])]
  networks = np.array([base, *(addition.architecture for addition in found)])
  costs = network_costs(search.space, networks, tuple(limits), search.resources) if limits else None
  if costs is None or rule not in (*limits, "joint"):
    return np.ones(len(found))
  extra = (costs[1:] - costs[0]) / np.array(list(limits.values()))
  price = extra.sum(1) if rule == "joint" else extra[:, list(limits).index(rule)]
  return np.maximum(price, SMALLEST_COST)
