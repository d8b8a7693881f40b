"""One training step and one evaluation step, pure: of a candidate or of a final network."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import chex
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from nas_submod import data as datasets
from nas_submod.layers import Params, State, Variables

Apply = Callable[[Params, State, jax.Array, bool], tuple[jax.Array, State]]


class TrainState(flax.struct.PyTreeNode):
  """What the next training step needs.

  Attributes:
    step: Steps done. Shape `[]`.
    params: Parameters.
    state: Running statistics.
    optimizer: State of the optax transformation.
    loss_sum: Sum of the training losses of all steps, in nats. Shape `[]`.
  """

  step: jax.Array
  params: Params
  state: State
  optimizer: optax.OptState
  loss_sum: jax.Array


class Recipe(NamedTuple):
  """How a network is trained; made by `recipe` from a config.

  Attributes:
    steps: Number of steps.
    batch_size: Images a step, over all devices.
    transformation: What updates the parameters.
    preprocess: `(rng, images uint8 [B, H, W, C], train) -> float [B, H, W, C]`.
    label_smoothing: Share of the target that is spread over all classes.
  """

  steps: int
  batch_size: int
  transformation: optax.GradientTransformation
  preprocess: Callable[[jax.Array, jax.Array, bool], jax.Array]
  label_smoothing: float


def total_steps(config: Mapping[str, Any], train_size: int) -> int:
  """Number of steps of a recipe given in steps or in epochs.

  Raises:
    ValueError: If not exactly one of the two is set to a positive number, or the batch is larger
      than the training set.
  """
  steps, epochs = config.get("steps"), config.get("epochs")
  if bool(steps) == bool(epochs):
    raise ValueError(f"set exactly one of steps ({steps}) and epochs ({epochs}), the other to 0")
  duration = steps or epochs or 0
  if duration < 0:
    raise ValueError(f"training takes a positive number of steps or epochs, not {duration}")
  if not 0 < config["batch_size"] <= train_size:
    raise ValueError(
      f"batch_size {config['batch_size']} is not possible with {train_size} training images; "
      f"allowed are 1 to {train_size}"
    )
  per_epoch = train_size // config["batch_size"]
  return int(steps) if steps else max(1, round(duration * per_epoch))


def learning_rate(config: Mapping[str, Any], steps: int, train_size: int) -> optax.Schedule:
  """The schedule of a recipe.

  Args:
    config: `learning_rate`, `schedule` ("multistep", "cosine" or "constant"), for multistep
      `milestones` in the unit of the duration and `decay`, and `warmup_steps`.
    steps: Length of the training.
    train_size: Training images.

  Raises:
    ValueError: If the schedule is unknown.
  """
  peak, warmup = config["learning_rate"], config.get("warmup_steps", 0)
  rest = max(steps - warmup, 1)
  if config["schedule"] == "constant":
    after = optax.constant_schedule(peak)
  elif config["schedule"] == "cosine":
    after = optax.cosine_decay_schedule(peak, rest)
  elif config["schedule"] == "multistep":
    unit = 1 if not config.get("epochs") else train_size // config["batch_size"]
    drops = {round(m * unit) - warmup: config["decay"] for m in config["milestones"]}
    after = optax.piecewise_constant_schedule(peak, drops)
  else:
    raise ValueError(
      f"unknown schedule {config['schedule']!r}; allowed: multistep, cosine, constant"
    )
  if not warmup:
    return after
  return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])


def recipe(config: Mapping[str, Any], data: datasets.Data) -> Recipe:
  """Makes the recipe of a config: SGD with Nesterov momentum and weight decay, as in the paper.

  Args:
    config: The fields of `total_steps` and `learning_rate`, and `momentum`, `weight_decay`,
      `label_smoothing`, `crop_padding` (pixels) and `flip`.
    data: What is trained on: its size and its mean and standard deviation by channel.
  """
  train_size = len(data.train.labels)
  steps = total_steps(config, train_size)
  schedule = learning_rate(config, steps, train_size)
  sgd = optax.sgd(schedule, config["momentum"] or None, nesterov=bool(config["momentum"]))
  decay = optax.add_decayed_weights(config["weight_decay"])
  augment = {"crop_padding": config["crop_padding"], "flip": config["flip"]}
  mean, std = jnp.asarray(data.mean), jnp.asarray(data.std)

  def preprocess(rng, images, train):
    if train:
      images = datasets.augment(rng, images, **augment)
    return datasets.normalize(images, mean, std)

  return Recipe(
    steps, config["batch_size"], optax.chain(decay, sgd), preprocess, config["label_smoothing"]
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


def start(variables: Variables, transformation: optax.GradientTransformation) -> TrainState:
  """The state before the first step."""
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=variables.params,
    state=variables.state,
    optimizer=transformation.init(variables.params),
    loss_sum=jnp.zeros(()),
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
) -> TrainState:
  """One step of gradient descent.

  Args:
    recipe: How to train.
    apply: The network.
    train_state: Before the step.
    rng: Key of the run; the step number is folded in.
    images: This device's part of the batch. Shape `[B, H, W, C]` uint8.
    labels: Shape `[B]` int.
    axis_name: Average gradients, statistics and losses over this mapped axis.

  Returns:
    The state after the step.
  """
  chex.assert_rank([images, labels], [4, 1])
  inputs = recipe.preprocess(jax.random.fold_in(rng, train_state.step), images, True)

  def loss_of(params):
    logits, state = apply(params, train_state.state, inputs, True)
    return cross_entropy(logits, labels, recipe.label_smoothing).mean(), state

  (loss, state), gradients = jax.value_and_grad(loss_of, has_aux=True)(train_state.params)
  if axis_name is not None:
    loss, state, gradients = jax.lax.pmean((loss, state, gradients), axis_name)
  updates, optimizer = recipe.transformation.update(
    gradients, train_state.optimizer, train_state.params
  )
  return TrainState(
    step=train_state.step + 1,
    params=optax.apply_updates(train_state.params, updates),
    state=state,
    optimizer=optimizer,
    loss_sum=train_state.loss_sum + loss,
  )


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
  real = labels >= 0
  of_label = jnp.take_along_axis(logits, jnp.maximum(labels, 0)[:, None], 1)
  rank = (logits > of_label).sum(1)
  loss = cross_entropy(logits, jnp.maximum(labels, 0))
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
