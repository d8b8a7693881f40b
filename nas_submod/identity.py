"""What decides a result: of a config, and of the files that it names but does not hold.

A folder that was made with the same may be continued; everything else of a config may change.
"""

import ast
import json
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from nas_submod import resources
from nas_submod.data import fingerprint
from nas_submod.data.loading import Data
from nas_submod.files import fingerprint as digits_of
from nas_submod.networks.search_space import SearchSpace
from nas_submod.resources.settings import DEFAULTS

Plain = dict[str, Any]

# Where images lie says nothing of them; `inputs_of` does.
_PLACES = ("source", "data_dir", "stream")
# How often a program returns, and what is written when.
_RHYTHM = ("steps_per_call", "checkpoint_every", "log_every", "keep_checkpoints")


def of_evaluations(config: Mapping[str, Any]) -> Plain:
  """The part of a plain config that decides the values of evaluations.

  The search is no part of it, unless networks inherit weights: then the order of trainings counts.
  Budgets are none, unless weights are shared: those are of the networks within the budgets.
  """
  config = settled(config)
  train, search = _section(config, "train"), _section(config, "search")
  evaluation = _section(config, "evaluation")
  part = {
    "evaluation": _without(evaluation, ("pool",)),
    "seed": config.get("seed"),
    "space": config.get("space"),
    "data": _without(_section(config, "data"), _PLACES),
    "train": _without(train, _RHYTHM),
  }
  if train.get("inherit_steps"):
    names = ("optimizer", "options", "replicates")
    part |= {"search": {name: search.get(name) for name in names}, "score": config.get("score")}
  if train.get("inherit_steps") or len(evaluation) > 1:
    part |= {name: config.get(name) for name in ("budget", "resources")}
  return part


def of_training(content: Mapping[str, Any]) -> Plain:
  """The part of `{"config", "architecture"}` that decides the outcome of a final training."""
  config = settled(_section(content, "config"))
  final = _section(config, "final")
  part = {
    "seed": config.get("seed"),
    "space": config.get("space"),
    # Streamed images have random crops.
    "data": _without(_section(config, "data"), _PLACES[:2]),
    "final": _without(final, _RHYTHM),
  }
  if final.get("from_shared_weights"):
    part |= {name: value for name, value in of_evaluations(config).items() if name != "data"}
  return {"config": part, "architecture": content.get("architecture")}


def settled(config: Mapping[str, Any]) -> Plain:
  """A plain config with what its missing parts mean, so that equal ones are equal.

  Resources have their defaults. Without shared weights their settings say nothing. A field that the
  store of shared weights lacks is that of `train`.
  """
  config = dict(config)
  if isinstance(inner := config.get("config"), Mapping):
    return config | {"config": settled(inner)}
  config["resources"] = DEFAULTS | _section(config, "resources")
  evaluation = _section(config, "evaluation")
  guides = (_section(config, "search").get("options") or {}).get("features") == "shared_weights"
  if not guides and evaluation.get("method") in (None, "training"):
    return config | {"evaluation": {"method": "training"}}
  method = "training, guided by shared weights" if guides else evaluation["method"]
  of_train = _without(_section(config, "train"), ("steps", "epochs", *_RHYTHM))
  store = {k: v for k, v in _section(evaluation, "store").items() if v is not None}
  of_store = {"store": of_train | _without(store, _RHYTHM)}
  return config | {"evaluation": {"method": method} | evaluation | of_store | {"method": method}}


def inputs_of(
  config: Mapping[str, Any],
  data: Data,
  splits: tuple[str, ...],
  space: SearchSpace,
  table: resources.Table | None = None,
  budget: Mapping[str, Any] | None = None,
) -> dict[str, str]:
  """What tells the files that a config names from others, by what they are.

  Args:
    config: The config.
    data: Its images.
    splits: Those that count, see `data.fingerprint.of_splits`.
    space: Its space, for the latencies of its parts.
    table: Its resources, if they count.
    budget: Its budgets by resource.

  Returns:
    Images and labels of the splits, latencies, and code of the user's own, as far as the modules
    that the config names go: what those import is not followed. Also the precision of matrix
    products, if JAX has one set.
  """
  found = fingerprint.of_splits(data, splits)
  if precision := jax.config.values["jax_default_matmul_precision"]:
    found["matrix products"] = str(precision)
  given = dict(config.get("resources") or {}) if table is not None else {}
  if table is not None and "latency_ms" in (budget or {}):
    costs = table["latency_ms"].table
    assert costs is not None
    parts = [np.ascontiguousarray(part) for part in costs(space).parts]
    found["latencies of the table"] = digits_of(*(part.tobytes() for part in parts))
  options = (config.get("space") or {}).get("options") or ()
  named = [option.get("block") for option in options if hasattr(option, "get")]
  for name in [*named, *given.values()]:
    module = name.partition(":")[0] if isinstance(name, str) and ":" in name else ""
    if code := _code(module):
      found[f"code of {module}"] = code
  return found


def _code(module: str) -> str:
  """The fingerprint of a module's code without comments; "" if there is no source to read."""
  path = getattr(sys.modules.get(module), "__file__", None)
  try:
    return digits_of(ast.dump(ast.parse(pathlib.Path(path or "").read_bytes())).encode())
  except (OSError, SyntaxError, ValueError):
    return ""


def fingerprint_of(settings: Plain, inputs: Mapping[str, str]) -> str:
  """Twelve digits for what decides a value."""
  content = json.dumps([_canonical(settings), dict(inputs)], sort_keys=True)
  return digits_of(content.encode())


def _canonical(content: Any) -> Any:
  """Plain content in which what is off is left out, and whole numbers are ints."""
  if isinstance(content, Mapping):
    plain = {str(key): _canonical(value) for key, value in content.items()}
    return {key: value for key, value in plain.items() if value}
  if isinstance(content, list | tuple):
    return [_canonical(value) for value in content]
  is_whole = isinstance(content, float) and content.is_integer()
  return int(content) if is_whole or isinstance(content, bool) else content


def _section(config: Mapping[str, Any], name: str) -> Plain:
  found = config.get(name)
  return dict(found) if isinstance(found, Mapping) else {}


def _without(section: Plain, names: tuple[str, ...]) -> Plain:
  return {name: value for name, value in section.items() if name not in names}
