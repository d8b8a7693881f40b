"""Regret of searches that know scores of a pool of networks before their first training.

`benchmarks.shared_weights --against=TABLE` prints them. All searches choose from the same pool, the
scored networks within the budgets. Each training is a noisy draw from the table. The regret of an
answer is the gap between its mean accuracy and the best one of the pool, in points.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table

import nas_submod as ns
from benchmarks import ranking, tables
from benchmarks.runs import Instance, run_seeds
from benchmarks.scored_networks import Scores, blocks
from benchmarks.spread import with_error
from nas_submod.search.setup import Setup

SEEDS = 20
TRAININGS = (5, 10, 25)  # after which regret is told
_FIRST = 4  # networks trained before an additive model is fitted
_SEED = 2019


def regrets(
  instance: Instance,
  masks: np.ndarray,
  blocks: Sequence[np.ndarray],
  score: np.ndarray,
  accuracies: np.ndarray,
) -> dict[str, np.ndarray]:
  """Regrets by the name of the search.

  Args:
    instance: The problem and its measurements.
    masks: The scored networks; those within the budgets are the pool. `[K, n]` bool.
    blocks: Features of an additive model. `[K, d_b]` each; the last one is log costs.
    score: The scores that are known. `[K]`.
    accuracies: The trainings of the table, in points. `[K, T]`.

  Returns:
    Regrets of each seed after each of `TRAININGS`. `[SEEDS, 3]`; empty if the pool is smaller than
    a search.
  """
  fits = pool_of(instance, masks)
  if fits.sum() < TRAININGS[-1]:
    return {}
  # Equal shapes for all budgets share a program.
  answers = {
    "surrogate": _surrogate(instance, masks, None),
    "surrogate, score": _surrogate(instance, masks, score[:, None]),
  }
  blocks, score, accuracies = [block[fits] for block in blocks], score[fits], accuracies[fits]
  means, size = accuracies.mean(axis=1), blocks[-1].sum(axis=1)
  both = [*blocks, score[:, None]]
  for name, features, known in (("additive", blocks, None), ("additive, score", both, score)):
    model = ranking.Additive(features)
    rngs = map(np.random.default_rng, range(SEEDS))
    found = [additive_search(model, size, known, accuracies, rng) for rng in rngs]
    answers[name] = means[np.array(found)]
  order = np.argsort(-score, kind="stable")
  answers["best scores"] = means[_best_drawn(np.tile(order, (SEEDS, 1)), accuracies)]
  randoms = np.array([np.random.default_rng(s).permutation(len(score)) for s in range(SEEDS)])
  answers["random"] = means[_best_drawn(randoms, accuracies)]
  return {name: means.max() - found for name, found in answers.items()}


def pool_of(instance: Instance, masks: np.ndarray) -> np.ndarray:
  """Which of the networks `masks [K, n]` are within the budgets. `[K]` bool."""
  return np.asarray(jax.vmap(instance.case.problem.feasible)(masks))


def additive_search(
  model: ranking.Additive,
  size: np.ndarray,
  score: np.ndarray | None,
  accuracies: np.ndarray,
  rng: np.random.Generator,
) -> list[int]:
  """Trains what an additive model puts first; the answers after each of `TRAININGS`.

  The first trainings are of the largest network, of the one of the best score, and of random ones.
  The answer is the network of the best training, because the model errs more than a training.
  """
  drawn = accuracies[np.arange(len(size)), rng.integers(accuracies.shape[1], size=len(size))]
  begin = [int(np.argmax(size)), *([] if score is None else [int(np.argmax(score))])]
  order = list(dict.fromkeys([*begin, *rng.permutation(len(size)).tolist()]))
  rows = order[:_FIRST]
  while len(rows) < TRAININGS[-1]:
    predicted = model.predict(np.array(rows), drawn[rows])
    predicted[rows] = -np.inf
    rows.append(int(np.argmax(predicted)))
  return [rows[int(np.argmax(drawn[rows[:count]]))] for count in TRAININGS]


def _best_drawn(orders: np.ndarray, accuracies: np.ndarray) -> np.ndarray:
  """The best by one draw of each among the first networks of an order. `[SEEDS, 3]` int."""
  found = []
  for seed, order in enumerate(orders):
    rng = np.random.default_rng([_SEED, seed])
    drawn = accuracies[np.arange(len(order)), rng.integers(accuracies.shape[1], size=len(order))]
    found.append([order[np.argmax(drawn[order[:count]])] for count in TRAININGS])
  return np.array(found)


def _surrogate(instance: Instance, masks: np.ndarray, features: np.ndarray | None) -> np.ndarray:
  """Mean accuracies of the answers of `surrogate` on the pool. `[SEEDS, 3]`."""
  optimizer = ns.optimizers.surrogate(evaluations=TRAININGS[-1], pool=masks, features=features)
  keys = jax.random.split(jax.random.key(_SEED), SEEDS)
  scores, _, feasible = run_seeds(optimizer, TRAININGS[-1], instance.case, keys, jnp.bool_(False))
  assert np.asarray(feasible).all()
  return np.asarray(scores)[:, list(TRAININGS)]


def regret_table(
  setup: Setup,
  table: tables.Table,
  networks: Sequence[tuple[int, ...]],
  rows: np.ndarray,
  scores: Scores,
) -> Table:
  """Regret when trainings follow, in the mean over the diagonal budgets that allow a pool."""
  masks, known = setup.space.mask(np.array(networks)), blocks(setup, networks)
  found: dict[str, list[np.ndarray]] = {}
  sizes = []
  for instance in table.instances(tables.diagonal(len(table.cost_names))):
    of_instance = regrets(instance, masks, known, scores.feature[:, 0], table.scores[rows])
    if of_instance:
      sizes.append(pool_of(instance, masks).sum())
    for name, regret in of_instance.items():
      found.setdefault(name, []).append(regret)
  if not sizes:
    raise ValueError(f"{len(rows)} networks are too few for a search: raise --judged")
  title = f"regret in points, {len(sizes)} budgets, pools of {min(sizes)} to {max(sizes)} networks"
  printed = Table(title=f"{title}, {SEEDS} seeds")
  printed.add_column("after trainings", no_wrap=True)
  for count in TRAININGS:
    printed.add_column(str(count), justify="right")
  for name, regret in found.items():
    of_seeds = np.mean(regret, axis=0)
    printed.add_row(name, *(with_error(column, 3) for column in of_seeds.T))
  return printed
