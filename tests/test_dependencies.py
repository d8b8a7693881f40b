"""setup.py declares every package that the code imports."""

import ast
import importlib.metadata
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).parent.parent
FOLDERS = ("nas_submod", "experiments", "configs")


def normalized(name):
  """The name of a distribution as PyPI compares it."""
  return re.sub(r"[-_.]+", "-", name).lower()


def declared():
  """The distributions in `install_requires`."""
  calls = [
    node
    for node in ast.walk(ast.parse((ROOT / "setup.py").read_text()))
    if isinstance(node, ast.Call)
  ]
  keywords = {keyword.arg: keyword.value for call in calls for keyword in call.keywords}
  requirements = ast.literal_eval(keywords["install_requires"])
  return {normalized(re.match(r"[\w.-]+", requirement)[0]) for requirement in requirements}


def imported():
  """Imports of other packages, also inside functions: module -> files."""
  found = {}
  for folder in FOLDERS:
    for path in (ROOT / folder).rglob("*.py"):
      for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
          names = [node.module]
        for name in names:
          found.setdefault(name.partition(".")[0], set()).add(str(path.relative_to(ROOT)))
  ours = {*sys.stdlib_module_names, *FOLDERS}
  return {module: files for module, files in found.items() if module not in ours}


def test_every_import_is_declared():
  distributions = importlib.metadata.packages_distributions()
  modules = imported()
  assert {"jax", "numpy", "orbax"} <= set(modules)
  missing = {
    module: files
    for module, files in modules.items()
    if not declared() & {normalized(name) for name in distributions.get(module, [module])}
  }
  assert not missing
