"""The recipe of a training, made from a config: hyperparameters and update rule."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from nas_submod import data as datasets
from nas_submod.training import augmentation, schedules


class Recipe(NamedTuple):
  """The hyperparameters of a training; made by `recipe` from a config.

  Attributes:
    steps: Number of steps.
    batch_size: Images per step, over all devices.
    transformation: Updates the parameters.
    preprocess: `(rng, images uint8 [B, H, W, C], train, axis_name=None) -> float [B, H, W, C]`.
    label_smoothing: Share of the target distribution that is uniform over all classes.
    learning_rate: The schedule inside `transformation`.
    mixup: Alpha of `augmentation.mix_pairs`; 0 for no mixup.
    average: Decay of the moving average of the parameters; 0 for no average.
  """

  steps: int
  batch_size: int
  transformation: optax.GradientTransformation
  preprocess: Callable[..., jax.Array]
  label_smoothing: float
  learning_rate: optax.Schedule
  mixup: float = 0.0
  average: float = 0.0

  @property
  def parts(self) -> int:
    """Into how many equal parts a batch may be split. Mixup does not split pairs of images."""
    return self.batch_size // 2 if self.mixup else self.batch_size


def recipe(config: Mapping[str, Any], data: datasets.Data) -> Recipe:
  """Makes the recipe of a config: SGD with Nesterov momentum and weight decay, as in the paper.

  Args:
    config: Fields in the ranges that `fields.SECTIONS` allows: those of `schedules.total_steps` and
      `schedules.learning_rate`, and `momentum`, `weight_decay`, `label_smoothing`, `crop_padding`
      (pixels) and `flip`. Optional fields are `decay_kernels` (default False; True excludes biases
      and batch norm from weight decay), `clip_norm` (default 0, off), `mixup` (alpha; default 0,
      off), `average` (decay; default 0, off) and `dtype` (default "float32"). With "bfloat16"
      training computes from images to logits in bfloat16; parameters and statistics stay float32.
    data: The training data; gives the number of images, and mean and standard deviation by channel.

  Raises:
    ValueError: If the duration, the batch or the schedule is not possible with the data.
  """
  train_size = len(data.train.labels)
  steps = schedules.total_steps(config, train_size)
  schedule = schedules.learning_rate(config, steps, train_size)
  mixup = config.get("mixup") or 0.0
  if mixup and config["batch_size"] % 2:
    raise ValueError(f"batch_size is {config['batch_size']}; allowed with mixup: even numbers")
  dtype = config.get("dtype") or "float32"
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
    update_rule(config, schedule),
    preprocess,
    config["label_smoothing"],
    schedule,
    mixup,
    config.get("average") or 0.0,
  )


def update_rule(
  config: Mapping[str, Any], schedule: optax.Schedule
) -> optax.GradientTransformation:
  """SGD with Nesterov momentum and weight decay; `clip_norm` clips gradients before both.

  With another rule for an existing config, raise `identity.VERSION`. Otherwise a workdir would mix
  values of both.
  """

  def kernels(params):
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)

  decay = optax.add_decayed_weights(
    config["weight_decay"], kernels if config.get("decay_kernels") else None
  )
  sgd = optax.sgd(schedule, config["momentum"] or None, nesterov=bool(config["momentum"]))
  if not config.get("clip_norm"):
    return optax.chain(decay, sgd)
  return optax.chain(optax.clip_by_global_norm(config["clip_norm"]), decay, sgd)
