"""A new optimizer in one file: simulated annealing (Kirkpatrick, Gelatt and Vecchi 1983).

Run: python -m examples.new_optimizer. One line in tests/optimizers/conformance.py tests it.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import nas_submod as ns
from nas_submod.optimizers.evolution import mutate
from nas_submod.optimizers.incumbent import Incumbent, no_incumbent


class AnnealingState(NamedTuple):
  """The walk is at `here`, the best set so far is `top`, and `proposal` is asked next."""

  problem: ns.Problem
  rng: jax.Array
  step: jax.Array
  proposal: jax.Array
  here: Incumbent  # mask [n] and value []
  top: Incumbent


@ns.optimizers.constructor
def simulated_annealing(evaluations: int = 500, heat: float = 1.0, cooling: float = 0.99):
  """Moves to a random neighbour if it is better, else with probability exp(-loss / heat)."""

  def init(problem, rng):
    nowhere = no_incumbent(problem)
    return AnnealingState(problem, rng, jnp.int32(0), problem.required, nowhere, nowhere)

  def ask(state):  # one feasible set, the required one first
    return state.proposal[None], jnp.ones(1, bool)

  def tell(state, values):
    draw, choice = jax.random.split(jax.random.fold_in(state.rng, state.step))
    gain, new = values[0] - state.here.value, Incumbent(state.proposal, values[0])
    goes = jax.random.uniform(draw) < jnp.exp(gain / (heat * cooling**state.step))
    here = jax.tree.map(functools.partial(jnp.where, goes), new, state.here)
    top, _ = state.top.challenged(state.proposal[None], values)
    proposal = mutate(state.problem, choice, here.mask)
    state = state._replace(step=state.step + 1, proposal=proposal, here=here, top=top)
    return state, ns.optimizers.Info(goes[None], here.mask[None], here.value[None])

  return ns.optimizers.Optimizer(init, ask, tell, lambda s: s.step >= evaluations, lambda s: s.top)


if __name__ == "__main__":
  rng, o = np.random.default_rng(0), ns.optimizers
  stores = ns.set_functions.facility_location(rng.random((40, 100)) ** 4)
  problem = ns.Problem(np.arange(40) // 4, rng.uniform(0.1, 1, (40, 2)), budget=[2.0, 2.5])
  rows = {"annealing": simulated_annealing(), "random": o.random_search(500), "rcas": o.rcas()}
  for name, optimizer in rows.items():
    found = ns.maximize(problem, stores, optimizer, traceable=True)
    print(f"{name:10} {found.value:.3f} with {found.evaluations} evaluations")
