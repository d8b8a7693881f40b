"""The kernel of a Gaussian process over sets, for functions with diminishing returns.

F is a constant, plus linear functions of the elements and of concave features, plus interactions:

  k(S, S') = 1 + sum_b a_b <S, S'>_b + s exp(-sum_b r_b |S - S'|_b^2) + d [S = S'].

The sum is over three blocks b of features:
  - the elements;
  - the level of the element chosen in each group: its rank by cost, so neighbouring widths or
    depths share information;
  - logarithms of the costs, of the size, and of the number of elements of each kind. A kind is all
    elements of one cost.

A nonnegative combination of the last block is monotone submodular (concave over modular; Bilmes
and Bai 2017, "Deep submodular functions"). The interactions s and the nugget d model the rest. The
9 parameters, noise included, are set to the mode of their posterior (Rasmussen and Williams 2006,
chapter 5).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from nas_submod.optimizers.neighbours import same_group
from nas_submod.problem import Problem

_KINDS = 32  # the most frequent kinds; others are not counted


class Encoding(NamedTuple):
  """The map from sets of a problem to features; `n` elements, `d` concave features.

  Attributes:
    groups: Group of each element, 0 if it has none (its level is then 0). `[n]` int.
    levels: Rank by cost within the group, in (0, 1]; 0 for elements without a group. `[n]`.
    neighbours: `levels_e * levels_f` if e and f share a group, else 0. `[n, n]`.
    kinds: 1 if the element is of this kind, else 0. `[n, _KINDS]`.
    unit: Cost that counts as one, per resource. `[m]`.
    centre: Mean of each concave feature over random sets. `[d]`.
    spread: Its standard deviation; infinite if it is constant. `[d]`.
    weights: Inverse mean square distance of random sets in each block. `[3]`.
  """

  groups: jax.Array
  levels: jax.Array
  neighbours: jax.Array
  kinds: jax.Array
  unit: jax.Array
  centre: jax.Array
  spread: jax.Array
  weights: jax.Array


class Features(NamedTuple):
  """Features of `K` sets: canonical masks `[K, n]` and concave features `[K, d]`."""

  elements: jax.Array
  concave: jax.Array


class Hyperparameters(NamedTuple):
  """Logarithms of the parameters of the kernel and of the noise."""

  additive: ArrayLike  # a [3]
  rates: ArrayLike  # r [3]
  interactions: ArrayLike  # s []
  noise: ArrayLike  # variance of one measurement []
  nugget: ArrayLike  # d []


def encode(problem: Problem, samples: jax.Array) -> Encoding:
  """Computes the encoding from costs of single elements and of random sets `samples [K, n]`."""
  identity = jnp.eye(problem.n, dtype=bool)
  grouped = problem.groups >= 0
  mates = same_group(problem)
  alone = jax.vmap(problem.cost)((problem.required & ~mates) | identity).astype(jnp.float32)
  alone /= jnp.maximum(alone.max(axis=0), 1e-9)

  total = alone.sum(axis=1)
  cheaper = mates & (total[None, :] < total[:, None] * (1 - 1e-6))
  levels = jnp.where(grouped, (1 + cheaper.sum(axis=1)) / mates.sum(axis=1).clip(1), 0.0)

  equal = jnp.abs(alone[:, None] - alone).max(axis=-1, initial=0) < 1e-6
  kind_of = jnp.argmax(equal, axis=1)
  members = jnp.where(kind_of == jnp.arange(problem.n), equal.sum(axis=1), 0)
  most, chosen = jax.lax.top_k(members, min(_KINDS, problem.n))
  kinds = (kind_of[:, None] == chosen) & (most > 1)

  costs = jax.vmap(problem.cost)(samples).astype(jnp.float32)
  blank = Encoding(
    groups=jnp.maximum(problem.groups, 0),
    levels=levels,
    neighbours=jnp.where(mates, levels[:, None] * levels, 0.0),
    kinds=kinds.astype(jnp.float32),
    unit=jnp.maximum(costs.mean(axis=0), 1e-9),
    centre=jnp.float32(0),
    spread=jnp.float32(1),
    weights=jnp.ones(3),
  )
  raw = featurize(problem, blank, samples).concave
  spread = raw.std(axis=0)
  scaled = blank._replace(centre=raw.mean(axis=0), spread=jnp.where(spread > 1e-5, spread, jnp.inf))
  features = featurize(problem, scaled, samples)
  products = inner_products(scaled, features, features)
  diagonal = jnp.diagonal(products, axis1=1, axis2=2)
  distance = 2 * (diagonal.mean(axis=1) - products.mean(axis=(1, 2)))
  return scaled._replace(weights=jnp.where(distance > 1e-6, 1 / jnp.maximum(distance, 1e-6), 0.0))


def featurize(problem: Problem, encoding: Encoding, masks: jax.Array) -> Features:
  """Computes the features of sets `masks [K, n]`."""
  masks = jax.vmap(problem.canonical_form)(masks)
  elements = masks.astype(jnp.float32)
  costs = jax.vmap(problem.cost)(masks).astype(jnp.float32) / encoding.unit
  sums = jnp.concatenate(
    [elements @ encoding.kinds, (elements @ encoding.levels)[:, None], elements.sum(1)[:, None]], 1
  )
  concave = jnp.concatenate([jnp.log1p(sums), jnp.log(costs + 0.01)], axis=1)
  return Features(elements, (concave - encoding.centre) / encoding.spread)


def inner_products(encoding: Encoding, left: Features, right: Features) -> jax.Array:
  """Computes the weighted inner products of `L` and `R` sets in each block. `[3, L, R]`."""
  near = right.elements @ encoding.neighbours
  products = (
    left.elements @ right.elements.T,
    left.elements @ near.T,
    left.concave @ right.concave.T,
  )
  return jnp.stack([w * p for w, p in zip(encoding.weights, products)])


def square_norms(encoding: Encoding, features: Features) -> jax.Array:
  """Computes `|S|_b^2` of sets with at most one element in each group. `[3, K]`."""
  own = features.elements @ jnp.stack([jnp.ones_like(encoding.levels), encoding.levels**2], 1)
  return encoding.weights[:, None] * jnp.stack(
    [own[:, 0], own[:, 1], (features.concave**2).sum(axis=1)]
  )


def kernel(
  parameters: Hyperparameters, products: jax.Array, left_norms: jax.Array, right_norms: jax.Array
) -> jax.Array:
  """Covariances `[L, R]` of F without the nugget, from `[3, L, R]`, `[3, L]` and `[3, R]`."""
  distances = left_norms[:, :, None] + right_norms[:, None, :] - 2 * products
  rates = jnp.exp(parameters.rates)
  decay = jnp.exp(-jnp.einsum("b,blr->lr", rates, jnp.maximum(distances, 0)))
  additive = jnp.einsum("b,blr->lr", jnp.exp(parameters.additive), products)
  return 1 + additive + jnp.exp(parameters.interactions) * decay
