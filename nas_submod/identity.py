"""The part of a config that decides a result.

A folder made with the same part may be continued; everything else may change. Files that the config
names also decide, see `search.inputs`.
"""

import json
from collections.abc import Mapping
from typing import Any

from nas_submod.files import fingerprint
from nas_submod.resources.settings import DEFAULTS

Plain = dict[str, Any]

# Increased when the same config and images give other values than before.
VERSION = 1
# Prefix of inputs that decide which networks fit the budgets, but not their values.
OF_COSTS = "costs: "
# The place of images does not identify them; their fingerprints do.
_PLACES = ("source", "data_dir", "stream")
# How often a program returns, and when files are written.
_INTERVALS = ("steps_per_call", "checkpoint_every", "log_every", "keep_checkpoints")


def of_evaluations(config: Mapping[str, Any]) -> Plain:
  """The part of a plain config that decides the values of evaluations.

  It excludes the search. It has budgets only if weights are shared, since these are trained for
  networks within the budgets.
  """
  config = with_defaults(config)
  evaluation = _section(config, "evaluation")
  part = {
    "evaluation": _without(evaluation, ("pool",)),
    "seed": config.get("seed"),
    "space": config.get("space"),
    "data": _without(_section(config, "data"), _PLACES),
    "train": _without(_section(config, "train"), _INTERVALS),
  }
  if len(evaluation) > 1:
    part |= {name: config.get(name) for name in ("budget", "resources")}
  return part


def of_training(content: Mapping[str, Any]) -> Plain:
  """The part of `{"config", "architecture"}` that decides the outcome of a final training."""
  config = with_defaults(_section(content, "config"))
  final = _section(config, "final")
  part = {
    "seed": config.get("seed"),
    "space": config.get("space"),
    # Streamed images have random crops.
    "data": _without(_section(config, "data"), _PLACES[:2]),
    "final": _without(final, _INTERVALS),
  }
  if final.get("from_shared_weights"):
    part |= {name: value for name, value in of_evaluations(config).items() if name != "data"}
  return {"config": part, "architecture": content.get("architecture")}


def with_defaults(config: Mapping[str, Any]) -> Plain:
  """A plain config with missing parts filled in, so that equivalent configs are equal.

  Resources get their defaults. Without shared weights, their settings are dropped. Missing fields
  of the store of shared weights come from `train`.
  """
  config = dict(config)
  if isinstance(inner := config.get("config"), Mapping):
    return config | {"config": with_defaults(inner)}
  given = _section(config, "resources")
  config["resources"] = DEFAULTS | {k: v for k, v in given.items() if v is not None}
  if "space" in config:
    config["space"] = _explicit(config["space"])
  evaluation = _section(config, "evaluation")
  guides = _section(_section(config, "search"), "options").get("features") == "shared_weights"
  if not guides and evaluation.get("method") in (None, "training"):
    return config | {"evaluation": {"method": "training"}}
  method = "training, guided by shared weights" if guides else evaluation["method"]
  of_train = _without(_section(config, "train"), ("steps", "epochs", *_INTERVALS))
  store = {k: v for k, v in _section(evaluation, "store").items() if v is not None}
  of_store = {"store": of_train | _without(store, _INTERVALS)}
  return config | {"evaluation": {"method": method} | evaluation | of_store | {"method": method}}


def fingerprint_of(settings: Plain, inputs: Mapping[str, str]) -> str:
  """A fingerprint of what decides a value."""
  values = {name: what for name, what in inputs.items() if not name.startswith(OF_COSTS)}
  content = json.dumps([VERSION, _canonical(settings), values], sort_keys=True)
  return fingerprint(content.encode())


def _explicit(content: Any) -> Any:
  """Plain content with zeros as text, so that `_canonical` keeps them.

  In a space, a missing field is not off: it is that of the known space, or a default.
  """
  if isinstance(content, Mapping):
    return {key: _explicit(value) for key, value in content.items() if value is not None}
  if isinstance(content, list | tuple):
    return [_explicit(value) for value in content]
  return content or str(content)


def _canonical(content: Any) -> Any:
  """Plain content without values that are off, and with whole numbers as ints."""
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
