"""Export of a trained network: every file against the network, the card, the script, errors."""

import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from PIL import Image

import nas_submod
from nas_submod import data, resources
from nas_submod.data import pixels, stream
from nas_submod.export import deploy, file_costs, formats, verify
from tests import tiny_config

pytest.importorskip("onnxruntime", reason="needs .[export]")
pytest.importorskip("ai_edge_litert", reason="needs .[tflite]")
pytest.importorskip("ai_edge_quantizer", reason="needs .[tflite]")

CONFIG = "--config=tests/tiny_config.py"
ALL = ("onnx", "onnx_int8", "tflite", "tflite_int8", "stablehlo")


@pytest.fixture(scope="module", autouse=True)
def quick():
  """Latencies are not looked at here."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(deploy, "SWEEPS", 3)
    yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """The folder of a run: a training, and the result of the search that found the network."""
  folder = tmp_path_factory.mktemp("run")
  settings = {"epochs": 0, "steps": 300, "checkpoint_every": 150}
  flags = [f"--config.final.{name}={value}" for name, value in settings.items()]
  command = [sys.executable, "-m", "experiments.train", CONFIG, *flags, f"--workdir={folder}"]
  command += ["--architecture=e2 . | e2 e4g2se", "--cpu_devices=1"]
  done = subprocess.run(command, capture_output=True, text=True, timeout=200)
  assert done.returncode == 0, done.stderr
  metrics = json.loads((folder / "train" / "metrics.json").read_text())
  config = json.loads((folder / "train" / "config.json").read_text())["config"]
  (folder / "config.json").write_text(json.dumps(config))
  result = {
    "architecture": metrics["architecture"],
    "resources": {"params": 700, "latency_ms": 0.25},
    "budget": {"params": 1000, "latency_ms": 0.5},
  }
  (folder / "result.json").write_text(json.dumps(result))
  return folder, data.load(tiny_config.get_config().data), metrics


@pytest.fixture(scope="module")
def main():
  """The command; flags of benchmarks, of equal names, are put aside."""
  modules = flags.FLAGS.flags_by_module_dict().items()
  others = {f.name: f for name, found in modules if name.startswith("benchmarks") for f in found}
  flags.FLAGS.remove_flag_values(others)
  before = set(flags.FLAGS)
  from experiments import export

  yield export.main
  flags.FLAGS.remove_flag_values(set(flags.FLAGS) - before)
  for name, flag in others.items():
    flags.FLAGS[name] = flag


@pytest.fixture
def export(monkeypatch, capsys, main):
  """Runs the command in this process; returns its exit status and what it printed."""

  def call(*arguments, config=None):
    command = ["export", *map(str, arguments)]
    monkeypatch.setattr(sys, "argv", command)
    with flagsaver.flagsaver():
      flags.FLAGS([flag for flag in command if not flag.startswith("--config.")])
      try:
        main(config or tiny_config.get_config())
        status = 0
      except SystemExit as error:
        status = error.code
    printed = capsys.readouterr()
    return status, printed.out, printed.err

  return call


@pytest.fixture(scope="module")
def exported(run):
  """The content of export.json of all formats, by a command of its own."""
  folder = run[0]
  command = [sys.executable, "-m", "experiments.export", f"--workdir={folder}"]
  done = subprocess.run([*command, CONFIG], capture_output=True, text=True, timeout=200)
  assert done.returncode == 0, done.stderr
  return folder / "model", json.loads((folder / "model" / "export.json").read_text()), done.stdout


def test_every_format_is_written_and_right_on_all_test_images(run, exported):
  metrics = run[2]
  folder, content, _ = exported
  assert tuple(content["formats"]) == ALL
  assert content["accuracy"]["accuracy"] == metrics["test"]["accuracy"] > 0.3
  for name, facts in content["formats"].items():
    assert facts["bytes"] == (folder / facts["file"]).stat().st_size
    compared = facts["comparison"]
    assert compared["images"] == metrics["test"]["images"]
    assert compared["reference_accuracy"] == metrics["test"]["accuracy"]
    if "int8" in name:  # A network as small as this one loses up to two points.
      assert abs(compared["accuracy"] - metrics["test"]["accuracy"]) < 0.05
      assert compared["agreement"] > 0.9
      assert 1e-4 < compared["relative_difference"] < 0.3
    else:
      assert compared["accuracy"] == metrics["test"]["accuracy"] and compared["agreement"] == 1
      assert compared["relative_difference"] < 1e-5 and not facts["faults"]
    assert (facts["latency_ms"] is None) == (name == "stablehlo")
  learned = nas_submod.load(run[0])
  int8 = content["formats"]["tflite_int8"]
  assert int8["arena_bytes"] > 0 and int8["micro"]["agreement"] > 0.8
  assert int8["weight_bytes"] == content["resources"]["flash"]
  nodes = content["formats"]["onnx"]["nodes"]
  kernels = [k for k in _kernels(learned.variables.params) if k.ndim == 4]
  assert nodes["Conv"] == len(kernels) and "Transpose" not in nodes


def test_the_card_says_how_a_microcontroller_runs_the_file(exported):
  folder, content, _ = exported
  interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(
    str(folder / "model_int8.tflite")
  )
  ends = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
  (scale, zero), (of_logits, zero_of_logits) = (end["quantization"] for end in ends)
  facts = content["formats"]["tflite_int8"]
  assert facts["quantization"] == {
    "input": [pytest.approx(scale), zero],
    "output": [pytest.approx(of_logits), zero_of_logits],
  }
  card = (folder / "MODEL_CARD.md").read_text()
  assert f"resolver: {', '.join(sorted(facts['nodes']))}. Input: int8, `round(x / " in card
  sign = "+" if zero_of_logits <= 0 else "-"
  assert f"Logits: `(output {sign} {abs(zero_of_logits)}) * " in card
  assert f"Tensor arena: {facts['arena_bytes']:,} bytes" in card


def _kernels(params):
  if isinstance(params, dict):
    return [params["kernel"]] if "kernel" in params else []
  return [kernel for part in params for kernel in _kernels(part)]


def test_files_are_held_against_the_resources(run, exported):
  _, content, _ = exported
  found, space = content["measured"], nas_submod.load(run[0]).space
  table = resources.from_config({"params": "folded", "memory": "tflite_micro"})
  cost = resources.network_cost(space, nas_submod.load(run[0]).architecture, table)
  assert found["params"] == {"model.onnx": cost["params"]}
  assert found["madds"] == {"model.onnx": cost["madds"]}
  assert found["flash"] == {"model_int8.tflite": cost["flash"]}
  assert found["memory"]["model_int8.tflite, arena"] == cost["memory"]
  assert found["latency_ms"].keys() == {"onnxruntime", "LiteRT"}
  over = file_costs.over(found, {"params": 1, "madds": 1e9, "latency_ms": 1e-9}, "litert")
  assert [line.split()[0] for line in over] == ["params", "latency_ms"] and "LiteRT" in over[1]


def test_a_budget_that_is_exceeded_by_one_is_told_from_it():
  [line] = file_costs.over({"params": {"model.onnx": 1_234_567}}, {"params": 1_234_566}, "")
  assert line == "params is 1,234,567 in model.onnx, above the budget of 1,234,566"


def test_the_card_says_what_is_known(exported):
  folder, content, printed = exported
  card = (folder / "MODEL_CARD.md").read_text()
  for part in (
    "`e2 . | e2 e4g2se`",
    "Source: `digits`. Images: 200 train, 100 validation, 360 test.",
    "Trained on: training and validation images.",
    "| params | learned numbers | 700 | 1,000 | 70.0% | ",
    "| latency_ms |",
    "after 300 training steps, seed 0",
    "ranges of activations from 200 training images",
    "python -m experiments.search --config=tests/tiny_config.py --config.final.epochs=0",
    "python -m experiments.train --config=tests/tiny_config.py --config.final.epochs=0",
    "python -m experiments.export --workdir=",
    "TFLite Micro predicts as LiteRT on",
    "Apache-2.0",
    f"onnxruntime {content['versions']['onnxruntime']}",
  ):
    assert part in card, part
  for facts in content["formats"].values():
    assert facts["file"] in card and facts["file"] in printed
  assert "checkpoint, by JAX" in printed


def test_files_hold_what_a_device_must_know(run, exported):
  from nas_submod.export import onnx_file, tflite_file

  folder, images, _ = exported[0], run[1], run[2]
  found = onnx_file.metadata(folder / "model_int8.onnx")
  assert found == onnx_file.metadata(folder / "model.onnx")
  assert found == tflite_file.metadata(folder / "model.tflite")
  assert found == tflite_file.metadata(folder / "model_int8.tflite")
  assert json.loads((folder / "model.stablehlo.json").read_text()) == found
  assert np.array_equal(np.float32(json.loads(found["mean"])), images.mean)
  assert json.loads(found["classes"]) == list("0123456789")
  assert json.loads(found["budget"]) == {"params": 1000, "latency_ms": 0.5}
  assert found["architecture"] == "e2 . | e2 e4g2se" and found["space"] == "tiny"


def test_the_script_classifies_an_image_without_jax(run, exported, tmp_path):
  folder, images, _ = exported[0], run[1], run[2]
  logits = nas_submod.load(run[0])(images.test.images)
  row = int(logits.max(1).argmax())
  pixels = images.test.images[row, ..., 0]
  shares = np.exp(logits[row] - logits[row].max())
  expected = f"{logits[row].argmax()} {shares.max() / shares.sum():.1%}"
  Image.fromarray(pixels).save(tmp_path / "gray.png")
  Image.fromarray(pixels).convert("RGB").save(tmp_path / "colours.png")
  code = """
import runpy, sys
sys.modules.update(dict.fromkeys(["jax", "nas_submod", "onnx"]))  # None: importing them fails.
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
  shutil.copytree(folder, tmp_path / "elsewhere")
  script, *files = (
    tmp_path / name for name in ("elsewhere/classify.py", "gray.png", "colours.png")
  )
  done = subprocess.run(
    [sys.executable, "-c", code, script, *files], capture_output=True, text=True, timeout=100
  )
  assert done.stdout == "".join(f"{file}: {expected}\n" for file in files), done.stderr


@pytest.mark.parametrize(("border", "channels"), [(0.0, 3), ((1 - stream.CENTRE) / 2, 4)])
def test_the_script_reads_colours_and_scales_images(border, channels, tmp_path, capsys):
  """Against the same steps by the package, on a turned image of another size."""
  from nas_submod import networks
  from nas_submod.export import classify, onnx_file, parts
  from nas_submod.export.model import make_model

  space = nas_submod.spaces.from_config(
    {"name": "digits", "image_shape": (8, 8, channels), "stem_channels": 4}
  )
  network = networks.build(space, space.start)
  variables = parts.random_variables(network, np.random.default_rng(0))
  mean, std = [1.0, 2.0, 3.0, 4.0][:channels], [50.0, 60.0, 70.0, 80.0][:channels]
  facts = {
    "image_shape": f"[8, 8, {channels}]",
    "mean": str(mean),
    "std": str(std),
    "classes": json.dumps([f"class {i}" for i in range(10)]),
    "border": json.dumps(border),
  }
  model = make_model(network, (8, 8, channels), variables, facts)
  onnx_file.write_onnx(model, tmp_path / "model.onnx")
  image = np.random.default_rng(1).integers(0, 256, (20, 30, channels), np.uint8)
  exif = Image.Exif()
  exif[0x0112] = 6  # Stored turned by 90 degrees, to be turned back clockwise.
  Image.fromarray(np.rot90(image)).save(tmp_path / "image.png", exif=exif)
  classify.main([str(tmp_path / "image.png"), str(tmp_path / "model.onnx")])
  side = (1 - 2 * border) * 20
  box = ((30 - side) / 2, (20 - side) / 2, (30 + side) / 2, (20 + side) / 2)
  scaled = pixels.fit(image, (8, 8), box)
  x = verify.normalized(scaled, np.float32(mean), np.float32(std))
  apply = jax.jit(lambda x: network.apply(variables.params, variables.state, x, False)[0])
  logits = np.asarray(apply(x[None]))[0]
  shares = np.exp(logits - logits.max())
  assert capsys.readouterr().out == (f"class {logits.argmax()} {shares.max() / shares.sum():.1%}\n")
  classify.main([str(tmp_path / "image.png")] * 2 + [str(tmp_path / "model.onnx")])
  assert capsys.readouterr().out.count(f"image.png: class {logits.argmax()} ") == 2
  deep, broken = tmp_path / "deep.png", tmp_path / "broken.png"
  Image.fromarray(np.full((8, 8), 60_000, np.uint16)).save(deep)
  broken.write_bytes((tmp_path / "image.png").read_bytes()[:900])
  for file, message in ((deep, "more than 8 bits a channel"), (broken, "not a usable image")):
    with pytest.raises(SystemExit, match=message):
      classify.main([str(file), str(tmp_path / "model.onnx")])


def test_the_script_turns_images_as_data_sources_do():
  from nas_submod.export import classify

  assert classify.TURNS == pixels._TURNS


def test_a_checkpoint_and_formats_can_be_chosen(run, export, tmp_path):
  status, printed, _ = export(
    f"--workdir={run[0]}", "--formats=tflite_int8", "--checkpoint=150", f"--output={tmp_path}"
  )
  assert status == 0 and "after 150 training steps" in printed
  assert sorted(path.name for path in tmp_path.iterdir()) == [
    "MODEL_CARD.md",
    "export.json",
    "model_int8.tflite",
  ]


def test_the_same_checkpoint_gives_the_same_files(run, exported, export, tmp_path):
  status, *_ = export(f"--workdir={run[0]}", f"--output={tmp_path}")
  assert status == 0
  for name in ALL:
    first, second = (folder / formats.FORMATS[name].file for folder in (exported[0], tmp_path))
    assert first.read_bytes() == second.read_bytes(), name


def test_a_slow_format_is_checked_on_part_of_the_images(run, export, tmp_path, monkeypatch):
  some = formats.FORMATS["stablehlo"]._replace(checked=100)
  monkeypatch.setattr(deploy, "FORMATS", formats.FORMATS | {"stablehlo": some})
  command = (f"--workdir={run[0]}", "--formats=onnx,stablehlo", f"--output={tmp_path}")
  status, printed, _ = export(*command)
  assert status == 0 and printed.count(" of 100 images ") == 1
  content = json.loads((tmp_path / "export.json").read_text())["formats"]
  assert [content[name]["comparison"]["images"] for name in ("onnx", "stablehlo")] == [360, 100]
  assert content["stablehlo"]["comparison"]["agreement"] == 1


def test_files_of_an_earlier_export_are_named(run, export, tmp_path):
  (tmp_path / "model.tflite").write_bytes(b"")
  _, printed, _ = export(
    f"--workdir={run[0]}", "--formats=onnx", "--nodata", f"--output={tmp_path}"
  )
  assert "model.tflite is left from an earlier export" in printed


def test_without_data_float_files_are_written_and_said_to_be_unchecked(run, export, tmp_path):
  status, printed, _ = export(f"--workdir={run[0]}", "--nodata", f"--output={tmp_path}")
  assert status == 0 and "nothing was checked on images: --nodata" in printed
  content = json.loads((tmp_path / "export.json").read_text())
  assert list(content["formats"]) == ["onnx", "tflite", "stablehlo"]
  assert "onnx_int8 was left out: int8 needs training images: --nodata" in printed
  assert "nothing was checked on images" in (tmp_path / "MODEL_CARD.md").read_text()


def test_an_untrained_network_is_exported_to_be_timed(export, tmp_path):
  status, printed, _ = export(
    "--architecture=. . | e2 .", "--formats=onnx,onnx_int8", f"--output={tmp_path}"
  )
  assert status == 0 and "after 0 training steps" in printed
  card = (tmp_path / "MODEL_CARD.md").read_text()
  assert "**Not trained: random weights, for timing alone.**" in card
  assert "No search made this network" in card


def test_a_float_file_that_differs_is_a_fault(run, export, tmp_path, monkeypatch):
  monkeypatch.setattr(verify, "LARGEST_DIFFERENCE", 0.0)
  status, _, errors = export(f"--workdir={run[0]}", "--formats=onnx", f"--output={tmp_path}")
  assert status == 1 and "FAULT model.onnx: logits differ by" in errors
  assert "do not deploy these files" in (tmp_path / "MODEL_CARD.md").read_text()


def test_a_missing_package_leaves_formats_out_or_is_named(run, export, tmp_path, monkeypatch):
  def refuse(name, extra):
    if name.startswith("ai_edge"):
      raise ValueError(f"{name} cannot be imported; pip install -e '.[{extra}]'")

  monkeypatch.setattr(formats, "package", refuse)
  choice = formats.choose([])
  assert choice.names == ("onnx", "onnx_int8", "stablehlo")
  assert list(choice.left_out) == ["tflite", "tflite_int8"]
  status, _, errors = export(f"--workdir={run[0]}", "--formats=tflite", f"--output={tmp_path}")
  assert status == 2 and errors == (
    "error: format tflite: ai_edge_litert cannot be imported; pip install -e '.[tflite]'\n"
  )


def test_comparison_counts_predictions_and_distances():
  reference = np.array([[1.0, 0.0], [0.0, 4.0], [3.0, 0.0]])
  found = np.array([[1.0, 2.0], [0.0, 4.0], [np.nan, 0.0]])
  compared = verify.compare(found, reference, np.array([0, 1, 0]))
  assert compared[:4] == pytest.approx((3, 1 / 3, 1, 1 / 3))
  assert compared.difference == compared.relative_difference == np.inf
  assert len(verify.faults(compared, is_float=True, trained=True)) == 2
  compared = verify.compare(found[:2], reference[:2], np.array([0, 1]))
  assert compared.difference == 2 and compared.relative_difference == 0.5
  assert len(verify.faults(compared, is_float=False, trained=True)) == 1
  assert not verify.faults(compared, is_float=False, trained=False)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--formats=onnx,coreml"], "unknown format 'coreml'; allowed: onnx, onnx_int8, tflite, "),
    (["--workdir=nowhere"], "there is no training in nowhere: "),
    (["--checkpoint=7"], "has no checkpoint 7; allowed: best, 150, 300"),
    (["--checkpoint=first"], "has no checkpoint 'first'; allowed: best, 150, 300"),
    (["--nodata", "--formats=onnx_int8"], "format onnx_int8: int8 needs training images: --nodata"),
    (["--calibration_images=0"], "calibration_images must be at least 1, got 0"),
    (["--config.seed=3"], "--config.seed=3 changes nothing: the config of a trained network"),
    (["--architecture=nothing"], "unknown architecture 'nothing'"),
    (["--architecture=. . | e2 .", "--checkpoint=best"], "--checkpoint is for a trained network"),
    (["--output=setup.py"], "folder setup.py cannot be used: File exists"),
  ],
)
def test_errors_are_one_line_before_any_work(run, export, arguments, message):
  status, _, errors = export(f"--workdir={run[0]}", *arguments)
  assert status == 2 and message in errors and errors.startswith("error: ")
  assert errors.count("\n") == 1


def test_a_layer_that_does_not_say_what_it_does_is_named_before_any_work(export, tmp_path):
  config = tiny_config.get_config()
  config.space["options"] = ({"block": "tests.tiny_run:untraced", "name": "mine"},)
  config.space["start"] = ". | mine"
  status, _, errors = export(
    "--architecture=. . | mine .", "--nodata", f"--output={tmp_path / 'model'}", config=config
  )
  assert status == 2 and "stage2/block1 holds a layer without Layer.trace" in errors
  assert errors.count("\n") == 1 and not (tmp_path / "model").exists()


@pytest.mark.parametrize(
  ("file", "content", "message"),
  [
    ("result.json", "[1", "result.json is damaged, or not the result of a search"),
    ("train/data.json", "{}", "data.json is damaged"),
    ("train/data.json", {"mean": [1.0]}, "the data are not those of the training: mean ["),
    ("train/data.json", {"classes": list("abcdefghij")}, "classes ('0', '1', "),
    ("train/inputs.json", {"test labels": "9"}, "not those of the training: test labels "),
  ],
)
def test_damaged_runs_are_refused(run, export, tmp_path, file, content, message):
  folder = shutil.copytree(run[0], tmp_path / "run")
  if isinstance(content, dict):
    content = json.dumps(json.loads((folder / file).read_text()) | content)
  (folder / file).parent.mkdir(parents=True, exist_ok=True)
  (folder / file).write_text(content)
  card = folder / "new" / "MODEL_CARD.md"
  card.parent.mkdir(exist_ok=True)
  card.write_text("of an earlier export")
  status, _, errors = export(f"--workdir={folder}", "--formats=onnx", f"--output={card.parent}")
  assert status == 2 and message in errors and errors.count("\n") == 1
  assert card.exists()


def test_the_card_of_an_earlier_export_goes_before_the_first_file_is_written(run, export, tmp_path):
  (tmp_path / "model.onnx" / "file").mkdir(parents=True)
  card = tmp_path / "MODEL_CARD.md"
  card.write_text("of an earlier export")
  with pytest.raises(IsADirectoryError) as raised:  # The command says so in one line.
    export(f"--workdir={run[0]}", "--formats=onnx", f"--output={tmp_path}")
  assert raised.value.filename == str(tmp_path / "model.onnx")
  assert not card.exists()
