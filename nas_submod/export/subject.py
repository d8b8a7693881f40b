"""What is exported, and the facts about it for the files and the card."""

import dataclasses
import json
import platform
from collections.abc import Mapping, Sequence
from typing import Any

from nas_submod import origin
from nas_submod.data.loading import Data
from nas_submod.trained import Trained

_PACKAGES = (
  "nas-submod",
  "jax",
  "numpy",
  "onnx",
  "onnxruntime",
  "ai-edge-litert",
  "ai-edge-quantizer",
  "tflite-micro",
  "flatbuffers",
)


@dataclasses.dataclass(frozen=True)
class Subject:
  """What is exported, with facts for its card.

  Attributes:
    network: The network; its `step` is 0 if it is not trained.
    data: Its data; if None, nothing is checked on images.
    no_data: Why there are no data.
    resources: Costs of the network, by resource.
    units: The unit of each resource.
    settings: `config.resources`: how the costs were counted.
    budget: The limits that the search kept; empty without a search.
    commands: The commands that made it.
  """

  network: Trained
  data: Data | None
  no_data: str
  resources: Mapping[str, int | float]
  units: Mapping[str, str]
  settings: Mapping[str, Any]
  budget: Mapping[str, int | float]
  commands: Sequence[str]


def metadata(subject: Subject) -> dict[str, str]:
  """The facts that every file holds, as text; numbers and lists are JSON."""
  facts = network_facts(subject)
  facts |= {"resources": dict(subject.resources), "budget": dict(subject.budget)}
  facts["input"] = "(pixels 0..255 - mean) / std, by channel"
  facts["nas_submod"] = versions()["nas-submod"]
  return {name: fact if isinstance(fact, str) else json.dumps(fact) for name, fact in facts.items()}


def network_facts(subject: Subject) -> dict[str, Any]:
  """Facts about a network, for the files and the card."""
  network = subject.network
  return {
    "space": network.space.name,
    "architecture": network.space.text(network.architecture),
    "image_shape": list(network.space.image_shape),
    "mean": network.mean.tolist(),
    "std": network.std.tolist(),
    "border": network.border,
    "classes": list(network.classes),
    "seed": network.config["seed"],
    "steps": network.step,
  }


def data_of_card(network: Trained) -> dict[str, Any]:
  """Facts about the data, for the card."""
  validation = " and validation" if network.config["final"]["evaluate_on"] == "test" else ""
  return {
    "source": network.config["data"]["source"],
    "images": network.origin.get("images", {}),
    "trained_on": f"training{validation} images" if network.step else "",
  }


def versions() -> dict[str, str]:
  """Versions of the packages used, and the machine."""
  found = {"python": platform.python_version(), **origin.versions(_PACKAGES)}
  return found | {"machine": f"{platform.system()} {platform.machine()}"}
