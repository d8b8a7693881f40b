"""The training step and the evaluation step of candidates and final networks, as pure functions."""

from collections.abc import Callable
from typing import NamedTuple

import chex
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from nas_submod import data as datasets
from nas_submod.networks.layer import Params, State, Variables
from nas_submod.networks.search_space import SearchSpace
from nas_submod.training import augmentation
from nas_submod.training.recipes import Recipe

Apply = Callable[[Params, State, jax.Array, bool | str], tuple[jax.Array, State]]


class TrainState(flax.struct.PyTreeNode):
  """The state of a training between two steps.

  Attributes:
    step: Steps done. Shape `[]`.
    params: Parameters.
    state: Running statistics.
    optimizer: State of the optax transformation.
    loss_sum: Sum of the training losses of all steps, in nats. Shape `[]`.
    average: Moving average of parameters and running statistics; `()` if none is kept.
  """

  step: jax.Array
  params: Params
  state: State
  optimizer: optax.OptState
  loss_sum: jax.Array
  average: Variables | tuple[()] = ()

  @property
  def evaluated_variables(self) -> Variables:
    """The variables to evaluate: the moving average if one is kept."""
    if isinstance(self.average, Variables):
      return self.average
    return Variables(self.params, self.state)


class StepMetrics(NamedTuple):
  """Metrics of one step, equal on all devices. Shapes `[]`."""

  loss: jax.Array  # of the whole batch before the step, in nats
  gradient_norm: jax.Array  # before clipping


def batch_order(seed: tuple[int, ...], train_size: int, batch_size: int, steps: int) -> np.ndarray:
  """Images of each step: a new permutation each epoch, without its incomplete last batch.

  Returns:
    Indices into the training set. Shape `[steps, batch_size]` int32.
  """
  rng = np.random.default_rng(seed)
  per_epoch = train_size // batch_size
  epochs = [
    rng.permutation(train_size)[: per_epoch * batch_size] for _ in range(-(-steps // per_epoch))
  ]
  return np.concatenate(epochs).astype(np.int32).reshape(-1, batch_size)[:steps]


def start(
  variables: Variables, transformation: optax.GradientTransformation, averaged: bool = False
) -> TrainState:
  """The state before the first step; with `averaged` it keeps a moving average."""
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=variables.params,
    state=variables.state,
    optimizer=transformation.init(variables.params),
    loss_sum=jnp.zeros(()),
    average=variables if averaged else (),
  )


def cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
  """Cross entropy in nats, with label smoothing. Shapes `[B, classes]`, `[B]` -> `[B]`."""
  logits = logits.astype(jnp.float32)
  if smoothing:
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
    return optax.softmax_cross_entropy(logits, targets)
  return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def train_step(
  recipe: Recipe,
  apply: Apply,
  train_state: TrainState,
  rng: jax.Array,
  images: jax.Array,
  labels: jax.Array,
  axis_name: str | None = None,
) -> tuple[TrainState, StepMetrics]:
  """Takes one step of gradient descent.

  Args:
    recipe: The recipe.
    apply: The network.
    train_state: The state before the step.
    rng: Key of the training; the step number is folded in.
    images: This device's part of the batch. Shape `[B, H, W, C]` uint8.
    labels: Shape `[B]` int.
    axis_name: Mapped axis of the devices that share the batch. Gradients, losses, batch norm
      statistics and random draws cover the whole batch. Only the order of sums depends on the
      number of devices.

  Returns:
    The state after the step, and the metrics of the step.
  """
  chex.assert_rank([images, labels], [4, 1])
  rng = jax.random.fold_in(rng, train_state.step)
  inputs = recipe.preprocess(rng, images, True, axis_name)
  share = None
  if recipe.mixup:
    mix_rng = jax.random.fold_in(rng, 1)
    inputs, share = augmentation.mix_pairs(mix_rng, inputs, recipe.mixup, axis_name)

  def loss_of(params):
    logits, state = apply(params, train_state.state, inputs, axis_name or True)
    loss = cross_entropy(logits, labels, recipe.label_smoothing)
    if share is not None:
      other = cross_entropy(logits, augmentation.swap_pairs(labels), recipe.label_smoothing)
      loss = share * loss + (1 - share) * other
    return loss.mean(), state

  (loss, state), gradients = jax.value_and_grad(loss_of, has_aux=True)(train_state.params)
  if axis_name is not None:
    loss, gradients = jax.lax.pmean((loss, gradients), axis_name)
  updates, optimizer = recipe.transformation.update(
    gradients, train_state.optimizer, train_state.params
  )
  params = optax.apply_updates(train_state.params, updates)
  average = train_state.average
  if isinstance(average, Variables):
    # A small decay in the first steps, so that the average forgets the initial values.
    decay = jnp.minimum(recipe.average, (1 + train_state.step) / (10 + train_state.step))
    average = optax.incremental_update(Variables(params, state), average, 1 - decay)
  moved = TrainState(
    step=train_state.step + 1,
    params=params,
    state=state,
    optimizer=optimizer,
    loss_sum=train_state.loss_sum + loss,
    average=average,
  )
  return moved, StepMetrics(loss, optax.tree.norm(gradients))


class Metrics(NamedTuple):
  """Sums over examples. Shapes `[]`."""

  correct: jax.Array  # examples whose most likely class is correct
  correct_top5: jax.Array  # examples whose class is among the five most likely
  loss: jax.Array  # cross entropy, in nats
  examples: jax.Array


def no_metrics() -> Metrics:
  """The sums over no examples."""
  return Metrics(*(jnp.zeros((), kind) for kind in (int, int, float, int)))


def eval_step(
  recipe: Recipe,
  apply: Apply,
  params: Params,
  state: State,
  images: jax.Array,
  labels: jax.Array,
  axis_name: str | None = None,
) -> Metrics:
  """Evaluates one batch; examples with a negative label are padding and are not counted."""
  inputs = recipe.preprocess(jax.random.key(0), images, False)
  logits, _ = apply(params, state, inputs, False)
  real, labels = labels >= 0, jnp.maximum(labels, 0)
  of_label = jnp.take_along_axis(logits, labels[:, None], 1)
  # Among equal logits the first ranks highest, as in argmax.
  earlier = jnp.arange(logits.shape[1]) < labels[:, None]
  ahead = (logits > of_label) | ((logits == of_label) & earlier)
  # A NaN logit must not count as correct: every comparison with NaN is false, which gives rank 0.
  rank = jnp.where(jnp.isnan(logits).any(1), jnp.iinfo(jnp.int32).max, ahead.sum(1))
  loss = cross_entropy(logits, labels)
  metrics = Metrics(*(jnp.where(real, part, 0).sum() for part in (rank < 1, rank < 5, loss, 1)))
  return metrics if axis_name is None else jax.lax.psum(metrics, axis_name)


def batches(split: datasets.Split, batch_size: int) -> datasets.Split:
  """Cuts a split into `[batches, batch_size, ...]`; pads the last batch with label -1."""
  count = -(-len(split.labels) // batch_size)
  missing = count * batch_size - len(split.labels)
  images = np.concatenate([split.images, np.repeat(split.images[:1], missing, 0)])
  labels = np.concatenate([split.labels, np.full(missing, -1, split.labels.dtype)])
  return datasets.Split(
    images.reshape(count, batch_size, *images.shape[1:]), labels.reshape(count, batch_size)
  )


def check_fit(space: SearchSpace, data: datasets.Data) -> None:
  """Raises ValueError if a space and the data differ in image shape or number of classes."""
  shape = data.train.images.shape[1:]
  faults: list[str] = []
  if shape != space.image_shape:
    *sides, channels = space.image_shape
    can_be_scaled = shape[-1] == channels and sides[0] == sides[1]
    other = f" or config.data.image_size={sides[0]}" if can_be_scaled else ""
    faults.append(
      f"images are {shape}, space {space.name} takes {space.image_shape}: "
      f"set config.space.image_shape={shape}{other}"
    )
  if data.classes != space.classes:
    faults.append(
      f"data have {data.classes} classes, space {space.name} has {space.classes}: "
      f"set config.space.classes={data.classes}"
    )
  if faults:
    raise ValueError("; ".join(faults))
