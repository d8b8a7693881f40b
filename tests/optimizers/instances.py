"""Problems and set functions that tests of optimizers share."""

import jax
import jax.numpy as jnp
import numpy as np

from nas_submod import Problem, set_functions

every_feasible = jax.jit(jax.vmap(lambda problem, mask: problem.feasible(mask), (None, 0)))


def pushed_left(mask):
  """Canonical form of two stages of four positions: filled positions move to the left."""
  counts = mask.reshape(2, 4).sum(axis=1)
  return (jnp.arange(4) < counts[:, None]).reshape(8)


def chain_cost(mask):
  """Costs that are not sums: a filled position costs 3 after a filled one, 2 after an empty one."""
  mask = jnp.asarray(mask)
  filled = pushed_left(mask)
  pairs = jnp.sum(filled[1:] & filled[:-1])
  return jnp.stack([2 * filled.sum() + pairs, 1 + filled.sum()]).astype(jnp.int32)


def two_knapsacks(seed, n=8):
  """Groups of two, two whole-number costs, one required element."""
  rng = np.random.default_rng(seed)
  return Problem(
    groups=np.arange(n) // 2,
    cost=rng.integers(0, 6, (n, 2)),
    budget=rng.integers(5, 11, 2),
    required=np.arange(n) == 2,
  )


def one_knapsack(seed, n=8):
  """No groups, one real-valued cost."""
  rng = np.random.default_rng(seed)
  return Problem(-np.ones(n, int), rng.uniform(0.05, 1, n), rng.uniform(0.5, 2))


def sequences(seed):
  """Costs that are not sums, and sets that are the same object."""
  budget = np.random.default_rng(seed).integers(6, 16, 2)
  return Problem(np.arange(8), chain_cost, budget, canonical=pushed_left)


@jax.tree_util.Partial
def sequence_function(mask):
  """A function of the canonical set alone; each stage saturates."""
  return jnp.sum(jnp.sqrt(mask.reshape(2, 4).sum(axis=1)) * jnp.array([3.0, 2.0]))


def integer_coverage(seed, n=8, items=12, unit=1):
  """Gains that are multiples of `unit`: with 1, sums are exact and ties abound."""
  rng = np.random.default_rng(seed)
  return set_functions.coverage(rng.random((n, items)) < 0.3, unit * rng.integers(1, 3, items))


def facility_location(seed, n=8):
  """Real-valued gains."""
  return set_functions.facility_location(np.random.default_rng(seed).random((n, 10)) ** 3)


def noisy_table(seed, n=8):
  """Roughly monotone and submodular, but neither exactly; ties abound."""
  rng = np.random.default_rng(seed)
  size = np.array([bin(i).count("1") for i in range(2**n)])
  return set_functions.table(np.round(4 * np.sqrt(size) + rng.normal(0, 0.7, 2**n), 1))


def every_mask(n):
  """All subsets of `n` elements, `[2^n, n]` bool."""
  return (np.arange(2**n)[:, None] >> np.arange(n)) % 2 == 1


def tabulated(function, n=8):
  """The same set function as a table, without gains."""
  return set_functions.table(set_functions.on_host(function)(every_mask(n)))


def shaken(function, seed, n=8):
  """The same set function as a table with rounding errors in the last digit."""
  values = set_functions.on_host(function)(every_mask(n))
  return set_functions.table(
    values * (1 + 1e-7 * np.random.default_rng(seed).integers(-1, 2, 2**n))
  )


def stacked(mask):
  """Canonical form of three positions of three options: chosen options move to the front."""
  options = jnp.asarray(mask).reshape(3, 3) @ jnp.arange(1, 4)
  options = options[jnp.argsort(options == 0, stable=True)]
  return (options[:, None] == jnp.arange(1, 4)).reshape(9)


def stacks(seed):
  """Several options at each position, and sets that are the same object."""
  cost = np.tile(np.random.default_rng(seed).integers(1, 6, 3), 3)
  return Problem(np.arange(9) // 3, cost, 9, canonical=stacked)
