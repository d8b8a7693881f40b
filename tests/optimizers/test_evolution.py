import instances
import jax
import jax.numpy as jnp
import numpy as np

import nas_submod as ns
from nas_submod import set_functions
from nas_submod.optimizers import regularized_evolution
from nas_submod.optimizers.neighbours import random_neighbour


def asked(problem, function, optimizer, seed):
  on_host, sets = set_functions.on_host(function), []

  def value(masks):
    sets.extend(masks.tolist())
    return on_host(masks), np.zeros(len(masks))

  ns.maximize(problem, value, optimizer, seed=seed)
  return sets


def test_a_tournament_is_not_won_by_rounding():
  optimizer = regularized_evolution(evaluations=60, population=5, tournament=3)
  for seed in range(6):
    problem, function = instances.two_knapsacks(seed), instances.integer_coverage(seed)
    expected = asked(problem, function, optimizer, seed)
    assert asked(problem, instances.shaken(function, seed), optimizer, seed) == expected


def test_random_neighbours_keep_to_the_groups_and_reach_all_near_sets():
  problem = instances.two_knapsacks(0)
  mask = jnp.isin(jnp.arange(8), jnp.array([0, 2, 4]))
  chances = jax.random.uniform(jax.random.key(0), (4_000, 5))
  found = np.asarray(jax.vmap(random_neighbour, (None, None, 0))(problem, mask, chances))
  assert (found.reshape(-1, 4, 2).sum(axis=2) < 2).all()
  found = {frozenset(np.flatnonzero(row).tolist()) for row in found}
  # An element added, dropped, replaced in its group, or moved to another group.
  assert found >= {*map(frozenset, ((0, 2, 4, 6), (0, 2), (1, 2, 4), (2, 4, 7)))}
