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


def test_random_neighbours_are_all_sets_of_two_toggles_and_a_drop_that_keep_the_required():
  problem, required = instances.two_knapsacks(0), 2
  start = frozenset({0, required, 4})

  def toggled(held, element):
    if element == required:
      return held
    return held - {element} if element in held else held - {element ^ 1} | {element}

  once = {toggled(start, element) for element in range(8)}
  near = once | {toggled(held, element) for held in once for element in range(8)}
  free = start - {required}
  near |= {held - {element} for held in near for element in held & free}

  mask = jnp.isin(jnp.arange(8), jnp.array(sorted(start)))
  chances = jax.random.uniform(jax.random.key(0), (40_000, 5))
  found = np.asarray(jax.vmap(random_neighbour, (None, None, 0))(problem, mask, chances))
  assert {frozenset(np.flatnonzero(row).tolist()) for row in np.unique(found, axis=0)} == near
