"""setup.py declares every package that the code imports."""

import ast
import importlib.metadata
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent
FOLDERS = ("nas_submod", "experiments", "configs")


def normalized(name):
  """The name of a distribution as PyPI compares it."""
  return re.sub(r"[-_.]+", "-", name).lower()


def requirements():
  """What setup.py declares: `install_requires`, and the extras by name."""
  tree = ast.parse((ROOT / "setup.py").read_text())
  constants, found = {}, {}
  for node in tree.body:
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.List):
      constants[node.targets[0].id] = ast.literal_eval(node.value)
  for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
    for keyword in call.keywords:
      if keyword.arg in ("install_requires", "extras_require"):
        source = compile(ast.Expression(keyword.value), "setup.py", "eval")
        found[keyword.arg] = eval(source, constants)
  return found["install_requires"], found["extras_require"]


def distributions(needed):
  return {normalized(re.match(r"[\w.-]+", requirement)[0]) for requirement in needed}


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


def in_extras():
  """Distributions that only export needs."""
  _, extras = requirements()
  return distributions([*extras["export"], *extras["tflite"]])


def test_every_import_is_declared():
  known = importlib.metadata.packages_distributions()
  modules = imported()
  assert {"jax", "numpy", "orbax"} <= set(modules)
  declared = distributions(requirements()[0])
  missing = {
    module: files
    for module, files in modules.items()
    if not declared & {normalized(name) for name in known.get(module, [module])}
  }
  # Packages of the extras are imported by export alone, and inside functions, see below.
  assert set(missing) <= {"onnxruntime"}


def test_packages_of_the_extras_are_named_by_export_alone():
  """Export imports them by `package("onnx", extra)`, which says how to install a missing one."""
  extras = in_extras()
  assert {"onnx", "onnxruntime", "ai-edge-litert", "tflite-micro", "flatbuffers"} <= extras
  pattern = re.compile(r'\bpackage\(\s*"([\w.]+)"')
  named = set()
  for path in (ROOT / "nas_submod").rglob("*.py"):
    found = pattern.findall(path.read_text())
    assert not found or path.parent.name == "export", path
    named |= {normalized(name.partition(".")[0]) for name in found}
  assert named and named <= extras


def test_tests_bring_what_export_needs():
  _, extras = requirements()
  assert in_extras() <= distributions(extras["test"])


def test_nothing_but_export_loads_a_package_of_the_extras():
  code = """
import sys, experiments.search, experiments.train
extras = {"onnx", "onnxruntime", "ai_edge_litert", "ai_edge_quantizer", "tflite_micro"}
assert not extras & {name.partition(".")[0] for name in sys.modules}
"""
  subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=100)
