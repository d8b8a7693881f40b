"""ONNX files, float and int8, run by onnxruntime against the layers they come from."""

import dataclasses
import sys

import numpy as np
import pytest

from nas_submod.export import onnx_file, runtimes, stablehlo_file
from nas_submod.export.model import make_model
from nas_submod.networks import build, layers, spaces
from nas_submod.networks.blocks import Option
from tests.export_cases import METADATA, NAMES, assert_close, case

onnx = pytest.importorskip("onnx", reason="needs the extra export")
pytest.importorskip("onnxruntime", reason="needs the extra export")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
  path = tmp_path_factory.mktemp("onnx") / "digits.onnx"
  onnx_file.write_onnx(case("digits").model, path)
  return path


@pytest.mark.parametrize("name", NAMES)
def test_a_file_returns_what_the_layer_does(name, tmp_path):
  model, images, outputs = case(name)
  onnx_file.write_onnx(model, tmp_path / "model.onnx")
  runner = runtimes.load_onnxruntime(tmp_path / "model.onnx")
  for batch in (slice(None), slice(1, 2)):
    assert_close(runner.run(images[batch]), outputs[batch])
  kinds = [operation.kind for operation in model.graph.operations]
  found = onnx_file.nodes(tmp_path / "model.onnx")
  assert found.get("Conv", 0) == kinds.count("conv")
  assert found.get("Transpose", 0) == kinds.count("shuffle")


def test_shuffles_are_seen(digits):
  """Otherwise the test above would count none."""
  assert onnx_file.nodes(digits)["Transpose"] == 3


def test_a_file_holds_its_metadata_and_readable_names(digits):
  assert onnx_file.metadata(digits) == METADATA
  model = onnx.load(digits)
  assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
  names = [node.name for node in model.graph.node]
  assert names[:4] == ["stem/conv1", "stem/conv1/relu", "stem/conv2", "stem/conv2/relu"]
  assert "stage1/block2/shuffle1" in names
  assert len(set(names)) == len(names)
  kernels = {array.name: array.dims for array in model.graph.initializer}
  assert kernels["stem/conv1/kernel"] == [8, 1, 3, 3]
  assert kernels["head/dense1/bias"] == [10]


def test_int8_is_close_to_float_and_leaves_nothing_behind(
  digits, tmp_path, monkeypatch, capfd, caplog
):
  (tmp_path / "empty").mkdir()
  monkeypatch.chdir(tmp_path / "empty")
  images = np.random.default_rng(1).normal(size=(40, 8, 8, 1)).astype(np.float32)
  onnx_file.quantize_onnx(digits, tmp_path / "int8.onnx", images)
  assert not list((tmp_path / "empty").iterdir())
  assert capfd.readouterr() == ("", "")
  assert not caplog.records
  assert onnx_file.metadata(tmp_path / "int8.onnx") == METADATA

  expected = runtimes.load_onnxruntime(digits).run(images)
  actual = runtimes.load_onnxruntime(tmp_path / "int8.onnx").run(images)
  error = abs(actual - expected).max() / np.ptp(expected, axis=0).max()
  assert error < 0.1

  arrays = {a.name: a for a in onnx.load(tmp_path / "int8.onnx").graph.initializer}
  [step] = onnx.numpy_helper.to_array(arrays["images_scale"]).ravel()
  assert step == pytest.approx(np.ptp(images) / 255)  # From the smallest to the largest number.
  kernel = arrays["stem/conv1/kernel_quantized"]
  assert kernel.data_type == onnx.TensorProto.INT8
  assert arrays["stem/conv1/kernel_scale"].dims == [8]  # One for each output channel.


@pytest.mark.parametrize("shape", [(0, 8, 8, 1), (4, 8, 8, 3), (8, 8, 1)])
def test_calibration_images_must_fit(shape, digits, tmp_path):
  with pytest.raises(ValueError, match=r"shape \[.*allowed for .*: \[N, 8, 8, 1\]"):
    onnx_file.quantize_onnx(digits, tmp_path / "int8.onnx", np.zeros(shape))
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  "read", [runtimes.load_onnxruntime, onnx_file.nodes, lambda path: onnx_file.metadata(path)]
)
def test_missing_and_damaged_files_are_named_in_one_line(read, digits, tmp_path):
  damaged = tmp_path / "damaged.onnx"
  damaged.write_bytes(digits.read_bytes()[:2000])
  with pytest.raises(ValueError, match=r"damaged.onnx cannot be .*onnx") as found:
    read(damaged)
  assert "\n" not in str(found.value)
  with pytest.raises(ValueError, match=r"none.onnx cannot be read: No such file or directory$"):
    read(tmp_path / "none.onnx")


def test_a_layer_without_trace_is_refused_by_its_place():
  def block(cin, cout, stride):
    return layers.conv(cin, cout, 3, stride)._replace(trace=None)

  options = (*spaces.get("digits").options, Option("untraced", block))
  space = dataclasses.replace(spaces.get("digits"), options=options)
  layer = build(space, space.parse("e3 . . . | e3 untraced . . | e3"))
  variables = layers.Variables((), ())
  with pytest.raises(ValueError, match=r"^stage2/block2 holds a layer without Layer.trace"):
    make_model(layer, space.image_shape, variables)


def test_a_missing_package_is_named_with_its_extra(monkeypatch, tmp_path, digits):
  model = case("identity").model
  images = np.zeros((1, 8, 8, 1), np.float32)
  for name, call in {
    "onnx": lambda: onnx_file.write_onnx(model, tmp_path / "x"),
    "onnxruntime": lambda: runtimes.load_onnxruntime(digits),
    "onnxruntime.quantization": lambda: onnx_file.quantize_onnx(digits, tmp_path / "x", images),
    "flatbuffers": lambda: stablehlo_file.write_stablehlo(model, tmp_path / "x"),
  }.items():
    with monkeypatch.context() as patch:
      patch.setitem(sys.modules, name, None)
      package = name.partition(".")[0]
      with pytest.raises(ValueError, match=rf"^{package} cannot .*'\.\[export\]'$"):
        call()
  assert not list(tmp_path.iterdir())


def test_int8_bears_a_relu_that_always_returns_zero(tmp_path):
  layer = layers.serial(layers.conv(2, 2, bias=True), layers.relu(), layers.conv(2, 2, bias=True))
  eye, last = np.eye(2, dtype=np.float32)[None, None], np.ones(2, np.float32)
  params = ({"kernel": eye, "bias": -99 * last}, (), {"kernel": eye, "bias": last})
  model = make_model(layer, (3, 3, 2), layers.Variables(params, ((), (), ())), {}, lambda _: "part")
  images = np.random.default_rng(0).normal(size=(8, 3, 3, 2)).astype(np.float32)
  paths = tmp_path / "float.onnx", tmp_path / "int8.onnx"
  onnx_file.write_onnx(model, paths[0])
  onnx_file.quantize_onnx(*paths, images)
  np.testing.assert_allclose(runtimes.load_onnxruntime(paths[1]).run(images), 1, atol=0.02)
