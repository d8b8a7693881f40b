"""Inputs that decide a result in addition to the config, such as the files it names."""

import ast
import json
import pathlib
import sys
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from nas_submod import identity, parallel, resources
from nas_submod.data import fingerprint
from nas_submod.data.loading import Data
from nas_submod.files import fingerprint as hash_of
from nas_submod.networks.search_space import SearchSpace
from nas_submod.search.setup import Setup
from nas_submod.workdir import plain_of


class Identity(NamedTuple):
  """What decides the values of a search.

  Attributes:
    config: The plain config.
    named: Fingerprints of its other inputs by name, see `of_search`.
    made_by: Fingerprint of both, which the lines of a journal carry.
  """

  config: identity.Plain
  named: dict[str, str]
  made_by: str


def identity_of(setup: Setup) -> Identity:
  """What decides the values of a search; reads all its images."""
  config, named = plain_of(ConfigDict(setup.config).to_dict()), of_search(setup)
  return Identity(config, named, identity.fingerprint_of(identity.of_evaluations(config), named))


def of_search(setup: Setup) -> dict[str, str]:
  """The inputs of a search, see `inputs_of`; test images are not among them."""
  splits = ("train", "validation")
  return inputs_of(setup.config, setup.data, splits, setup.space, setup.resources, setup.budget)


def inputs_of(
  config: Mapping[str, Any],
  data: Data,
  splits: tuple[str, ...],
  space: SearchSpace,
  table: resources.Resources | None = None,
  budget: Mapping[str, Any] | None = None,
) -> dict[str, str]:
  """Fingerprints of the inputs of a config, by name.

  Args:
    config: The config.
    data: Its images.
    splits: Splits that count, see `data.fingerprint.of_splits`.
    space: Its space, for the latencies of the parts.
    table: Its resources, if they count.
    budget: Its budgets by resource.

  Returns:
    Fingerprints of the images and labels of the splits, of latencies, and of the user's modules
    that the config names, but not of modules that these import. Also the precision of matrix
    products, if it is set in JAX.
  """
  found = fingerprint.of_splits(data, splits)
  if precision := jax.config.values["jax_default_matmul_precision"]:
    found["matrix products"] = str(precision)
  given = dict(config.get("resources") or {}) if table is not None else {}
  if table is not None and "latency_ms" in (budget or {}):
    costs = table["latency_ms"].table
    assert costs is not None
    parts = [np.ascontiguousarray(part) for part in costs(space).parts]
    found[f"{identity.OF_COSTS}latencies of the table"] = hash_of(
      *(part.tobytes() for part in parts)
    )
  options = (config.get("space") or {}).get("options") or ()
  named = [option.get("block") for option in options if hasattr(option, "get")]
  return found | _codes(named) | _codes(given.values(), identity.OF_COSTS)


def check_same_everywhere(named: Mapping[str, str]) -> None:
  """Checks that every process has the same inputs as process 0: each host reads its own copy.

  Raises:
    ValueError: On all processes, if one has different inputs.
  """
  first: dict[str, str] = json.loads(parallel.broadcast(json.dumps(named).encode()))

  def compare() -> None:
    for name in {**first, **named}:
      if first.get(name) != named.get(name):
        raise ValueError(
          f"{name} on process {jax.process_index()} are {named.get(name)}, on process 0 "
          f"{first.get(name)}: copy the same data to every host"
        )

  parallel.on_all_processes(compare)


def _codes(names: Iterable[Any], kind: str = "") -> dict[str, str]:
  """Fingerprints of the modules in names like `module:function`; skips other names."""
  found = {}
  for name in names:
    module = name.partition(":")[0] if isinstance(name, str) and ":" in name else ""
    if code := _code(module):
      found[f"{kind}code of {module}"] = code
  return found


def _code(module: str) -> str:
  """The fingerprint of a module's code without comments; "" if there is no source to read."""
  path = getattr(sys.modules.get(module), "__file__", None)
  try:
    return hash_of(ast.dump(ast.parse(pathlib.Path(path or "").read_bytes())).encode())
  except (OSError, SyntaxError, ValueError):
    return ""
