"""Finds and loads the config file of a command line, and describes a fault of it in one line."""

import ast
import contextlib
import importlib.util
import inspect
import json
import pathlib
import re
import traceback
import types
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from nas_submod.files import local_path
from nas_submod.validation import did_you_mean, first_line

DEFAULT = "configs/digits.py"
_INSTALLED = pathlib.Path(__file__).parent.parent  # the folder with the package `configs`
_FORM = "get_config() that returns an ml_collections.ConfigDict, as in configs/own_data.py"


def arguments(argv: list[str]) -> list[str]:
  """The arguments with one `--config` in front: the last one given, with the path of its file.

  Files of `--flagfile` are read. Dictionaries may be written as JSON.

  Raises:
    ValueError: If there is no such file.
  """
  given, rest = DEFAULT, []
  left = iter(flags.FLAGS.read_flags_from_files(argv[1:], force_gnu=False))
  for argument in left:
    if re.fullmatch("--?config", argument):
      given = next(left, "")
    elif found := re.match("--?config=", argument):
      given = argument[found.end() :]
    else:
      rest.append(_as_python(argument))
  path, *mode = given.split(":", 1) if "://" not in given else [given]
  return [argv[0], "--config=" + ":".join([str(find(path)), *mode]), *rest]


def without_unset(argv: list[str]) -> tuple[list[str], list[str]]:
  """Takes `--config.FIELD=None` out of the arguments: (the others, the fields as dotted names).

  If a later argument sets the field, or a section that it is in, that argument counts.
  """
  others: list[str] = []
  unset: list[str] = []
  left = list(argv)
  while left:
    words = [left.pop(0)]
    flag = re.fullmatch(r"--?(no)?config\.([\w.]+)(=.*)?", words[0], re.DOTALL)
    if flag and not flag[1] and not flag[3] and left and not left[0].startswith("-"):
      words.append(left.pop(0))  # Its value is a word of its own.
    if flag:
      unset = [name for name in unset if not f"{name}.".startswith(f"{flag[2]}.")]
    if flag and "".join([flag[3] or "=", *words[1:]]) == "=None":
      unset.append(flag[2])
    else:
      others += words
  return others, unset


def unset(config: ConfigDict, name: str) -> None:
  """Sets the field of a dotted name to None, which ml_collections cannot read from a flag.

  Raises:
    KeyError: If there is no such field.
  """
  *sections, field = name.split(".")
  for section in (*sections, field):
    if not isinstance(config, ConfigDict) or section not in config:
      raise KeyError(name)
    place, config = config, config[section]
  with place.ignore_type():
    place[field] = None


def _as_python(argument: str) -> str:
  """Converts a flag with a JSON dictionary or list, such as with true, to Python's form."""
  found = re.match(r"(--?config\.[\w.]+=)([\[{].*)", argument, re.DOTALL)
  if found is None:
    return argument
  with contextlib.suppress(ValueError, SyntaxError):
    ast.literal_eval(found[2])
    return argument
  with contextlib.suppress(ValueError):
    return found[1] + repr(json.loads(found[2]))
  return argument


def find(path: str) -> pathlib.Path:
  """The config file of a path: relative to the working directory, or else an installed one.

  Raises:
    ValueError: If there is none.
  """
  here = local_path(path)
  if here.is_file():
    return here
  if not here.is_absolute() and (installed := _INSTALLED / here).is_file():
    return installed
  known = [str(file.relative_to(_INSTALLED)) for file in _INSTALLED.glob("configs/**/[a-z]*.py")]
  raise ValueError(f"there is no config file {path}{did_you_mean(path, known)}")


def share_installed_configs() -> None:
  """Lets config files import the installed ones, even if the working directory has a `configs`."""
  with contextlib.suppress(Exception):  # A user's package of this name may raise anything.
    configs: Any = importlib.import_module("configs")
    places, installed = list(getattr(configs, "__path__", ())), str(_INSTALLED / "configs")
    if installed not in places:
      configs.__path__ = [*places, installed]


def load_module(path: str) -> types.ModuleType:
  """The module of a config file."""
  spec = importlib.util.spec_from_file_location("config_module", path)
  if spec is None or spec.loader is None:
    raise ValueError("it is not a Python file")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def fault(given: str) -> str | None:
  """Describes what is wrong with a config file, `PATH` or `PATH:MODE`; None if nothing is."""
  path, *mode = given.split(":", 1)
  try:
    make = getattr(load_module(path), "get_config", None)
    if not callable(make):
      return f"{path} has no function get_config; expected: {_FORM}"
    try:
      inspect.signature(make).bind(*mode)
    except TypeError:
      return f"{path} takes {'no' if mode else 'a'} mode: --config={path}{'' if mode else ':MODE'}"
    config = make(*mode)
  except SyntaxError as error:
    return f"{error.filename} line {error.lineno}: {error.msg}"
  except Exception as error:  # A user's file may raise anything.
    return f"{_place(path, error)}: {_words(error)}"
  if not isinstance(config, ConfigDict):
    return f"{path}: get_config returns {type(config).__name__}; expected: {_FORM}"
  return None


def _place(path: str, error: Exception) -> str:
  """The path with the last line of the file that an error went through."""
  same = pathlib.Path(path).resolve()
  frames = traceback.extract_tb(error.__traceback__)
  lines = [frame.lineno for frame in frames if pathlib.Path(frame.filename).resolve() == same]
  return f"{path} line {lines[-1]}" if lines else path


def _words(error: Exception) -> str:
  says_all = type(error) in (ValueError, ImportError, ModuleNotFoundError)
  return first_line(error) if says_all else f"{type(error).__name__} {first_line(error)}"


def fields_named(given: str, name: str) -> list[str]:
  """The flags of the fields of a config file, which loads, whose dotted names end with a name."""
  path, *mode = given.split(":", 1)
  found: list[str] = []

  def visit(place: str, section: ConfigDict) -> None:
    for field, value in section.items():
      here = f"{place}.{field}"
      if here.endswith(f".{name}"):
        found.append(f"--{here}")
      if isinstance(value, ConfigDict):
        visit(here, value)

  visit("config", load_module(path).get_config(*mode))
  return found


def unknown_field(argv: list[str], given: str) -> str | None:
  """Describes the first flag without a field in a config file that loads; None if there is none."""
  path, *mode = given.split(":", 1)
  config = load_module(path).get_config(*mode)
  for argument in argv:
    flag = re.match(r"--?(?:no)?config\.([\w.]+)", argument)
    here, place = config, "config"
    for name in flag[1].split(".") if flag else ():
      if not isinstance(here, ConfigDict):
        return f"the config has no field {name}. {place} is a single value: --{place}=VALUE sets it"
      if name not in here:
        # Names of resources are alike without meaning the same: flops are no flash.
        hint = (place != "config.budget" and did_you_mean(name, here)) or "."
        fields = f"has {', '.join(here)}" if here else f"has no fields: --{place}=VALUE sets it"
        own = "; a resource of your own is added in the config file" * (place == "config.resources")
        return f"the config has no field {name}{hint} {place} {fields}{own}"
      here, place = here[name], f"{place}.{name}"
  return None
