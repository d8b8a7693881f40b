"""A trained network from the folder of a run, as a function from images to logits."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from nas_submod import networks, parallel
from nas_submod.files import local_path, read_json
from nas_submod.networks import spaces
from nas_submod.networks.layer import Layer, Variables
from nas_submod.networks.search_space import SearchSpace
from nas_submod.workdir import CONFIG_FILE

FOLDER = "train"  # The training in the folder of a run.
DATA_FILE = "data.json"


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
  """A network with its variables, and the facts it needs about its data.

  Attributes:
    space: The space.
    architecture: An option for every position.
    variables: Parameters and running statistics.
    mean: Subtracted from the pixels 0..255. Shape `[C]`, float32.
    std: Divides the difference. Shape `[C]`, float32.
    classes: Names of the classes.
    border: Share of an image's sides that is cut off at each edge before the image is scaled.
    step: Training steps of the checkpoint; 0 without a training.
    scores: Accuracy, top-5 accuracy and loss of the checkpoint on the evaluated split.
    config: The config of the training.
    origin: The content of `data.json`, with the numbers of images and the training command.
  """

  space: SearchSpace
  architecture: tuple[int, ...]
  variables: Variables
  mean: np.ndarray
  std: np.ndarray
  classes: tuple[str, ...]
  border: float
  step: int
  scores: Mapping[str, float]
  config: Mapping[str, Any]
  origin: Mapping[str, Any]

  @functools.cached_property
  def network(self) -> Layer:
    """The network as a layer."""
    return networks.build(self.space, self.architecture)

  @functools.cached_property
  def _logits(self) -> Callable[..., jax.Array]:
    network = networks.for_platform(self.network, parallel.platform_of())

    @jax.jit
    def logits(variables, pixels):
      x = (pixels.astype(np.float32) - self.mean) / self.std
      return network.apply(variables.params, variables.state, x, False)[0]

    return logits

  def __call__(self, images: Any) -> np.ndarray:
    """Computes logits; the first call with each number of images compiles.

    Args:
      images: Pixels `[B, H, W, C]` or `[H, W, C]`, uint8. Gray ones may lack C.

    Returns:
      Shape `[B, classes]`, float32; B is 1 for a single image.

    Raises:
      ValueError: If the images have another type or size.
    """
    images, shape = np.asarray(images), self.space.image_shape
    given = images
    if shape[-1] == 1 and images.shape[-3:] != shape and images.shape[-2:] == shape[:2]:
      images = images[..., None]
    if images.dtype != np.uint8 or images.shape[-3:] != shape or images.ndim not in (3, 4):
      raise ValueError(
        f"images are {given.dtype} of shape {list(given.shape)}; expected are pixels 0..255, "
        f"uint8 {['B', *shape]}".replace("'", "")
      )
    return np.asarray(self._logits(self.variables, images.reshape(-1, *shape)))


def load(workdir: str | os.PathLike, checkpoint: int | str | None = None) -> Trained:
  """Loads a network that `experiments.train` trained.

  Args:
    workdir: The folder of the run, such as "runs/digits".
    checkpoint: Step of a kept checkpoint, or "best" for the most accurate one on the evaluated
      split. None: the last one, which the training tested.

  Raises:
    ValueError: If the folder holds no training, or a file of it cannot be read.
  """
  # Orbax is slow to import.
  from nas_submod.training import checkpoints

  folder = local_path(workdir) / FOLDER
  try:
    content = read_json(folder / CONFIG_FILE)
    config, architecture = content["config"], [int(option) for option in content["architecture"]]
    averages, sections = config["final"].get("average", 0) > 0, (config["space"], config["data"])
    if not all(isinstance(section, dict) for section in sections):
      raise TypeError
  except OSError as error:
    raise ValueError(
      f"there is no training in {workdir}: {folder / CONFIG_FILE} cannot be read "
      f"({error.strerror}); experiments.train makes it"
    ) from error
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise ValueError(f"{folder / CONFIG_FILE} is damaged, or not that of a training") from error
  space = spaces.from_config(config["space"])
  network = networks.build(space, architecture)
  facts = _facts(folder, space)
  saved = checkpoints.read(folder / "checkpoints", network, averages, checkpoint)
  return Trained(
    space=space,
    architecture=space.check(architecture),
    variables=saved.variables,
    step=saved.step,
    scores=saved.scores,
    config=config,
    **facts,
  )


def data_facts(data: Any) -> dict[str, Any]:
  """The content of the file `data.json`: the facts about a `Data` that its network needs."""
  from nas_submod.data import stream

  streamed = isinstance(data.train.images, stream.Images)
  return {
    "mean": np.asarray(data.mean).tolist(),
    "std": np.asarray(data.std).tolist(),
    "classes": list(data.class_names),
    "border": (1 - stream.CENTRE) / 2 if streamed else 0.0,
    "images": {name: len(getattr(data, name).labels) for name in ("train", "validation", "test")},
  }


def _facts(folder: pathlib.Path, space: SearchSpace) -> dict[str, Any]:
  """The fields of `Trained` that come from the data."""
  try:
    facts = read_json(folder / DATA_FILE)
  except (OSError, ValueError) as error:
    state = "damaged" if (folder / DATA_FILE).exists() else "missing"
    raise ValueError(f"{folder / DATA_FILE} is {state}") from error
  try:
    fields = {
      "mean": np.array(facts["mean"], np.float32),
      "std": np.array(facts["std"], np.float32),
      "classes": tuple(map(str, facts["classes"])),
      "border": float(facts["border"]),
      "origin": facts,
    }
  except (KeyError, TypeError, ValueError) as error:
    raise ValueError(f"{folder / DATA_FILE} is damaged") from error
  mean, std, channels = fields["mean"], fields["std"], space.image_shape[-1]
  if (
    not mean.shape == std.shape == (channels,)
    or not (np.isfinite(mean) & np.isfinite(std) & (std > 0)).all()
    or len(fields["classes"]) != space.classes
  ):
    raise ValueError(
      f"{folder / DATA_FILE} does not fit space {space.name}: {channels} "
      f"finite means, {channels} positive standard deviations and {space.classes} classes are "
      "expected"
    )
  return fields
