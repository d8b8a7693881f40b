import instances
import numpy as np

import nas_submod as ns
from nas_submod import set_functions
from nas_submod.optimizers import regularized_evolution


def asked(problem, function, optimizer, seed):
  on_host, sets = set_functions.on_host(function), []

  def value(masks):
    sets.extend(masks.tolist())
    return on_host(masks), np.zeros(len(masks))

  ns.maximize(problem, value, optimizer, seed=seed)
  return sets


def test_a_tournament_is_not_won_by_rounding():
  optimizer = regularized_evolution(evaluations=60, population=5, tournament=3)
  for seed in range(12):
    problem, function = instances.two_knapsacks(seed), instances.integer_coverage(seed)
    expected = asked(problem, function, optimizer, seed)
    assert asked(problem, instances.shaken(function, seed), optimizer, seed) == expected
