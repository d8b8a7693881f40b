"""Batches of small problems that are hard for greedy algorithms, with their optima.

Every function is a table over all subsets, so one compiled program serves all of them.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from instances import every_mask

import nas_submod as ns
from nas_submod import set_functions

N = 12  # some of them never fit, so there are smaller problems too
MASKS = every_mask(N)
PARTS = 5
FAMILIES = ("decoys", "traps", "coverage", "facility", "concave", "budget_additive")
COSTS = ("random", "near_ties", "heavy", "whole")


class Batch(NamedTuple):
  """`K` stacked problems and functions: `tables [K, 2^N]`, optima `[K]` by brute force."""

  problems: ns.Problem
  tables: np.ndarray
  optima: np.ndarray

  def solve(self, optimizer):
    """Shares of the optimum `[K]`, and the answers `[K, N]`, which are checked to be feasible."""
    masks = np.asarray(_solver(optimizer)(self.problems, self.tables))
    assert np.asarray(_feasible(self.problems, masks[:, None])).all()
    found = self.tables[np.arange(len(masks)), masks @ (1 << np.arange(N))]
    return found / self.optima, masks

  def best_share(self, optimizers):
    """The largest share of several optimizers. `[K]`."""
    return np.max([self.solve(optimizer)[0] for optimizer in optimizers], axis=0)


@functools.cache
def _solver(optimizer):
  def solve(problem, table):
    function = set_functions.table(np.zeros(2**N))
    function = jax.tree.unflatten(jax.tree.structure(function), [table])
    return ns.optimizers.drive(optimizer, problem, function, jax.random.key(0)).mask

  return jax.jit(jax.vmap(solve))


@jax.jit
def _feasible(problems, masks):
  each = jax.vmap(lambda problem, mask: problem.feasible(mask), (None, 0))
  return jax.vmap(each)(problems, masks)


def batch(tables, cost=None, groups=None):
  """Functions `[K, 2^N]` under one knapsack of `cost [K, N]` and budget 1, or `groups [K, N]`."""
  if groups is None:
    problems = [ns.Problem(-np.ones(N, int), np.full(N, 0.5), 1.0)]
  else:
    problems = [ns.Problem(row, np.ones(N), N) for row in groups]
  stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *problems)
  if cost is not None:
    rows = len(cost)
    stacked = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf[0], (rows, *leaf.shape[1:])), stacked)
    stacked._matrix = jnp.asarray(cost, jnp.float32)[:, :, None]
  tables = np.asarray(tables, np.float32)
  every = np.broadcast_to(MASKS, (len(tables), *MASKS.shape))
  optima = np.where(_feasible(stacked, every), tables, 0).max(axis=1)
  return Batch(stacked, tables, np.maximum(optima, 1e-9))


def function_table(family, rng):
  """A random monotone submodular function, `[2^N]`."""
  if family == "decoys":  # decoys hit every part of the optimum, and gain slightly more
    parts = rng.integers(2, PARTS + 1)
    hit = rng.uniform(0.8, 1.3) / parts * (1 + 0.02 * rng.random((N, parts)))
    hit[:parts] = np.eye(parts)
    return hit_tables(hit[None, rng.permutation(N)], rng.uniform(0.9, 1.1, (1, parts)))[0]
  if family == "traps":  # heavy items, and light ones
    return MASKS @ np.where(rng.random(N) < 0.3, rng.uniform(5, 10, N), rng.uniform(0.1, 1, N))
  if family == "coverage":
    covers = rng.random((N, 10)) < rng.uniform(0.1, 0.4)
    return (MASKS @ covers.astype(int) > 0) @ rng.integers(1, 9, 10)
  if family == "facility":
    service = rng.random((N, 8)) ** rng.uniform(1, 6)
    return np.max(MASKS[:, :, None] * service, axis=1).sum(axis=1)
  amounts = rng.random((N, 3)) ** rng.uniform(1, 4)
  if family == "concave":
    return ((MASKS @ amounts) ** rng.uniform(0.2, 1)).sum(axis=1)
  return np.minimum(MASKS @ amounts, rng.uniform(0.3, 2, 3)).sum(axis=1)


def hit_tables(hit, weights):
  """Expected weight hit, `[K, 2^N]`, if element e hits part p with probability `hit [K, N, P]`."""
  missed = np.ones((len(hit), 1, hit.shape[2]))
  for element in range(N):
    with_it = missed * (1 - np.clip(hit[:, None, element], 0, 1))
    missed = np.concatenate([missed, with_it], axis=1)
  return np.einsum("kmp,kp->km", 1 - missed, weights)


def random_costs(kind, table, rng):
  """Costs `[N]` as shares of the budget."""
  if kind == "whole":
    return rng.integers(1, 7, N) / rng.integers(6, 13)
  if kind == "heavy":
    return np.where(rng.random(N) < 0.4, rng.uniform(0.6, 1, N), rng.uniform(0.01, 0.3, N))
  if kind == "near_ties":  # densities of single elements are nearly equal
    single = table[1 << np.arange(N)] / max(table[1 << np.arange(N)].max(), 1e-9)
    return single * rng.uniform(0.4, 1) * rng.uniform(0.97, 1.03, N) + 1e-3
  return rng.uniform(0.05, 0.8, N)


def knapsacks(family, kind, seed, count=32):
  """Random problems with one knapsack and no groups."""
  rng = np.random.default_rng(seed)
  tables = np.stack([function_table(family, rng) for _ in range(count)])
  cost = np.stack([random_costs(kind, table, rng) for table in tables])
  too_dear = rng.random((count, N)) < rng.uniform(0, 0.4, (count, 1))
  too_dear[:, 0] = False
  return batch(tables, np.where(too_dear, 2.0, np.minimum(cost, 1)))


def groups_alone(family, seed, count=32):
  """Random problems with groups alone."""
  rng = np.random.default_rng(seed)
  tables = np.stack([function_table(family, rng) for _ in range(count)])
  labels = np.stack([rng.integers(0, rng.integers(2, 7), N) for _ in range(count)])
  return batch(tables, groups=labels)


def adversary(share, rng, rounds=25, size=64, survivors=16):
  """The lowest share of the optimum, `share(batch) [K]`, on problems evolved to lower it.

  The first problems block greedy algorithms: some items fill the budget together, and light items
  are slightly denser.
  """
  parts = rng.integers(2, PARTS + 1, (size, 1))
  items, light = np.arange(N) < parts, np.arange(N) >= PARTS
  weights = np.where(np.arange(PARTS) < parts, rng.uniform(0.95, 1.05, (size, PARTS)), 0.0)
  cost = np.where(items, rng.uniform(0.97, 1, (size, N)) / parts, 2.0)
  light = light & (rng.random((size, N)) < rng.uniform(0.1, 0.7, (size, 1)))
  cost = np.where(light, 10 ** rng.uniform(-2, -0.5, (size, N)), cost)
  density = parts * rng.uniform(0.95, 1.2, (size, N))
  hit = rng.dirichlet(np.ones(PARTS), (size, N)) * (weights > 0)[:, None]
  hit *= (np.minimum(cost, 1) * density)[:, :, None] / hit.sum(axis=2, keepdims=True)
  hit[:, :PARTS] = np.eye(PARTS)
  genes, shares = (hit, weights, cost), None
  for _ in range(rounds):
    if shares is None:
      children = genes
    else:
      parent = rng.integers(0, survivors, size)
      children = tuple(_mutate(gene[parent], rng) for gene in genes)
      children = (np.clip(children[0], 0, 1), children[1], np.clip(children[2], 1e-3, 2))
    found = share(batch(hit_tables(*children[:2]), children[2]))
    if shares is not None:
      children = tuple(np.concatenate(pair) for pair in zip(genes, children))
      found = np.concatenate([shares, found])
    best = np.argsort(found)[:survivors]
    genes, shares = tuple(gene[best] for gene in children), found[best]
  return shares.min()


def _mutate(gene, rng):
  scale = 10 ** rng.uniform(-3, -0.3, (len(gene), *[1] * (gene.ndim - 1)))
  touched = rng.random(gene.shape) < 0.3
  return gene * np.exp(touched * scale * rng.normal(size=gene.shape))
