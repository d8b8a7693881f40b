"""The score of a network with shared weights, as a traceable set function.

Batch norm is re-estimated on training images for each network, because running averages in a store
would mix many networks. A score takes two passes over some images and no training.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from nas_submod import networks, parallel, training
from nas_submod.data.loading import Data, Split
from nas_submod.evaluation.shared_weights import store
from nas_submod.networks.layer import Params
from nas_submod.networks.layers import BATCH_NORM_MOMENTUM
from nas_submod.networks.search_space import SearchSpace

_BATCH = 128  # images per batch, for statistics and for the loss


class ScoringData(NamedTuple):
  """The stores and images that scores are computed from.

  Attributes:
    stores: Parameters of S stores. Leaves `[S, ...]`.
    statistics: Training images that batch norm is estimated on. `[batches, B, H, W, C]` uint8.
    validation: Images and labels for the loss, from `training.batches`.
  """

  stores: Params
  statistics: jax.Array | np.ndarray
  validation: Split


def scoring_data(stores: list[Params], data: Data, statistics_images: int) -> ScoringData:
  """Combines stores and images.

  Args:
    stores: Parameters of one or more stores of the same space.
    data: The images of the search.
    statistics_images: Number of training images that batch norm is estimated on; rounded up to
      whole batches, or down if there are too few images.
  """
  batch = min(_BATCH, len(data.train.labels))
  count = min(-(-statistics_images // batch), len(data.train.labels) // batch)
  chosen = np.random.default_rng(0).permutation(len(data.train.labels))[: count * batch]
  images = data.train.images[chosen].reshape(count, batch, *data.train.images.shape[1:])
  stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *stores)
  return ScoringData(stacked, images, training.batches(data.validation, _BATCH))


def make_metrics(
  space: SearchSpace, recipe: training.Recipe, devices: Sequence[jax.Device] | None = None
) -> Callable[[ScoringData, jax.Array], training.Metrics]:
  """Makes the function `(held, architecture [positions]) -> Metrics`, summed over all stores.

  The function is traceable. Under `vmap` it takes one network after the other; if vectorised, each
  position would compute all of its options. It is fast on the platform of `devices`, by default
  those of this process.
  """
  network = networks.build_universal(space, parallel.platform_of(devices))

  @jax.custom_batching.sequential_vmap
  def metrics(held: ScoringData, architecture: jax.Array) -> training.Metrics:
    rows = store.where(network, architecture)

    def apply(params, state, x, train):
      return network.apply(params, state, architecture, x, train)

    def of_store(params: Params) -> training.Metrics:
      def estimate(state: Any, batch: Any) -> tuple[Any, None]:
        # Augmented as in the training of the weights: other images have other statistics.
        number, images = batch
        inputs = recipe.preprocess(jax.random.key(number), images, True)
        return apply(params, state, inputs, True)[1], None

      def evaluate(total: Any, batch: Any) -> tuple[Any, None]:
        found = training.eval_step(recipe, apply, params, state, batch.images, batch.labels)
        return jax.tree.map(jnp.add, total, found), None

      batches = jnp.arange(len(held.statistics)), held.statistics
      state, _ = jax.lax.scan(estimate, store.zero_statistics(network), batches)
      # Corrects for the start at 0.
      weight = 1 - BATCH_NORM_MOMENTUM ** len(held.statistics)
      state = jax.tree.map(lambda average: average / weight, state)
      return jax.lax.scan(evaluate, training.no_metrics(), held.validation)[0]

    taken = jax.vmap(lambda params: store.take(params, rows))(held.stores)
    return jax.tree.map(lambda sums: sums.sum(0), jax.lax.map(of_store, taken))

  return metrics


def value(
  space: SearchSpace,
  metrics: Callable[[ScoringData, jax.Array], training.Metrics],
  held: ScoringData,
) -> Partial:
  """Makes the traceable set function of scores, for `maximize(traceable=True)`.

  It maps `mask [n]` to the negative loss on the validation split, in nats, `[]`.

  Args:
    space: The space.
    metrics: From `make_metrics`.
    held: From `scoring_data`; an argument of the program, not a constant in it.
  """
  return Partial(_value_function(space, metrics), held)


@functools.lru_cache(maxsize=16)  # The same object each time, so nothing compiles again.
def _value_function(
  space: SearchSpace, metrics: Callable[[ScoringData, jax.Array], training.Metrics]
) -> Callable[[ScoringData, jax.Array], jax.Array]:
  def value(held: ScoringData, mask: jax.Array) -> jax.Array:
    found = metrics(held, space.architecture(jnp.asarray(mask)))
    return -found.loss.astype(jnp.float32) / found.examples

  return value
