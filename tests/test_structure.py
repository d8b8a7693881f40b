"""Imports go one way: lower packages know nothing of higher ones, and no module hides another."""

import ast
import importlib
import pathlib
import pkgutil
import types

import pytest

import nas_submod

ROOT = pathlib.Path(__file__).parent.parent
CODE = "nas_submod", "experiments", "benchmarks", "configs", "examples"

# From the ground up. A package may import packages of lower rows, and its own modules.
FLOORS = (
  (
    "allocation",
    "compilation",
    "equal_sets",
    "fields",
    "files",
    "origin",
    "parallel",
    "precision",
    "preemption",
    "validation",
  ),
  ("problem", "networks", "data"),
  ("set_functions", "resources"),
  ("optimizers", "training", "identity"),
  ("workdir",),
  ("evaluation", "trained"),
  ("search",),
  ("report", "export"),
)
# The optimizers know sets, not networks.
SETS_ALONE = ("equal_sets", "problem", "set_functions", "optimizers")
NO_SETS = (
  "networks",
  "resources",
  "data",
  "training",
  "evaluation",
  "search",
  "report",
  "export",
  "trained",
)


def modules():
  """Every module of the package with the modules of the package that it imports."""
  found = {}
  for path in sorted((ROOT / "nas_submod").rglob("*.py")):
    parts = path.relative_to(ROOT).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    found[name] = path
  return {name: imports(path, found) - {name} for name, path in found.items()}


def imports(path, known):
  named = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      named |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom) and node.module:
      inside = {f"{node.module}.{alias.name}" for alias in node.names}
      named |= {name if name in known else node.module for name in inside}
  return named & set(known)


IMPORTS = modules()


def package_of(module):
  return module.split(".")[1] if "." in module else ""


def test_every_package_has_a_floor():
  listed = [package for floor in FLOORS for package in floor]
  assert len(listed) == len(set(listed))
  assert {package_of(module) for module in IMPORTS} - {""} == set(listed)


def test_imports_go_down():
  floor_of = {package: number for number, floor in enumerate(FLOORS) for package in floor}
  up = [
    (module, other)
    for module, others in IMPORTS.items()
    for other in others
    if package_of(module)
    and package_of(module) != package_of(other)
    and not floor_of[package_of(other)] < floor_of[package_of(module)]
  ]
  within_ground = [pair for pair in up if set(map(package_of, pair)) <= set(FLOORS[0])]
  assert not set(up) - set(within_ground)


def test_no_modules_import_each_other_in_a_circle():
  rest = {module: set(others) for module, others in IMPORTS.items()}
  while ready := [module for module, others in rest.items() if not others]:
    for module in ready:
      del rest[module]
    for others in rest.values():
      others.difference_update(ready)
  assert not rest


@pytest.mark.parametrize("package", SETS_ALONE)
def test_sets_know_nothing_of_networks_data_or_training(package):
  wrong = {
    (module, other)
    for module, others in IMPORTS.items()
    for other in others
    if package_of(module) == package and package_of(other) in NO_SETS
  }
  assert not wrong


def test_text_files_have_an_encoding():
  """Without one they have that of the locale, which other machines do not share."""
  faults = []
  for path in [p for folder in CODE for p in (ROOT / folder).rglob("*.py")]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
      if not isinstance(node, ast.Call):
        continue
      name = getattr(node.func, "attr", getattr(node.func, "id", ""))
      of = getattr(getattr(node.func, "value", None), "id", "")
      modes = [a.value for a in node.args if isinstance(a, ast.Constant)]
      binary = any("b" in mode for mode in modes if isinstance(mode, str) and len(mode) < 4)
      opens = name == "open" and not binary and of not in ("Image", "kind", "os")
      if (opens or name in ("read_text", "write_text")) and "encoding" not in {
        keyword.arg for keyword in node.keywords
      }:
        faults.append(f"{path.relative_to(ROOT)}:{node.lineno}")
  assert not faults


def test_no_function_hides_a_module_of_the_same_name():
  for info in pkgutil.walk_packages(nas_submod.__path__, "nas_submod."):
    importlib.import_module(info.name)
    parent, _, name = info.name.rpartition(".")
    found = getattr(importlib.import_module(parent), name)
    assert isinstance(found, types.ModuleType), info.name
