"""The kernel of a Gaussian process over sets, for functions with diminishing returns.

F is a constant, plus linear functions of the elements and of "free" features, known without a
measurement, plus interactions:

  k(S, S') = 1 + sum_b a_b <S, S'>_b + s exp(-sum_b r_b |S - S'|_b^2) + d [S = S'].

The sum is over blocks b of features:
  - the elements;
  - the level of the element chosen in each group (its rank by cost), by a random walk over the
    levels, so neighbouring widths or depths share information;
  - logarithms of the costs;
  - logarithms of the size and of the sum of the levels;
  - logarithms of the number of elements of each kind. A kind is all elements of one cost;
  - features that the user gives, if any, such as a score from shared weights.

The linear part is the mean of F given the free features. Each block has its own variance `a_b`, so
the data decide how much it counts: if costs say nothing, their variance shrinks to zero. A
nonnegative combination of the blocks of logarithms is monotone submodular (concave over modular;
Bilmes and Bai 2017, "Deep submodular functions"). The interactions s and the nugget d model the
rest. All parameters, noise included, are set to the mode of their posterior (Rasmussen and Williams
2006, chapter 5).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from nas_submod.optimizers.neighbours import same_group
from nas_submod.problem import Problem

_KINDS = 32  # the most frequent kinds; others are not counted


class Encoding(NamedTuple):
  """The map from sets of a problem to features; `n` elements, `d` free features, `B` blocks.

  Attributes:
    levels: Rank by cost within the group, in (0, 1]; 0 for elements without a group. `[n]`.
    steps: 1 if f is in the group of e and costs no more: the walk to e takes step f. `[n, n]`.
    shared: Number of steps that e and f share. `[n, n]`.
    kinds: 1 if the element is of this kind, else 0. `[n, _KINDS]`.
    unit: Cost that counts as one, per resource. `[m]`.
    centre: Mean of each free feature over random maximal sets. `[d]`.
    scale: Factor that makes the mean square distance in its block 1; 0 if constant. `[d]`.
    members: 1 if the free feature is in this block, else 0; without the two blocks of elements.
      `[B - 2, d]`.
    weights: Inverse mean square distance of random sets in the two blocks of elements. `[2]`.
  """

  levels: jax.Array
  steps: jax.Array
  shared: jax.Array
  kinds: jax.Array
  unit: jax.Array
  centre: jax.Array
  scale: jax.Array
  members: jax.Array
  weights: jax.Array


class Features(NamedTuple):
  """Features of `K` sets: canonical masks `[K, n]` and free features `[K, d]`."""

  elements: jax.Array
  free: jax.Array


class Hyperparameters(NamedTuple):
  """Logarithms of the parameters of the kernel and of the noise."""

  additive: ArrayLike  # a [B]
  rates: ArrayLike  # r [B]
  interactions: ArrayLike  # s []
  noise: ArrayLike  # variance of one measurement []
  nugget: ArrayLike  # d []


def encode(problem: Problem, samples: jax.Array, given: jax.Array | None = None) -> Encoding:
  """Computes the encoding from costs of single elements and from random sets.

  Scales come from maximal sets, because the best sets are maximal. A feature that is constant there
  gets its scale from smaller sets.

  Args:
    problem: The problem.
    samples: Random sets: the first half maximal, the others of all sizes. `[K, n]` bool.
    given: Features of these sets that the user gives, or None. `[K, g]`.
  """
  identity = jnp.eye(problem.n, dtype=bool)
  mates = same_group(problem)
  alone = jax.vmap(problem.cost)((problem.required & ~mates) | identity).astype(jnp.float32)
  # The cost of a set that does not fit may be NaN.
  most = jnp.nanmax(alone, axis=0, initial=0)
  alone = jnp.where(jnp.isnan(alone), most, alone) / jnp.maximum(most, 1e-9)

  total = alone.sum(axis=1)
  cheaper = mates & (total[None, :] < total[:, None] * (1 - 1e-6))
  rank = 1 + cheaper.sum(axis=1)
  equal_rank = mates & (rank[:, None] == rank)
  first = jnp.argmax(equal_rank, axis=1) == jnp.arange(problem.n)  # represents its equals

  equal = jnp.abs(alone[:, None] - alone).max(axis=-1, initial=0) < 1e-6
  kind_of = jnp.argmax(equal, axis=1)
  sizes = jnp.where(kind_of == jnp.arange(problem.n), equal.sum(axis=1), 0)
  most, chosen = jax.lax.top_k(sizes, min(_KINDS, problem.n))
  kinds = (kind_of[:, None] == chosen) & (most > 1)

  if given is not None:
    known = jnp.isfinite(given)
    mean = jnp.where(known, given, 0).sum(axis=0) / known.sum(axis=0).clip(1)
    given = jnp.where(known, given, mean)
  widths = [problem.m, 2, len(chosen)] + ([] if given is None else [given.shape[1]])
  block = np.repeat(np.arange(len(widths)), widths)
  costs = jax.vmap(problem.cost)(samples).astype(jnp.float32)
  steps = (mates & (rank[None, :] <= rank[:, None]) & first).astype(jnp.float32)
  blank = Encoding(
    levels=jnp.where(problem.groups >= 0, rank / mates.sum(axis=1).clip(1), 0.0),
    steps=steps,
    shared=steps @ steps.T,
    kinds=kinds.astype(jnp.float32),
    unit=jnp.maximum(costs.mean(axis=0), 1e-9),
    centre=jnp.float32(0),
    scale=jnp.float32(1),
    members=jnp.float32(block == np.arange(len(widths))[:, None]),
    weights=jnp.ones(2),
  )
  raw = featurize(problem, blank, samples, given)
  maximal, smaller = (
    jax.tree.map(lambda x, half=half: jnp.split(x, 2)[half], raw) for half in (0, 1)
  )
  centre = maximal.free.mean(axis=0)
  spread, more = maximal.free.std(axis=0), smaller.free.std(axis=0)
  varies, may_vary = (s > 1e-5 * (1 + jnp.abs(centre)) for s in (spread, more))
  spread = jnp.where(varies, spread, more)
  in_block = blank.members.T @ (blank.members @ (varies | may_vary))  # features that share a block
  distance, further = _distances(blank, maximal), _distances(blank, smaller)
  distance = jnp.where(distance > 1e-6, distance, further)
  return blank._replace(
    centre=centre,
    scale=jnp.where(varies | may_vary, 1 / (spread * jnp.sqrt(2 * in_block)).clip(1e-9), 0.0),
    weights=jnp.where(distance > 1e-6, 1 / jnp.maximum(distance, 1e-6), 0.0),
  )


def _distances(encoding: Encoding, features: Features) -> jax.Array:
  """Mean square distances of sets in the two blocks of elements. `[2]`."""
  products = inner_products(encoding, features, features)[:2]
  diagonal = jnp.diagonal(products, axis1=1, axis2=2)
  return 2 * (diagonal.mean(axis=1) - products.mean(axis=(1, 2)))


def featurize(
  problem: Problem, encoding: Encoding, masks: jax.Array, given: jax.Array | None = None
) -> Features:
  """Computes the features of sets `masks [K, n]`, including the user's `given [K, g]`."""
  masks = jax.vmap(problem.canonical_form)(masks)
  elements = masks.astype(jnp.float32)
  costs = jax.vmap(problem.cost)(masks).astype(jnp.float32) / encoding.unit
  sums = elements @ jnp.column_stack([jnp.ones(problem.n), encoding.levels, encoding.kinds])
  free = [jnp.log(costs + 0.01), jnp.log1p(sums)] + ([] if given is None else [given])
  scaled = (jnp.concatenate(free, axis=1) - encoding.centre) * encoding.scale
  return Features(elements, jnp.where(jnp.isfinite(scaled), scaled, 0.0))


def inner_products(encoding: Encoding, left: Features, right: Features) -> jax.Array:
  """Computes the inner products of `L` with `R` sets in each block. `[B, L, R]`."""
  near = right.elements @ encoding.shared
  elements = jnp.stack([left.elements @ right.elements.T, left.elements @ near.T])
  free = jnp.einsum("bd,ld,rd->blr", encoding.members, left.free, right.free)
  return jnp.concatenate([encoding.weights[:, None, None] * elements, free])


def square_norms(encoding: Encoding, features: Features) -> jax.Array:
  """Computes `|S|_b^2` of sets with at most one element in each group. `[B, K]`."""
  counts = jnp.stack([jnp.ones_like(encoding.levels), encoding.steps.sum(axis=1)])
  elements = encoding.weights[:, None] * (counts @ features.elements.T)
  return jnp.concatenate([elements, encoding.members @ (features.free**2).T])


def kernel(
  parameters: Hyperparameters, products: jax.Array, left_norms: jax.Array, right_norms: jax.Array
) -> jax.Array:
  """Covariances `[L, R]` of F without the nugget, from `[B, L, R]`, `[B, L]` and `[B, R]`."""
  distances = left_norms[:, :, None] + right_norms[:, None, :] - 2 * products
  rates = jnp.exp(parameters.rates)
  decay = jnp.exp(-jnp.einsum("b,blr->lr", rates, jnp.maximum(distances, 0)))
  additive = jnp.einsum("b,blr->lr", jnp.exp(parameters.additive), products)
  return 1 + additive + jnp.exp(parameters.interactions) * decay
