"""Bad inputs: each ends with one line that says what was wrong, where, and what is allowed."""

import json
import pathlib

import numpy as np
import pytest
from ml_collections import ConfigDict

from experiments import config_file
from nas_submod import data, files, resources, search, workdir
from nas_submod.evaluation.journal import Journal
from nas_submod.networks import architectures, spaces
from nas_submod.networks.parts import parts
from nas_submod.report import finished
from tests import tiny_config, tiny_data

ROOT = pathlib.Path(__file__).parent.parent

TINY = spaces.from_config(tiny_config.get_config().space)
NAN, INF = float("nan"), float("inf")
EXAMPLE = "examples.new_optimizer:simulated_annealing"
PARTS = [part.name for part in parts(TINY)]


def config(changes, folder):
  """The tiny config with other fields; `FOLDER` is a folder with files of the user."""
  found = tiny_config.get_config().to_dict()
  for name, value in changes.items():
    *sections, field = name.split(".")
    section = found
    for part in sections:
      section = section[part]
    section[field] = value.replace("FOLDER", str(folder)) if isinstance(value, str) else value
  search.make_setup(ConfigDict(found))


def config_code(code, folder, mode=""):
  (folder / "mine.py").write_text(code)
  if fault := config_file.fault(f"{folder / 'mine.py'}{mode}"):
    raise ValueError(fault)


def config_code_of_a_mode(code, folder):
  config_code(code, folder, ":smoke")


def flag(argument, folder):
  config_file.arguments(["search", argument])


def architecture(text, folder):
  (folder / "empty.json").write_text("{}")
  (folder / "damaged.json").write_text("[1")
  architectures.read(TINY, text.replace("FOLDER", str(folder)))


def table(text, folder):
  """A latency table; `PARTS` are all parts, of 0.5 ms each."""
  rows_of_parts = "\n".join(f"{name},0.5" for name in PARTS)
  (folder / "table.csv").write_text(text.replace("PARTS", rows_of_parts))
  resources.from_config({"latency": str(folder / "table.csv")})["latency_ms"].table(TINY)


def journal(line, folder):
  (folder / "evaluations.jsonl").write_bytes(line + b"\n")
  Journal(folder / "evaluations.jsonl", "a1", lambda evaluation: TINY.from_key(evaluation.key))


def arrays(changes, folder):
  source = tiny_data.save(folder, **changes)
  data.load(tiny_data.config(source))


def path(text, folder):
  files.local_path(text)


def finished_search(content, folder):
  """A workdir with files of these contents."""
  for name, text in content.items():
    (folder / name).write_text(text)
  finished.read(folder)


def own_workdir(content, folder):
  for name, text in content.items():
    (folder / name).write_text(text)
  workdir.make_workdir(folder, {"seed": 1}, inputs={"validation images": "1"})


def line(**changes):
  row = {"key": "0.0|1.0", "replicate": 0, "metrics": {"loss": 1.0}, "seconds": 1, "made_by": "a1"}
  return json.dumps(row | changes).encode()


SEARCH = '{"space": {}, "search": {}, "seed": 0, "data": {}, "train": {}}'
TINY_SEARCH = SEARCH.replace('"space": {}', '"space": {"name": "mlperf_tiny"}')
RESULT = json.loads((ROOT / "docs/mlperf_tiny/result.json").read_text())


def result_with(**changes):
  return json.dumps(RESULT | changes)


BAD = [
  # Fields that are unknown or missing.
  (config, {"serach": 3}, 'unknown field config.serach. Did you mean "search"? Allowed: '),
  (config, {"search.max_evaluation": 3}, 'max_evaluation. Did you mean "max_evaluations"?'),
  (config, {"train.learningrate": 3}, 'config.train.learningrate. Did you mean "learning_rate"?'),
  (config, {"final.evaluateon": 3}, 'config.final.evaluateon. Did you mean "evaluate_on"?'),
  (config, {"data.validation": 3}, 'config.data.validation. Did you mean "validation_size"?'),
  (config, {"evaluation.methods": 3}, 'config.evaluation.methods. Did you mean "method"?'),
  (config, {"evaluation.store.steps_a_call": 3}, 'steps_a_call. Did you mean "steps_per_call"?'),
  (config, {"train.batch_size": None}, "config.train lacks batch_size; configs/digits.py has"),
  (config, {"search.finalists": None}, "config.search lacks finalists; configs/digits.py has"),
  (config, {"data.source": None}, "config.data lacks source; configs/digits.py has"),
  (config, {"seed": None}, "config lacks seed; configs/digits.py has"),
  (config, {"search": None}, "config lacks search; configs/digits.py has"),
  (config, {"search": {}}, "config.search lacks optimizer, options, max_evaluations"),
  # Values, of which test_fields.py has every field.
  (config, {"seed": -1}, "config.seed is -1; allowed: whole numbers from 0 to 2**32 - 1"),
  (config, {"search.time_limit": -1.0}, "time_limit is -1.0; allowed: numbers from 0"),
  (config, {"train.flip": {"a": {"b": 1}}}, "flip is {'a': {'b': 1}}; allowed: True or False"),
  (config, {"train.schedule": "linear"}, "config.train.schedule is 'linear'; allowed: multistep"),
  (config, {"score": "f1"}, "allowed: accuracy, negative_loss, negative_train_loss"),
  (config, {"train.batch_size": 5000}, "batch_size 5000 is not possible"),
  (config, {"train.epochs": 2.0}, "set exactly one"),
  (config, {"train.crop_padding": 9}, "config.train.crop_padding is 9; allowed: 0 to 8"),
  (config, {"train.warmup_steps": 12}, "config.train: warmup_steps is 12; allowed: 0 (off) to be"),
  # Budgets and resources.
  (config, {"budget": {}}, "config.budget is empty; allowed: params, madds, flash, memory"),
  (config, {"budget.params": 10.0}, "is over budget: params"),
  (config, {"budget.madds": 0.0}, "config.budget.madds is 0.0; allowed are positive numbers"),
  (config, {"budget.joules": 3.0}, "unknown resource 'joules' in config.budget; allowed: params"),
  (config, {"budget.latency_ms": 3.0}, "config.budget.latency_ms needs a table of latencies"),
  (config, {"resources.params": "all"}, "config.resources.params is 'all'; allowed: learned"),
  (config, {"resources.madds": "x:y"}, "config.resources.madds cannot be set; allowed: params"),
  (config, {"resources.mine": "energy"}, "unknown resource 'energy'; allowed: module:name"),
  (config, {"resources.latency": "FOLDER/no.csv"}, "there is no latency table /"),
  # Spaces.
  (config, {"space": {"name": "digts"}}, "own needs image_shape, classes"),
  (config, {"space": {"name": "digts"}}, 'digits, mlperf_tiny. Did you mean "digits"?'),
  (config, {"space.start": ". | e9"}, "unknown option 'e9'"),
  (config, {"space.start": "e2"}, "1 stages in 'e2'; the space has 2"),
  (config, {"space.stages": [[4, 2, 3]]}, "config.space.stages[0].stride is 3; allowed: whole"),
  (config, {"space.stages": [[4, 10**9]]}, "stages[0].positions is 1000000000; allowed: whole"),
  (config, {"space.stages": [[4, 2, 1, 1, 1, 1]]}, "stages[0] is [4, 2, 1, 1, 1, 1]; allowed: ch"),
  (config, {"space.stages": ["ab"]}, "config.space.stages[0] is 'ab'; allowed: channels, positio"),
  (config, {"space.stages": [{"channels": 4}]}, "config.space.stages[0] lacks positions"),
  (config, {"space.stages": [[4, 999]] * 9, "space.start": []}, "17,982 elements, 8,991 positions"),
  (config, {"space.start": [None]}, "space.start is [None]; allowed: text, or whole numbers from"),
  (config, {"space.options": [3]}, "config.space.options holds 3; allowed: dictionaries"),
  (config, {"space.options": [], "space.start": []}, "options need distinct one-word names"),
  (config, {"space.options": [{"name": 3}]}, "config.space.options[0].name is 3; allowed: text"),
  (config, {"space.options": [{"block": "conv"}]}, "unknown block 'conv'; allowed: inverted_resid"),
  (config, {"space.options": [{"expansion": 2}, {"expansion": 2}]}, "distinct one-word names"),
  (config, {"space.classes": 11}, "data have 10 classes, space tiny has 11"),
  (
    config,
    {"space.classes": 9, "space.image_shape": [9, 9, 1]},
    "set config.space.image_shape=(8, 8, 1) or config.data.image_size=9; data have 10 classes, "
    "space tiny has 9: set config.space.classes=10",
  ),
  (config, {"train.flip": 3, "train.momentum": 2}, "False; and config.train.momentum is 2; allow"),
  (config, {"data.image_size": 8_192}, "config.data.image_size is 8192, config.space.image_shape"),
  (config, {"space.image_shape": [9, 9, 1]}, "images are (8, 8, 1), space tiny takes (9, 9, 1)"),
  # Data.
  (config, {"data.validation_size": 3}, "validation_size=3 is not possible"),
  (config, {"data.train_size": 10**6}, "train_size=1000000"),
  (config, {"data.source": "npz:FOLDER/none.npz"}, "no file "),
  (config, {"data.source": "npz"}, 'source "npz" has no path: allowed are "digits"'),
  (config, {"data.source": "folder:FOLDER/none"}, "/none: folder:PATH takes PATH/train/CLASS/* or"),
  (config, {"data.source": "digitz"}, 'or "folder:PATH". Did you mean "digits"?'),
  (config, {"data.source": "cifr10"}, 'no source "cifr10": TFDS does not know it, and data_dir '),
  (config, {"data.source": "foldr:x"}, 'Did you mean "folder"?'),
  (
    config,
    {"data.stream": True},
    "config.data.stream=True needs config.data.image_size",
  ),
  (arrays, {"y_train": None}, "lacks y_train; it has x_train, x_test, y_test (expected"),
  (arrays, {"x_train": np.zeros((40, 5, 5, 3), np.float32)}, "whole numbers 0..255 are expected"),
  (arrays, {"x_train": np.zeros((40, 3, 32, 32), np.uint8)}, "save x.transpose(0, 2, 3, 1), of s"),
  (arrays, {"x_train": np.zeros((40,), np.uint8)}, "x_train has shape [40]: allowed are [N, H, W]"),
  (arrays, {"y_train": np.arange(39) % 4}, "x_train: 40 images, but labels of shape [39]; [40] is"),
  (arrays, {"y_train": np.full(40, 0.5)}, "y_train has fractions: class numbers from 0, or names"),
  (
    arrays,
    {"y_train": 1 + np.arange(40) % 4},
    "no image of class 0: each of 0 to 4 is expected; if",
  ),
  # Optimizers.
  (config, {"search.optimizer": "magic"}, "unknown optimizer 'magic'; allowed: rcas, greedy"),
  (config, {"search.optimizer": "rcsa"}, "'rcsa'. Did you mean \"rcas\"? Allowed: rcas, gree"),
  (config, {"search.optimizer": "no.module:magic"}, "no.module cannot be imported from the work"),
  (config, {"search.optimizer": "examples.new_optimizer:NAME"}, "allowed there: simulated_anneal"),
  (config, {"search.optimizer": "tests.tiny_config:get_config"}, "returned ConfigDict; allowed: a"),
  (config, {"search.optimizer": "stochastic_greedy"}, "'sample'"),
  (config, {"search.optimizer": "partial_enumeration"}, "'depth'"),
  *(
    (config, {"search.optimizer": name, "search.options": options, "budget.memory": 1e3}, words)
    for name, options, words in (
      (EXAMPLE, {"patience": 3}, "'patience'"),
      ("exchange", {"inner": "no.module:magic"}, "no.module cannot be imported"),
      ("exchange", {"inner": "magic"}, "unknown optimizer 'magic'"),
      ("exchange", {"inner": "rcas", "race": (1, 3)}, "cannot improve an inner optimizer that"),
      ("greedy", {"rule": "density:3"}, "the problem has 3 resources"),
      ("greedy", {"rule": "density:1"}, "resource 1 is no sum"),
      ("rcas", {"race": (3, 1)}, "race must be two or more increasing numbers"),
      ("rcas", {"rule": "unit"}, "config.search.options of rcas"),
      ("surrogate", {"evaluations": 0}, "evaluations must be"),
      ("surrogate", {"evaluations": "9"}, "evaluations must be a whole number, got '9'"),
    )
  ),
  # Config files and flags.
  (config_code, "x = 1\n", "has no function get_config; expected: get_config() that returns"),
  (config_code, "def get_config():\n  return {}\n", "get_config returns dict; expected: "),
  (config_code, "def get_config():\n  pass\n", "get_config returns NoneType; expected: "),
  (config_code_of_a_mode, "def get_config():\n  pass\n", "takes no mode: --config="),
  (config_code, "\ndef get_config(:\n", "line 2: invalid syntax"),
  (config_code, "\nimport no_such_module\n", "line 2: No module named 'no_such_module'"),
  (config_code, "def get_config():\n  return 1 / 0\n", "line 2: ZeroDivisionError division by"),
  (config_code, "def get_config():\n  raise ValueError('no\\nway')\n", "line 2: no"),
  (config_code, "def get_config(mode):\n  pass\n", "takes a mode: --config="),
  (config_code, "def get_config():\n  return None.x\n", "line 2: AttributeError 'NoneType'"),
  (flag, "--config=configs/digit.py", 'no config file configs/digit.py. Did you mean "configs/d'),
  (flag, "--config=gs://bucket/digits.py", "gs://bucket/digits.py is not on this machine; allowed"),
  (path, "s3://bucket/run", "s3://bucket/run is not on this machine; allowed: a path of its disk"),
  # Architectures.
  (architecture, "0,0,1", "architecture has 3 positions; space tiny has 4"),
  (architecture, "0,0,1,7", "unknown option 7 at position 3; space tiny has 0 (empty) to 2"),
  (architecture, "resnet", "unknown architecture 'resnet'; allowed: a result.json, 4 numbers, or"),
  (architecture, "e2 e2", "unknown architecture 'e2 e2'"),
  (architecture, "e2 | e2 | e2", "3 stages in 'e2 | e2 | e2'; the space has 2"),
  (architecture, "e2 e2 e2 | e2", "stage 1 has 2 positions, not 3"),
  (architecture, "e3 | e2", "unknown option 'e3'; allowed: ., e2, e4g2se"),
  (architecture, "e2 | .", "stage 2 is empty; networks of space tiny need a block there"),
  (architecture, "none.json", "there is no none.json: run experiments.search first"),
  (architecture, "FOLDER/empty.json", "empty.json is not a result.json of a search"),
  (architecture, "FOLDER/damaged.json", "damaged.json is damaged, it is no JSON"),
  (architecture, "99999999999999999999,0,0,0", "unknown option 99999999999999999999"),
  # Latency tables.
  (table, "", "has no rows"),
  (table, "part,milliseconds\n", "has no rows"),
  (table, "part;milliseconds\nstem;1\n", "columns are separated by semicolons or tabs"),
  (table, "part,part\nstem,1\n", "line 1: a column stands there twice"),
  (table, "part,milliseconds\nstem,1,2\n", "line 2: 3 values; allowed: 2, as the header has"),
  (table, "part,milliseconds\nstem,\n", "line 2: milliseconds is empty; allowed: a number"),
  (table, "part,milliseconds\nstem,-1\n", "line 2: milliseconds is '-1'; allowed: a number of at"),
  (table, "part,milliseconds\nstem,nan\n", "line 2: milliseconds is 'nan'; allowed: a number"),
  (table, "part,milliseconds\nstem,1\nstem,2\n", "line 3: 2.0 ms here, but 1.0 ms for the same in"),
  (table, "part,milliseconds\nstem,1\n", "lacks"),
  (table, "part,milliseconds\n,1\n", "is empty; allowed: the name of a part"),
  # Journals.
  (journal, b"{}", "line 1 is not an evaluation: it lacks key, replicate, metrics, seconds; dele"),
  (journal, b"\x80{}", "can't decode byte"),
  (journal, b"{", "Expecting property name"),
  (journal, b"\0\0\0}", "line 1 is not an evaluation"),
  (journal, b"[" * 100_000 + b"]", "line 1 is not an evaluation: its brackets are too deep; dele"),
  (journal, b"[1]", "it is no JSON object"),
  (journal, line(key=3), "key is 3; allowed: text"),
  (journal, line(key="9.9|9.9"), "unknown option 9"),
  (journal, line(key="x"), "line 1 is not an evaluation"),
  (journal, line(replicate=-3), "replicate is -3; allowed: whole numbers from -2"),
  (journal, line(metrics={"loss": "x"}), "metrics is {'loss': 'x'}; allowed: finite numbers"),
  (journal, line(metrics={"loss": NAN}), "metrics is {'loss': nan}; allowed: finite numbers"),
  (journal, line(seconds=-1), "seconds is -1; allowed: numbers from 0"),
  (journal, line(method="magic"), "method is 'magic'; allowed: training, shared_weights"),
  (journal, line(future=1), "it has the unknown field 'future' (did a newer version of nas_submod"),
  (journal, line(made_by="b2"), "line 1 was made by another config or other data (b2), this"),
  (journal, line(made_by=""), "line 1 was made by an older version"),
  # Workdirs.
  (own_workdir, {"config.json": ""}, "config.json is damaged, it is no JSON: Expecting value"),
  (own_workdir, {"config.json": "[]"}, "config.json is damaged, it is no JSON object"),
  (own_workdir, {"config.json": '{"seed": 2}'}, "seed is 2 there and 1 here; take another"),
  (own_workdir, {"config.json": '{"seed": 1}'}, "has no inputs.json, so its images are unknown"),
  (own_workdir, {"inputs.json": '{"validation images": "2"}'}, "images differ: 2 there, 1 here"),
  (finished_search, {}, "config.json cannot be read (No such file or directory): is "),
  (finished_search, {"config.json": "{}"}, "result.json cannot be read (No such file"),
  (finished_search, {"config.json": "{}", "result.json": "{"}, "result.json is damaged"),
  (finished_search, {"config.json": "{}", "result.json": "{}"}, "config.json has no space: it is"),
  (finished_search, {"config.json": SEARCH, "result.json": "{}"}, "result.json has no path: it is"),
  (finished_search, {"config.json": SEARCH, "result.json": "[]"}, "result.json is damaged, it"),
  (finished_search, {"config.json": "[]", "result.json": "{}"}, "config.json is damaged, it is no"),
  (
    finished_search,
    {"config.json": SEARCH, "result.json": result_with(budget={"params": "many"})},
    "result.json is damaged: budget.params is 'many'",
  ),
  (
    finished_search,
    {"config.json": TINY_SEARCH, "result.json": result_with(architecture=[9] * 22)},
    "result.json is damaged: unknown option 9 at position 0",
  ),
  (
    finished_search,
    {"config.json": SEARCH, "result.json": result_with(finalists=[])},
    "is damaged, it has no finalist",
  ),
  (
    finished_search,
    {"config.json": SEARCH, "result.json": result_with(seconds={"total": 1})},
    "result.json has no seconds.compile: it is not that of a search",
  ),
  (
    finished_search,
    {"config.json": SEARCH, "result.json": result_with(), "inputs.json": "[1]"},
    "inputs.json is damaged, it is no JSON object",
  ),
  (
    finished_search,
    {"config.json": SEARCH, "result.json": result_with(path=[{"run": "unit"}])},
    "result.json has no path[0].architecture: it is not",
  ),
  (
    finished_search,
    {"config.json": SEARCH, "result.json": result_with(value="high")},
    "result.json is damaged: value is 'high'",
  ),
]


@pytest.mark.parametrize(
  ("take", "given", "words"), BAD, ids=[f"{i}-{row[0].__name__}" for i, row in enumerate(BAD)]
)
def test_a_bad_input_is_refused_in_one_line(take, given, words, tmp_path):
  with pytest.raises(ValueError) as error:
    take(given, tmp_path)
  said = str(error.value)
  assert words in said and "\n" not in said and len(said) < 500 + len(str(tmp_path))
