"""What a user can rely on: an import does nothing else, and files are data, never code."""

import ast
import json
import os
import pathlib
import subprocess
import sys

from tests.test_structure import CODE, ROOT

IMPORTS = """
import json, sys, threading
import nas_submod
from jax._src import xla_bridge
print(json.dumps({
  "threads": threading.active_count(),
  "devices": xla_bridge.backends_are_initialized(),
  "modules": sorted({name.partition(".")[0] for name in sys.modules}),
}))
"""


def test_an_import_loads_no_large_packages_and_leaves_nothing(tmp_path):
  environment = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_"))}
  done = subprocess.run(
    [sys.executable, "-c", IMPORTS],
    cwd=tmp_path,
    env=environment | {"HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
    capture_output=True,
    text=True,
    check=True,
  )
  assert done.stderr == ""
  found = json.loads(done.stdout)
  assert (found["threads"], found["devices"]) == (1, False)
  large = {"flax", "scipy", "sklearn", "PIL", "rich", "orbax", "grain", "tensorflow_datasets"}
  large |= {"tensorboardX", "onnx", "onnxruntime", "ai_edge_litert"}
  assert not large & set(found["modules"])
  assert not list(tmp_path.iterdir())


# Modules that run code which a file holds, and functions that read pickled objects.
_MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
_CALLS = {"eval", "exec", "load_pickle", "read_pickle", "unsafe_load"}


def faults_of(path: pathlib.Path) -> list[str]:
  found = []
  for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
    names = []
    if isinstance(node, ast.Import):
      names = [alias.name.split(".")[0] for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      names = [(node.module or "").split(".")[0]]
    wrong = bool(_MODULES & set(names))
    if isinstance(node, ast.Call):
      wrong |= isinstance(node.func, ast.Name) and node.func.id in _CALLS
      wrong |= isinstance(node.func, ast.Attribute) and node.func.attr in _CALLS - {"eval"}
      wrong |= any(
        k.arg == "allow_pickle" and getattr(k.value, "value", True) is not False
        for k in node.keywords
      )
    if wrong:
      found.append(f"{path.name}:{node.lineno}")
  return found


def test_nothing_is_unpickled():
  paths = [path for folder in CODE for path in (ROOT / folder).rglob("*.py")]
  assert len(paths) > 100
  assert [fault for path in paths for fault in faults_of(path)] == []


def test_what_unpickles_would_be_found(tmp_path):
  (tmp_path / "bad.py").write_text(
    "import pickle\nfrom joblib import load\nnp.load(f, allow_pickle=True)\neval(x)\n"
    "np.load(f, allow_pickle=False)\njax.eval_shape(f)\n"
  )
  assert faults_of(tmp_path / "bad.py") == [f"bad.py:{line}" for line in (1, 2, 3, 4)]
