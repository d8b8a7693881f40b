"""The compiled programs that train and evaluate every architecture, another one on each device."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from nas_submod import networks, parallel, training
from nas_submod.spaces import SearchSpace


class Programs(NamedTuple):
  """The three compiled programs of a search; leading axis `[D]` = devices.

  Attributes:
    start: `(seed [D, 2], architecture [D, positions]) -> TrainState`.
    train: `(TrainState, seed, architecture, order [D, steps, B], length [D], images, labels, stop)
      -> TrainState`: goes on to step `stop` of a training of `length` steps.
    evaluate: `(TrainState, architecture, images [batches, B, ...], labels) -> Metrics [D]`.
  """

  start: Callable[..., Any]
  train: Callable[..., Any]
  evaluate: Callable[..., Any]


def make_programs(space: SearchSpace, recipe: training.Recipe) -> Programs:
  """Makes the programs that train any architecture of a space."""
  network = networks.build_universal(space)

  def key_of(seed):
    return jax.random.fold_in(jax.random.key(seed[0]), seed[1])

  def apply_of(architecture):
    return lambda params, state, x, train: network.apply(params, state, architecture, x, train)

  def start(seed, architecture):
    variables = network.init(key_of(seed), architecture)
    return training.start(variables, recipe.transformation)

  def train(train_state, seed, architecture, order, length, images, labels, stop):
    rng = jax.random.fold_in(key_of(seed), 1)
    # The length is data, so that a shorter training is the same program.
    paced = recipe._replace(transformation=recipe.at_pace(recipe.steps / length))

    def step(state):
      rows = order[state.step]
      batch = images[rows], labels[rows]
      return training.train_step(paced, apply_of(architecture), state, rng, *batch)[0]

    last = jnp.minimum(stop, length)
    return jax.lax.while_loop(lambda state: state.step < last, step, train_state)

  def evaluate(train_state, architecture, images, labels):
    def step(total, batch):
      metrics = training.eval_step(
        recipe, apply_of(architecture), train_state.params, train_state.state, *batch
      )
      return jax.tree.map(jnp.add, total, metrics), None

    zeros = training.Metrics(*(jnp.zeros((), t) for t in (int, int, float, int)))
    return jax.lax.scan(step, zeros, (images, labels))[0]

  return Programs(
    parallel.pmap_candidates(start, (0, 0)),
    parallel.pmap_candidates(train, (0, 0, 0, 0, 0, None, None, None), donate=(0,)),
    parallel.pmap_candidates(evaluate, (0, 0, None, None)),
  )
