"""Published architectures by name, and the reader of architectures on the command line."""

import os
import pathlib
import re
from collections.abc import Mapping

from nas_submod.files import local_path, read_json
from nas_submod.networks.search_space import SearchSpace
from nas_submod.validation import located

# The baseline of the paper: stages of 2, 3, 4, 3, 3 and 1 blocks.
_MOBILENET_V2 = "e6 e6 | e6 e6 e6 | e6 e6 e6 e6 | e6 e6 e6 | e6 e6 e6 | e6"

# By name of the space. From Xiong et al. 2019: "rcnet" is in Table 2 (CIFAR-100) and Table 3
# (ImageNet), "rcnet_b" in Table 3. "rcnet_adapted" is CIFAR-100's network moved to ImageNet, from
# Table 5 of the supplement. "resnet8" is the image classifier of MLPerf Tiny (Banbury et al. 2021).
# "by_hand" was designed without a search, within the parameters, multiply-adds and "int8" memory of
# resnet8.
ARCHITECTURES: Mapping[str, Mapping[str, str]] = {
  "rcnet_cifar100": {
    "rcnet": "e6 e6g2p2 e3 e3 | e6 e3p2 e6g2p2 e6g2p2 e6 | e6 e6g2p2 e6g2p2 e12g2p4"
    " | e3 e12g2p4 e6p2 e12g2p4 | e6 e6p2 e12g2p4 e6p2 e3 | .",
    "mobilenet_v2": _MOBILENET_V2,
  },
  "rcnet_imagenet": {
    "rcnet": "e6 e3 e6p2 | e6 e3 | e6 e3p2 e6p2 | e3 e12g2p4 e6p2 e12g2p4"
    " | e6 e6g2p2 e6g2p2 e12g2p4 e6g2p2 | e12g2p4",
    "rcnet_b": "e6 e6g2p2 e6 e3 | e6 e3p2 e6 e6g2p2 e6g2p2 e6 | e6 e6 e6g2p2 e6 e6 e12g2p4"
    " | e6 e3 e6 e6 e6p2 e6 | e6 e6p2 e6 e6 e6p2 e6 | . e6",
    "rcnet_adapted": "e6 e6g2p2 e3 e3 e3 e6 | e6 e3p2 e6g2p2 e6g2p2 e6"
    " | e6 e6g2p2 e6g2p2 e12g2p4 | e3 e12g2p4 e6p2 e12g2p4 | e6 e6p2 e12g2p4 e6p2 e3 | e12g2p4",
    "mobilenet_v2": _MOBILENET_V2,
  },
  "mlperf_tiny": {
    "resnet8": "res | . | res | . | res",
    "by_hand": "ds | e2 e3 e3 e3 e3 e3 | . | e3 e4 e4 e4 | .",
  },
}


def read(space: SearchSpace, text: str) -> tuple[int, ...]:
  """Reads an architecture from text.

  Args:
    space: The space.
    text: The path of a result.json or of the folder with it, a name in ARCHITECTURES, numbers such
      as "5,3,0,0,...", or a line of `SearchSpace.text`.

  Returns:
    An option for every position.

  Raises:
    ValueError: If the text is none of these, or the architecture does not belong to the space.
  """
  if text.endswith(".json"):
    return _from_file(space, local_path(text))
  named = ARCHITECTURES.get(space.name, {})
  if text in named:
    return space.parse(named[text])
  if re.fullmatch(r"[\d\s,\[\]()]+", text):
    return space.check([int(number) for number in re.findall(r"\d+", text)])
  # Unlike pathlib, os.path is False for a name that no file may have.
  if text and os.path.isfile(result := os.path.join(text, "result.json")):
    return _from_file(space, pathlib.Path(result))
  if "|" not in text and len(space.stages) > 1:
    raise ValueError(
      f"unknown architecture {text!r}; allowed: {', '.join([*named, 'a result.json'])}, "
      f"{space.positions} numbers, or a line such as {space.text(space.start)!r}"
    )
  return space.parse(text)


def _from_file(space: SearchSpace, path: pathlib.Path) -> tuple[int, ...]:
  """The network of a result.json; its options must have the names that they have in the space."""
  if not path.is_file():
    raise ValueError(f"there is no {path}: run experiments.search first")
  content = read_json(path)
  if not isinstance(content, dict) or not isinstance(content.get("architecture"), list):
    raise ValueError(f"{path} is not a result.json of a search: it has no architecture")
  with located(str(path)):
    architecture = space.check(content["architecture"])
    line = content.get("text")
    if isinstance(line, str) and space.key(space.parse(line)) != space.key(architecture):
      raise ValueError(
        f"its network is {line}, but its numbers are {space.text(architecture)} in space "
        f"{space.name}: take the config of its search"
      )
  return architecture
