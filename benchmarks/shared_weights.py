"""Compares how well shared weights, short trainings, costs and models rank networks.

python -m benchmarks.shared_weights [--config=configs/digits.py] [--workdir=runs/shared_weights]
  [--judged=36] [--trainings=4] [--fits=5]
python -m benchmarks.shared_weights --config=configs/nas_bench_macro.py
  --against=nas_bench_macro.csv [--judged=1000]

The first command draws random maximal sets that use 80% or more of a budget, and trains each of
them several times. The mean of these trainings is the reference. Each row of the table is a way to
rank the networks: its cost in trainings, its rank correlation with the reference for all networks
and for the better half, and the largest reference among the ten networks that it puts first.
A training of the row "one training" is compared with the mean of the others. Models are an additive
one, and that of the optimizer `surrogate`; both also with the score of shared weights as a feature.
They are fitted to single trainings of other networks; --fits is the number of such fits. Errors are
standard errors by the bootstrap over networks, and over trainings or fits. `config.evaluation` says
how the stores are trained.

With --against the reference is the mean accuracy of the table, which is that of another, longer
training. The networks are all of the table, or --judged random ones. Regret is that of searches
that train after the scores are known, by noisy draws from the table.

Trainings, stores and scores are kept in the workdir; the same command resumes a stopped run.
"""

import itertools
import pathlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from benchmarks import pool_searches, ranking, tables
from benchmarks.proxies import device
from benchmarks.scored_networks import (
  Scores,
  Shared,
  Surrogate,
  blocks,
  evaluated,
  random_networks,
)
from experiments import common
from experiments.study_search import with_longer
from nas_submod import training
from nas_submod.evaluation.evaluator import Evaluator, Job
from nas_submod.evaluation.journal import Journal
from nas_submod.evaluation.training_evaluator import TrainingEvaluator
from nas_submod.search.setup import Setup, make_setup
from nas_submod.workdir import make_workdir

JUDGED = flags.DEFINE_integer(
  "judged", None, "Networks that are ranked; 36, or all of a table.", lower_bound=4
)
TRAININGS = flags.DEFINE_integer(
  "trainings", 4, "Trainings of each network for the reference.", lower_bound=2
)
FITS = flags.DEFINE_integer("fits", 5, "Fits of each additive model.", lower_bound=1)
STATISTICS = flags.DEFINE_list(
  "statistics", ["128", "256", "512", "896"], "Numbers of images for batch norm to compare."
)
AGAINST = flags.DEFINE_string("against", None, "CSV file of `benchmarks/tables.py`, the reference.")

_SHORT = 1_000  # the replicate of a third of a training
_OTHERS = 1_001  # that of a training of another network
_FEW = 10  # trainings of a small additive model
_FOLLOWING = (5, 10, 25, 40)  # trainings that additive models of a table are fitted to
_MOST = 2**20  # networks of a table that are listed


class Row(NamedTuple):
  """A way to rank networks: its name, its price in trainings, and its scores `[R, N]`."""

  name: str
  price: float
  scores: np.ndarray


def free_rows(setup: Setup, networks: Sequence[tuple[int, ...]]) -> list[Row]:
  """Rows of what needs no training: each cost, and depth."""
  _, depth, costs = blocks(setup, networks)
  found = [Row(name, 0, cost[None]) for name, cost in zip(setup.budget, costs.T)]
  return [*found, Row("depth", 0, depth.T)]


def shared_rows(scores: Scores, price: float) -> list[Row]:
  """Rows of the scores of one store, and of the mean of several."""
  count = len(scores.loss)
  rows = [
    Row("shared weights, loss", price / count, scores.loss),
    Row("shared weights, accuracy", price / count, scores.accuracy),
  ]
  mean = Row(f"shared weights, loss, {count} stores", price, scores.loss.mean(0)[None])
  return rows if count == 1 else [*rows, mean]


def fitted_rows(
  setup: Setup,
  networks: Sequence[tuple[int, ...]],
  scores: Scores,
  keep: int,
  fitted: np.ndarray,
  values: np.ndarray,
  counts: Sequence[int],
  price: float,
) -> list[Row]:
  """Rows of models, without and with the score of shared weights as a feature.

  Args:
    setup: The setup.
    networks: All networks. `[M]`.
    scores: Their scores.
    keep: How many of them, the first, are ranked.
    fitted: Networks of the trainings of each fit, by number. `[fits, K]`.
    values: Values of these trainings. `[fits, K]`.
    counts: Numbers of trainings, up to K; each is a row of every model.
    price: That of the scores, in trainings.
  """
  known, masks = blocks(setup, networks), setup.space.mask(np.array(networks))
  models = {
    "additive": (0.0, ranking.Additive(known)),
    "additive, shared weights": (price, ranking.Additive([*known, scores.feature])),
    "surrogate": (0.0, Surrogate(setup.problem, masks, None)),
    "surrogate, shared weights": (price, Surrogate(setup.problem, masks, scores.feature)),
  }
  return [
    Row(
      f"{name}, {count} trainings",
      own + count,
      np.array([model.predict(r[:count], v[:count])[:keep] for r, v in zip(fitted, values)]),
    )
    for name, (own, model) in models.items()
    for count in counts
  ]


def rank(setup: Setup, workdir: pathlib.Path) -> list[Table]:
  """Trains and scores networks; the tables."""
  recipe = training.recipe(setup.config["train"], setup.data)
  shared, count, fits = Shared(setup, workdir), JUDGED.value or 36, FITS.value
  images = shared.settings.recipe.steps * shared.settings.recipe.batch_size
  price = shared.settings.stores * images / (recipe.steps * recipe.batch_size)
  counts = sorted({_FEW, max(round(price), 2)})  # of trainings of an additive model
  networks = random_networks(setup, count + fits * counts[-1])
  first, others = networks[:count], networks[count:]
  trainer = TrainingEvaluator(setup.space, setup.data, setup.config)
  shorter = make_setup(with_longer(setup.config, 1 / 3), setup.data)
  short = TrainingEvaluator(setup.space, setup.data, shorter.config)
  journal = Journal(workdir / "trainings.jsonl")

  def trained(what: str, jobs: Sequence[Job], by: Evaluator = trainer) -> np.ndarray:
    return np.array([setup.score(e) for e in evaluated(by, setup, journal, jobs, what)])

  replicates = range(TRAININGS.value)
  jobs = [Job(network, replicate) for network in first for replicate in replicates]
  references = trained("trainings", jobs).reshape(count, -1)
  third = trained("short trainings", [Job(network, _SHORT) for network in first], short)
  values = trained("other networks", [Job(network, _OTHERS) for network in others])
  found = shared.scores(networks, shared.settings.statistics_images)
  mean = references.mean(axis=1)
  fitted = count + np.arange(fits * counts[-1]).reshape(fits, -1)
  rows = [
    Row("a third of a training", count / 3, third[None]),
    *free_rows(setup, first),
    *fitted_rows(setup, networks, found, count, fitted, values.reshape(fits, -1), counts, price),
    *shared_rows(found.of_first(count), price),
  ]
  noise, true = ranking.deviations(references)
  reliability = ranking.reliability(references)
  table = new_table(
    f"{setup.space.name}: {count} networks, {TRAININGS.value} trainings each, {device()}\n"
    f"standard deviation of one training {noise:.4f}, of the true values {true:.4f}; reliability "
    f"of the reference {reliability:.2f}, its square root {reliability**0.5:.2f}"
  )
  rest = [np.delete(references, replicate, axis=1).mean(axis=1) for replicate in replicates]
  add_row(table, "one training, against the others", count, ranking.judged(references.T, rest))
  for row in rows:
    add_row(table, row.name, row.price, ranking.judged(row.scores, [mean] * len(row.scores)))
  table.add_section()
  add_row(table, "the true values, simulated", None, (ranking.perfect(references),))
  add_row(table, "a random order", 0, (ranking.random_order(mean),))
  add_row(table, "the best network", None, (ranking.quality(mean, mean),))
  return [table, images_table(shared, first, mean)]


def on_a_table(setup: Setup, workdir: pathlib.Path, table: tables.Table) -> list[Table]:
  """Scores networks of a table; the tables of rankings and of regrets."""
  networks = networks_of(setup, table)
  rows = np.asarray(jax.vmap(table.row)(setup.space.mask(networks)))
  shared = Shared(setup, workdir)
  chosen = [tuple(network) for network in networks.tolist()]
  found = shared.scores(chosen, shared.settings.statistics_images)
  accuracies = table.scores[rows]
  mean, rng = accuracies.mean(axis=1), np.random.default_rng(0)
  fitted = np.array([rng.permutation(len(rows))[: _FOLLOWING[-1]] for _ in range(FITS.value)])
  values = accuracies[fitted, rng.integers(accuracies.shape[1], size=fitted.shape)]
  costs = zip(table.cost_names, table.costs[rows].T)
  ways = [
    *(Row(name, 0, cost[None]) for name, cost in costs),
    Row("depth", 0, np.count_nonzero(networks, axis=1)[None].astype(float)),
    *fitted_rows(setup, chosen, found, len(rows), fitted, values, _FOLLOWING, 0.0),
    *shared_rows(found, 0.0),
  ]
  tenths = np.array_split(np.argsort(table.costs[rows, -1], kind="stable"), 10)
  recipe = shared.settings.recipe
  ranked = Table(
    title=f"{table.name}: {len(rows):,} networks; {shared.settings.stores} stores of "
    f"{recipe.steps:,} steps of {recipe.batch_size} images, {found.seconds:.2f} s a score"
  )
  ranked.add_column("ranked by", no_wrap=True)
  for column in ("all", "best half", f"tenths of {table.cost_names[-1]}", "least to most"):
    ranked.add_column(column, justify="right")
  for way in ways:
    judged = ranking.judged(way.scores, [mean] * len(way.scores))
    cells = [f"{x:.3f} ± {error:.3f}" for x, error in list(zip(*judged))[:2]]
    within = [np.mean([ranking.spearman(row[t], mean[t]) for row in way.scores]) for t in tenths]
    ranked.add_row(
      way.name, *cells, f"{np.mean(within):.3f}", f"{min(within):.2f} to {max(within):.2f}"
    )
  return [ranked, pool_searches.regret_table(setup, table, chosen, rows, found)]


def networks_of(setup: Setup, table: tables.Table) -> np.ndarray:
  """The distinct networks of a table within the budgets, in a fixed random order. `[N, positions]`.

  Raises:
    ValueError: If the table is of another space.
  """
  space = setup.space
  count = (len(space.options) + 1) ** space.positions
  if not np.array_equal(table.groups, space.groups) or count > _MOST:
    raise ValueError(
      f"--against={AGAINST.value} is not of the space {space.name}, or that has more than "
      f"{_MOST:,} networks"
    )
  every = np.array(list(itertools.product(range(len(space.options) + 1), repeat=space.positions)))
  networks = np.unique(space.canonical(every), axis=0)
  masks = space.mask(networks)
  known = jax.vmap(lambda mask: setup.problem.feasible(mask) & (table.row(mask) < len(table.costs)))
  networks = networks[np.asarray(known(masks))]
  return np.random.default_rng(0).permutation(networks)[: JUDGED.value]


def new_table(title: str) -> Table:
  """An empty table of rankings."""
  table = Table(title=title)
  table.add_column("ranked by", no_wrap=True)
  for column in (
    "trainings in all",
    "rank correlation",
    "best half",
    f"best of the top {ranking.TOP}",
  ):
    table.add_column(column, justify="right")
  return table


def add_row(table: Table, name: str, price: float | None, found: Sequence[ranking.Quality]) -> None:
  """Adds a row: a quality, and its standard errors if there are two."""
  cells = [" ± ".join(f"{x:.{digits}f}" for x in xs) for xs, digits in zip(zip(*found), (2, 2, 4))]
  table.add_row(name, "" if price is None else f"{price:.0f}", *cells)


def images_table(
  shared: Shared, networks: Sequence[tuple[int, ...]], reference: np.ndarray
) -> Table:
  """How many images batch norm needs."""
  table = Table(title="training images that batch norm is estimated on")
  for column in ("images", "rank correlation", "best half", "seconds a network"):
    table.add_column(column, justify="right")
  for images in map(int, STATISTICS.value):
    found = shared.scores(networks, images)
    judged = ranking.judged(found.loss, [reference] * len(found.loss))
    cells = [f"{x:.3f} ± {error:.3f}" for x, error in list(zip(*judged))[:2]]
    table.add_row(str(images), *cells, f"{found.seconds:.3f}")
  return table


def main(config: ConfigDict) -> None:
  """Prints the tables."""
  try:
    if bad := [number for number in STATISTICS.value if not number.isdecimal() or number == "0"]:
      raise ValueError(f"--statistics holds {bad[0]!r}; allowed: whole numbers from 1")
    table = AGAINST.value and tables.Table(AGAINST.value)
    setup = make_setup(config)
    folder = make_workdir(common.workdir(), config.to_dict())
    printed = on_a_table(setup, folder, table) if table else rank(setup, folder)
  except ValueError as error:
    common.fail(error)
  console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
  for table in printed:
    console.print(table)


if __name__ == "__main__":
  common.run(main)
