"""The list of optimizers: each entry goes through every test of `test_conformance.py`."""

import math
from typing import NamedTuple

from examples.new_optimizer import simulated_annealing
from nas_submod import optimizers as o


class Entry(NamedTuple):
  """An optimizer and what it claims.

  Attributes:
    name: Name in the test report.
    optimizer: The optimizer.
    beats_singletons: It is never worse than the best feasible single addition, if F is monotone.
    ratio: Guaranteed share of the optimum for one knapsack, no groups, monotone submodular F.
    group_ratio: Guaranteed share of the optimum for groups without a knapsack.
    compares: It only compares values, by `nas_submod.optimizers.ties`, so values that differ by
      rounding are ties. An optimizer that computes with values cannot claim it.
    starts_at_required: It measures the required set first, so it is never worse than that.
  """

  name: str
  optimizer: o.Optimizer
  beats_singletons: bool = False
  ratio: float = 0.0
  group_ratio: float = 0.0
  compares: bool = True
  starts_at_required: bool = True


_DENSITY = o.greedy("density:0", lazy=True, batch=3)

ENTRIES = (
  Entry("greedy_unit", o.greedy("unit"), beats_singletons=True, group_ratio=0.5),
  Entry("greedy_joint_lazy", o.greedy("joint", lazy=True, batch=3)),
  Entry("rcas", o.rcas(), beats_singletons=True, ratio=0.427, group_ratio=0.5),
  Entry("rcas_eager", o.rcas(lazy=False, batch=None), True, 0.427, 0.5),
  Entry("rcas_racing", o.rcas(batch=3, race=(1, 3, 6)), True, 0.427, 0.5),
  Entry("random_search", o.random_search(evaluations=12, batch=3)),
  Entry("greedy_plus_max", o.greedy_plus_max("density:0"), True, ratio=0.5),
  Entry("enumeration_1", o.partial_enumeration(_DENSITY, 1), True, ratio=0.5),
  Entry("enumeration_2", o.partial_enumeration(_DENSITY, 2, chunk=20), True, 1 - 1 / math.e),
  Entry("stochastic_greedy", o.stochastic_greedy(sample=3)),
  Entry("stochastic_lazy", o.stochastic_greedy(sample=3, lazy=True, batch=2)),
  Entry("exchange", o.exchange(o.greedy("unit")), beats_singletons=True),
  Entry("local_search", o.local_search(evaluations=20)),
  Entry("regularized_evolution", o.regularized_evolution(evaluations=20)),
  Entry("example", simulated_annealing(evaluations=20), compares=False),
  Entry(
    "surrogate",
    o.surrogate(evaluations=20, batch=2),
    compares=False,
    starts_at_required=False,
  ),
  Entry("brute_force", o.brute_force(batch=64), True, 1.0, 1.0),
)
