"""One training step and one evaluation step, pure: of a candidate or of a final network."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import chex
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from nas_submod import data as datasets
from nas_submod.networks.layers import Params, State, Variables
from nas_submod.networks.search_space import SearchSpace
from nas_submod.training import augmentation, schedules

Apply = Callable[[Params, State, jax.Array, bool | str], tuple[jax.Array, State]]


class TrainState(flax.struct.PyTreeNode):
  """What the next training step needs.

  Attributes:
    step: Steps done. Shape `[]`.
    params: Parameters.
    state: Running statistics.
    optimizer: State of the optax transformation.
    loss_sum: Sum of the training losses of all steps, in nats. Shape `[]`.
    average: Moving average of parameters and running statistics; `()` where none is kept.
  """

  step: jax.Array
  params: Params
  state: State
  optimizer: optax.OptState
  loss_sum: jax.Array
  average: Variables | tuple[()] = ()

  @property
  def best_variables(self) -> Variables:
    """What to evaluate: the average where one is kept."""
    if isinstance(self.average, Variables):
      return self.average
    return Variables(self.params, self.state)


class StepMetrics(NamedTuple):
  """What one step says of itself; the same on all devices. Shapes `[]`."""

  loss: jax.Array  # Of the whole batch before the step, nats.
  gradient_norm: jax.Array  # Before clipping.


class Recipe(NamedTuple):
  """How a network is trained; made by `recipe` from a config.

  Attributes:
    steps: Number of steps.
    batch_size: Images a step, over all devices.
    transformation: What updates the parameters.
    preprocess: `(rng, images uint8 [B, H, W, C], train, axis_name=None) -> float [B, H, W, C]`.
    label_smoothing: Share of the target that is spread over all classes.
    learning_rate: The schedule inside `transformation`.
    at_pace: `pace [] -> transformation` with the schedule so many times as fast, for a training of
      fewer steps.
    mixup: Alpha of `augmentation.mix_pairs`; 0: none.
    average: Decay of the moving average of the parameters; 0: none is kept.
  """

  steps: int
  batch_size: int
  transformation: optax.GradientTransformation
  preprocess: Callable[..., jax.Array]
  label_smoothing: float
  learning_rate: optax.Schedule
  at_pace: Callable[[jax.Array], optax.GradientTransformation]
  mixup: float = 0.0
  average: float = 0.0


def recipe(config: Mapping[str, Any], data: datasets.Data) -> Recipe:
  """Makes the recipe of a config: SGD with Nesterov momentum and weight decay, as in the paper.

  Args:
    config: The fields of `schedules.total_steps` and `schedules.learning_rate`, and `momentum`,
      `weight_decay`, `label_smoothing`, `crop_padding` (pixels) and `flip`. These may be left out:
      `decay_kernels` (False; True: kernels alone decay, not batch norm or biases), `clip_norm`
      (0: off), `mixup` (alpha; 0: off), `average` (decay; 0: off) and `dtype` ("float32"; or
      "bfloat16" for what is computed between images and logits in training; parameters and
      statistics stay float32).
    data: What is trained on: its size and its mean and standard deviation by channel.

  Raises:
    ValueError: If a setting is not possible.
  """
  for name, value in config.items():
    if isinstance(value, float) and not math.isfinite(value):
      raise ValueError(f"{name} is {value}; allowed are finite numbers")
  train_size = len(data.train.labels)
  steps = schedules.total_steps(config, train_size)
  schedule = schedules.learning_rate(config, steps, train_size)
  settings = {name: config.get(name, 0) for name in ("clip_norm", "mixup", "average")}
  for name, value in settings.items():
    if value < 0 or (name == "average" and value >= 1):
      allowed = "0 (off) to below 1" if name == "average" else "0 (off) and up"
      raise ValueError(f"{name} is {value}; allowed: {allowed}")
  dtype = config.get("dtype", "float32")
  if dtype not in ("float32", "bfloat16"):
    raise ValueError(f"unknown dtype {dtype!r}; allowed: float32, bfloat16")
  augment = {"crop_padding": config["crop_padding"], "flip": config["flip"]}
  mean, std = jnp.asarray(data.mean), jnp.asarray(data.std)

  def preprocess(rng, images, train, axis_name=None):
    if not train:
      return augmentation.normalize(images, mean, std)
    images = augmentation.augment(rng, images, **augment, axis_name=axis_name)
    return augmentation.normalize(images, mean, std).astype(dtype)

  return Recipe(
    steps,
    config["batch_size"],
    schedules.transformation(config, schedule),
    preprocess,
    config["label_smoothing"],
    schedule,
    lambda pace: schedules.transformation(config, lambda step: schedule(pace * step)),
    settings["mixup"],
    settings["average"],
  )


def batch_order(seed: tuple[int, ...], train_size: int, batch_size: int, steps: int) -> np.ndarray:
  """Which images each step sees: a fresh permutation an epoch, incomplete batches dropped.

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
  """The state before the first step; `averaged`: a moving average is kept too."""
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=variables.params,
    state=variables.state,
    optimizer=transformation.init(variables.params),
    loss_sum=jnp.zeros(()),
    average=variables if averaged else (),
  )


def cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
  """Cross entropy in nats. Shapes `[B, classes]`, `[B]` -> `[B]`."""
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
  """One step of gradient descent.

  Args:
    recipe: How to train.
    apply: The network.
    train_state: Before the step.
    rng: Key of the run; the step number is folded in.
    images: This device's part of the batch. Shape `[B, H, W, C]` uint8.
    labels: Shape `[B]` int.
    axis_name: The mapped axis that the batch is spread over. Gradients, losses and the statistics
      of batch norm are those of the whole batch, and so are the random draws: the step does not
      depend on the number of devices, but for the order of sums.

  Returns:
    The state after the step, and what to say of the step.
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
    # Short at first, so that the initial values are forgotten.
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

  correct: jax.Array  # Examples whose most likely class is right.
  correct_top5: jax.Array  # Examples whose class is among the five most likely.
  loss: jax.Array  # Cross entropy, nats.
  examples: jax.Array


def eval_step(
  recipe: Recipe,
  apply: Apply,
  params: Params,
  state: State,
  images: jax.Array,
  labels: jax.Array,
  axis_name: str | None = None,
) -> Metrics:
  """Evaluates one batch; examples with a negative label are padding and count nothing."""
  inputs = recipe.preprocess(jax.random.key(0), images, False)
  logits, _ = apply(params, state, inputs, False)
  real, labels = labels >= 0, jnp.maximum(labels, 0)
  of_label = jnp.take_along_axis(logits, labels[:, None], 1)
  # Of equal logits the first counts as the larger one, as in argmax.
  earlier = jnp.arange(logits.shape[1]) < labels[:, None]
  ahead = (logits > of_label) | ((logits == of_label) & earlier)
  # Where a logit is not a number nothing is right.
  rank = jnp.where(jnp.isnan(logits).any(1), jnp.iinfo(jnp.int32).max, ahead.sum(1))
  loss = cross_entropy(logits, labels)
  metrics = Metrics(*(jnp.where(real, part, 0).sum() for part in (rank < 1, rank < 5, loss, 1)))
  return metrics if axis_name is None else jax.lax.psum(metrics, axis_name)


def batches(split: datasets.Split, batch_size: int) -> datasets.Split:
  """Cuts a split into `[batches, batch_size, ...]`, the last padded with label -1."""
  count = -(-len(split.labels) // batch_size)
  missing = count * batch_size - len(split.labels)
  images = np.concatenate([split.images, np.repeat(split.images[:1], missing, 0)])
  labels = np.concatenate([split.labels, np.full(missing, -1, split.labels.dtype)])
  return datasets.Split(
    images.reshape(count, batch_size, *images.shape[1:]), labels.reshape(count, batch_size)
  )


def check_fit(space: SearchSpace, data: datasets.Data) -> None:
  """Checks that a space is made for the data.

  Raises:
    ValueError: If image shapes or numbers of classes differ.
  """
  shape = data.train.images.shape[1:]
  if shape != space.image_shape:
    raise ValueError(
      f"images are {shape}, space {space.name} takes {space.image_shape}: "
      "set config.space.image_shape or config.data.image_size"
    )
  if data.classes != space.classes:
    raise ValueError(
      f"data have {data.classes} classes, space {space.name} has {space.classes}: "
      "set config.space.classes"
    )
