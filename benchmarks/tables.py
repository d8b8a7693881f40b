"""Tabular benchmarks of architecture search: CSV files with a row for each trained network.

The first line names the columns:

  arch       options of the positions: digits (`0120`), or numbers between `-`, `|`, `,` or spaces;
             a single number is always read as digits
  canonical  optional: the canonical form of the network, in the format of `arch`
  acc0, ...  accuracies of separate trainings, also `accuracy_0`, `test_acc0`, `val_acc0`, `seed0`.
             F is their mean; a noisy measurement is one of them. Without them F is `mean_acc`,
             `mean`, `accuracy`, `acc`, `test_acc` or `val_acc`, without noise. The first of this
             list that a table has counts. Fractions are turned into percent.
             `--measured` names one accuracy that is F, without noise; regret is then
             counted in the mean of the others. That shows what a proxy, such as a
             short training, is worth.
  others     numbers: costs of the whole network (`--costs` chooses). Without `--costs`, columns of
             losses, seeds, ranks, row numbers and other accuracies are left out, and columns with
             one number throughout.

Commas, semicolons or tabs separate columns. Lines that begin with `#` are comments.

An element is a position with an option. A position without a chosen element has option 0, the empty
one, if there is a `canonical` column. Without that column all options are real, and it has the
option whose networks are the cheapest. A set that is not in the table is infeasible. The empty set
is an exception: it then costs nothing and cannot be measured.
"""

import itertools
import pathlib
import re
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from benchmarks import table_files
from benchmarks.runs import Case, Instance
from nas_submod.problem import Problem

# Names of accuracies, lower case, the first that a table has counts.
_TRAININGS = [rf"{split}(acc|accuracy|seed)[-_ ]?\d+" for split in ("", "test[-_ ]", "val[-_ ]")]
_MEANS = ["mean_acc", "mean", "accuracy", "acc"]
_MEANS += ["test_acc", "test_accuracy", "val_acc", "val_accuracy"]
# Names of columns that are no costs: such a word between separators, or one of the others alone.
_NOT_COSTS = re.compile(
  r"(.*[-_ .])?(acc|accuracy|accuracies|top_?[15]|loss|losses|err|error|std|stdev|f1|auc)"
  r"([-_ .].*|\d*)|(.*[-_ .])?ids?"
  r"|(seeds?|ranks?|idx|index|epochs?|mean|unnamed: 0|)\d*|seed[-_ .].*",
  re.IGNORECASE,
)
_DENSE = 2**22  # largest number of codes for which an array holds the row of each code
_MULTIPLIER = 2654435761  # odd, from the golden ratio: spreads codes over 32 bits


class Table:
  """A table as a set function with costs: `N` rows, `P` positions, `m` costs.

  Attributes:
    name: Name of the file.
    groups: Position of each element. `[n]` int.
    scores: Accuracies that F is measured by, in percent. `[N, trainings]`.
    final: Accuracy in which regret is counted, in percent. `[N]`.
    costs: Costs of the rows. `[N, m]`.
    cost_names: Their names.
    left_out: Other columns that are no costs: by their names, or for the reason in brackets.
  """

  def __init__(self, path: str, costs: Sequence[str] = (), measured: str | None = None):
    """Reads the table.

    Args:
      path: A CSV file.
      costs: Columns that are costs; empty: all numbers that are not accuracies.
      measured: The accuracy that is F; the mean of the others is the final score. None: F is the
        mean of all, and so is the final score.

    Raises:
      ValueError: If a column is missing, or a cell is not a number or an architecture.
    """
    header, cells, lines = table_files.read(path)
    columns = {name: [row[i] for row in cells] for i, name in enumerate(header)}
    if "arch" not in columns:
      raise ValueError(f"{path} has no column arch, only {', '.join(header)}")
    trainings = _accuracies(header)
    if not trainings:
      raise ValueError(
        f"{path} has no accuracies, only {', '.join(header)}: a column acc0, {' or '.join(_MEANS)} "
        "is needed"
      )
    reasons = {
      name: _reason(name, cells)
      for name, cells in columns.items()
      if name and name not in (*trainings, "arch", "canonical")
    }
    names = list(costs) or [name for name, reason in reasons.items() if reason is None]
    self.left_out = [
      f"{name} ({reason})" if reason else name
      for name, reason in reasons.items()
      if name not in names
    ]
    if wrong := sorted(set(names) & {"arch", "canonical", *trainings}):
      raise ValueError(f"--costs={wrong[0]}: that column is no cost")
    missing = [name for name in names if name not in columns]
    if missing or not names:
      left = f"; left out: {', '.join(self.left_out)}" if self.left_out else ""
      raise ValueError(
        f"{path} has no column {missing[0]}; allowed: {', '.join(reasons)}"
        if missing
        else f"{path} has no column of costs{left}"
      )

    if measured is not None and (measured not in trainings or len(trainings) == 1):
      raise ValueError(
        f"--measured={measured}: that accuracy and others are needed; {path} has "
        f"{', '.join(trainings)}"
      )

    self.name = pathlib.Path(path).stem
    self.cost_names = names
    self.costs = table_files.numbers(path, lines, columns, names)
    accuracies = table_files.numbers(path, lines, columns, trainings).T
    self.scores = np.stack(
      [table_files.as_percent(path, lines, *column) for column in zip(trainings, accuracies)], 1
    )
    tokens = [table_files.positions(path, line, arch) for line, arch in zip(lines, columns["arch"])]
    canonical = None
    if "canonical" in columns:
      canonical = [
        table_files.positions(path, line, arch) for line, arch in zip(lines, columns["canonical"])
      ]
    lengths = [len(row) for row in tokens]
    usual = max(lengths, key=lengths.count)
    for line, row in zip(lines * 2, tokens + (canonical or [])):
      if len(row) != usual:
        raise ValueError(
          f"{path} line {line} has an architecture of {len(row)} positions, others have {usual} (a "
          "spreadsheet drops leading zeros; numbers of two digits need a separator)"
        )
    content = zip(self.scores.tolist(), self.costs.tolist(), canonical or tokens)
    table_files.check_repeats(path, lines, tokens, list(content))
    if canonical is not None:
      known = list(zip(self.scores.tolist(), self.costs.tolist()))
      table_files.check_repeats(path, lines, canonical, known, "canonical form")
      table_files.check_canonical(path, lines, tokens, canonical)
    self.final = self.scores.mean(axis=1)
    if measured is not None:
      column = trainings.index(measured)
      self.final = np.delete(self.scores, column, axis=1).mean(axis=1)
      self.scores = self.scores[:, [column]]
    options = _options(tokens, canonical, self.costs)
    rows = _encode(tokens, options)
    self._canonical_rows = None if canonical is None else jnp.asarray(_encode(canonical, options))
    sizes = [len(known) - 1 for known in options]
    if not sum(sizes):
      raise ValueError(f"{path} has nothing to choose: all rows have the same architecture")
    self.groups = np.repeat(np.arange(len(sizes)), sizes)
    self._option = jnp.asarray(np.concatenate([np.arange(1, size + 1) for size in sizes]))
    self._positions = len(sizes)
    self._find = _finder(rows, np.array([size + 1 for size in sizes]))
    whole = bool((self.costs == np.floor(self.costs)).all() and self.costs.max() < 2**29)
    # The last row is for sets that are not in the table: finite, but above every budget.
    self._costs = jnp.asarray(
      np.vstack([self.costs, 2 * self.costs.max(axis=0) + 1]), jnp.int32 if whole else jnp.float32
    )
    self._scores = jnp.asarray(self.scores, jnp.float32)
    self._means = jnp.asarray(self.scores.mean(axis=1), jnp.float32)
    self._final = jnp.asarray(self.final, jnp.float32)

  def options(self, mask: jax.Array) -> jax.Array:
    """Returns the option of each position in `mask [n]`, 0 if none is chosen. `[P]` int."""
    chosen = jnp.where(mask, self._option, 0)
    return jax.ops.segment_sum(chosen, jnp.asarray(self.groups), num_segments=self._positions)

  def row(self, mask: jax.Array) -> jax.Array:
    """Finds the row of the set `mask [n]`; N if the table does not hold it. `[]` int."""
    return self._find(self.options(jnp.asarray(mask)))

  def cost(self, mask: jax.Array) -> jax.Array:
    """Looks up the costs of the set `mask [n]`. `[m]`."""
    used = self._costs[self.row(mask)]
    nothing = ~jnp.asarray(mask).any() & (self.row(mask) == len(self.costs))
    return jnp.where(nothing, 0, used)

  def canonical(self, mask: jax.Array) -> jax.Array:
    """Returns the canonical set of the same network. `[n]` bool."""
    mask = jnp.asarray(mask)
    row = self.row(mask)
    assert self._canonical_rows is not None
    options = self._canonical_rows.at[row].get(mode="clip")
    return jnp.where(row < len(self.costs), options[self.groups] == self._option, mask)

  def instances(self, pairs: Sequence[Sequence[float]]) -> list[Instance]:
    """Makes instances with budgets that are fractions of the largest costs.

    Args:
      pairs: Fractions. `[K, m]`.

    Returns:
      The instances whose budgets allow the empty set and some network of the table.

    Raises:
      ValueError: If there is none.
    """
    canonical = None if self._canonical_rows is None else self.canonical
    mean, judge = Partial(self._mean, self._means), Partial(self._mean, self._final)
    draw = Partial(self._draw, self._scores)
    start = np.asarray(self.cost(jnp.zeros(len(self.groups), bool)))
    instances = []
    for fractions in pairs:
      budget = np.asarray(fractions) * self.costs.max(axis=0)
      if (start > budget).any():
        continue
      problem = Problem(self.groups, self.cost, budget, canonical=canonical)
      fits = np.asarray(problem.within_budget(self._costs[:-1]))
      optimum = float(np.asarray(self._final)[fits].max(initial=-np.inf))
      if np.isfinite(optimum):
        name = " ".join(f"{fraction:.2g}" for fraction in fractions)
        instances.append(Instance(name, Case(problem, mean, draw, judge), optimum))
    if not instances:
      shares = self.costs.min(axis=0) / np.maximum(self.costs.max(axis=0), 1e-30)
      told = ", ".join(f"{n} {share:.0%}" for n, share in zip(self.cost_names, shares))
      raise ValueError(
        f"{self.name}: no budget, a share of the largest costs, allows any network; the least costs"
        f" are: {told}. --costs chooses the columns"
      )
    return instances

  def _mean(self, means: jax.Array, mask: jax.Array) -> jax.Array:
    return means.at[self.row(mask)].get(mode="fill", fill_value=-jnp.inf)

  def _draw(self, scores: jax.Array, mask: jax.Array, rng: jax.Array) -> jax.Array:
    training = jax.random.randint(rng, (), 0, scores.shape[1])
    return scores.at[self.row(mask), training].get(mode="fill", fill_value=-jnp.inf)


def _accuracies(header: Sequence[str]) -> list[str]:
  """The columns of accuracies: those of trainings, or else the one of their mean."""
  for pattern in _TRAININGS:
    if found := [name for name in header if re.fullmatch(pattern, name, re.IGNORECASE)]:
      return found
  lower = {name.lower(): name for name in reversed(header)}
  return [lower[name] for name in _MEANS if name in lower][:1]


def _reason(name: str, cells: list[str]) -> str | None:
  """Why a column is no cost; "" if its name says so, None if it is one."""
  if _NOT_COSTS.fullmatch(name):
    return ""
  if not table_files.are_numbers(cells):
    return "no numbers"
  return "the same throughout" if len(set(cells)) == 1 else None


def grid(resources: int) -> list[tuple[float, ...]]:
  """Returns all tuples of the fractions 0.2, 0.3, ..., 0.8."""
  return list(itertools.product(np.arange(2, 9) / 10, repeat=resources))


def diagonal(resources: int) -> list[tuple[float, ...]]:
  """Returns tuples of equal fractions 0.3, 0.4, ..., 0.8."""
  return [(fraction,) * resources for fraction in np.arange(3, 9) / 10]


def _options(
  tokens: list[list[int]], canonical: list[list[int]] | None, costs: np.ndarray
) -> list[list[int]]:
  """Returns the options of each position; the first one applies if no element is chosen."""
  shares = (costs / np.maximum(costs.max(axis=0), 1e-30)).sum(axis=1)
  if canonical is not None:
    columns = np.array(tokens + canonical).T
    return [[0, *sorted(set(column.tolist()) - {0})] for column in columns]
  options = []
  for column in np.array(tokens).T:
    known = sorted(set(column.tolist()))
    cheapest = min(known, key=lambda option: shares[column == option].mean())
    options.append([cheapest, *(option for option in known if option != cheapest)])
  return options


def _encode(tokens: list[list[int]], options: list[list[int]]) -> np.ndarray:
  places = [{option: i for i, option in enumerate(known)} for known in options]
  return np.array([[place[token] for place, token in zip(places, row)] for row in tokens], np.int32)


def _finder(rows: np.ndarray, radices: np.ndarray) -> Callable[[jax.Array], jax.Array]:
  """Returns a traceable function from options `[P]` to their row of `rows [N, P]`, or N."""
  missing = len(rows)
  strides = np.ones(len(radices), np.int64)
  if np.prod(radices.astype(np.float64)) <= _DENSE:
    strides[1:] = np.cumprod(radices[:-1])
    codes = np.full(int(np.prod(radices)), missing, np.int32)
    codes[rows @ strides] = np.arange(missing)
    places = jnp.asarray(codes)
    factors = jnp.asarray(strides, jnp.int32)

    def find_dense(options: jax.Array) -> jax.Array:
      row = places.at[jnp.sum(options * factors)].get(mode="fill", fill_value=missing)
      return jnp.where((options < jnp.asarray(radices)).all(), row, missing)

    return find_dense

  powers = np.array(
    [_MULTIPLIER * pow(31, position, 2**32) % 2**32 for position in range(len(radices))], np.uint32
  )
  hashes = (rows.astype(np.uint32) * powers).sum(axis=1, dtype=np.uint32)
  order = np.argsort(hashes, kind="stable")
  _, repeats = np.unique(hashes, return_counts=True)
  run = jnp.arange(int(repeats.max()))
  sorted_hashes, sorted_rows = jnp.asarray(hashes[order]), jnp.asarray(rows[order])
  original = jnp.asarray(order, jnp.int32)

  def find_by_hash(options: jax.Array) -> jax.Array:
    code = jnp.sum(options.astype(jnp.uint32) * jnp.asarray(powers), dtype=jnp.uint32)
    places = jnp.minimum(jnp.searchsorted(sorted_hashes, code) + run, missing - 1)
    equal = (sorted_rows[places] == options).all(axis=1)
    return jnp.where(equal.any(), original[places[jnp.argmax(equal)]], missing)

  return find_by_hash
