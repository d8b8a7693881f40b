"""TFLite files, float and int8, run by LiteRT and TFLite Micro against their layers."""

import sys

import jax
import numpy as np
import pytest

from nas_submod import resources
from nas_submod.export import tflite_file
from nas_submod.export.model import make_model
from nas_submod.export.tflite_build import schema
from nas_submod.export.tflite_runtimes import load_litert, load_tflite_micro
from nas_submod.networks import build, layers, spaces
from nas_submod.resources.memory import peak_numbers
from tests.export_cases import METADATA, NAMES, assert_close, case

for needed in ("ai_edge_litert", "ai_edge_quantizer", "tflite_micro"):
  pytest.importorskip(needed, reason="needs the extra tflite")


def _written(model, folder, calibration=64):
  """A float and an int8 file of a model."""
  paths = folder / "float.tflite", folder / "int8.tflite"
  tflite_file.write_tflite(model, paths[0])
  images = np.random.default_rng(1).normal(size=(calibration, *model.graph.shape))
  tflite_file.quantize_tflite(*paths, images)
  return paths


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
  return _written(case("digits").model, tmp_path_factory.mktemp("tflite"))


@pytest.mark.parametrize("name", NAMES)
def test_files_return_what_the_layer_does(name, tmp_path):
  model, images, outputs = case(name)
  paths = _written(model, tmp_path, 8 if name == "rcnet" else 64)
  for load in (load_litert, load_tflite_micro):
    assert_close(load(paths[0]).run(images), outputs)
    error = load(paths[1]).run(images) - outputs
    # Whole networks have up to a hundred operations, each of which rounds.
    bound = 0.08 if name in ("digits", "rcnet") else 0.03
    assert np.sqrt(np.mean(error**2)) < bound * np.sqrt(np.mean(outputs**2))
  weights = [w.kernel.shape for w in model.weights if w.kernel is not None]
  kernels, channels = sum(map(np.prod, weights)), sum(shape[-1] for shape in weights)
  assert tflite_file.weight_bytes(paths[0]) == 4 * kernels + 4 * channels
  assert tflite_file.weight_bytes(paths[1]) == kernels + 4 * channels


def test_a_file_holds_its_metadata_and_readable_names(digits):
  for path in digits:
    assert tflite_file.metadata(path) == METADATA
    [graph] = tflite_file.read(path).subgraphs
    names = [tensor.name.decode() for tensor in graph.tensors]
    assert len(set(names)) == len(names)
    made = [names[operator.outputs[0]] for operator in graph.operators]
    assert made[:3] == ["stem/conv1/pad", "stem/conv1", "stem/conv2"]
    assert "stage1/block2/shuffle1" in made
    assert made[-1] == "logits"
    assert {"stem/conv1/kernel", "head/dense1/bias"} <= set(names)


def test_only_even_sides_at_stride_2_are_padded(tmp_path):
  def padded(side, kernel, stride):
    layer = layers.conv(2, 2, kernel, stride)
    variables = layers.Variables({"kernel": np.ones((kernel, kernel, 2, 2))}, ())
    model = make_model(layer, (side, 7, 2), variables, place=lambda path: "part")
    tflite_file.write_tflite(model, tmp_path / "part.tflite")
    return "PAD" in tflite_file.nodes(tmp_path / "part.tflite")

  settings = [(s, k, t) for s in (1, 2, 4, 5, 7, 8) for k in (1, 3, 5) for t in (1, 2)]
  found = [(s, k) for s, k, t in settings if padded(s, k, t)]
  assert found == [(s, k) for s in (2, 4, 8) for k in (3, 5)]


def test_int8_has_ranges_over_all_images_and_a_scale_a_channel(digits, tmp_path, capfd):
  images = np.random.default_rng(1).normal(size=(20, 8, 8, 1))
  images[7, 0, 0, 0] = 40  # An average over images would hide it.
  tflite_file.quantize_tflite(digits[0], tmp_path / "int8.tflite", images)
  load_litert(tmp_path / "int8.tflite")
  load_tflite_micro(tmp_path / "int8.tflite")
  assert capfd.readouterr() == ("", "")
  [graph] = tflite_file.read(tmp_path / "int8.tflite").subgraphs
  tensors = {tensor.name.decode(): tensor for tensor in graph.tensors}
  [step] = tensors["images"].quantization.scale
  assert step == pytest.approx((40 - images.min()) / 255)
  int8 = schema().TensorType.INT8
  assert {tensors[name].type for name in ("images", "logits", "stem/conv1/kernel")} == {int8}
  assert len(tensors["stem/conv1/kernel"].quantization.scale) == 8


@pytest.mark.parametrize("dead", [2, 8])
def test_int8_bears_channels_whose_kernel_is_zero(dead, tmp_path):
  """Their bias would not fit 32 bits; XNNPACK would refuse a tensor that is always zero."""
  layer = layers.serial(
    layers.conv(4, 8, 3, bias=True), layers.relu(), layers.conv(8, 3, bias=True)
  )
  rng = np.random.default_rng(0)
  start = layer.init(jax.random.key(0), lambda _, shape: np.float32(rng.normal(size=shape)))
  kernel = np.array(start.params[0]["kernel"])
  kernel[..., :dead] *= 1e-9
  bias = np.full(8, -9 if dead == 8 else 1, np.float32)  # The ReLU makes zeros of -9.
  last = start.params[2] | {"bias": np.ones(3, np.float32)}
  params = ({"kernel": kernel, "bias": bias}, (), last)
  variables = layers.Variables(params, start.state)
  images = rng.normal(size=(64, 6, 6, 4)).astype(np.float32)
  outputs = np.asarray(layer.apply(*variables, images, False)[0])
  model = make_model(layer, images.shape[1:], variables, {}, lambda path: "part")
  paths = tmp_path / "float.tflite", tmp_path / "int8.tflite"
  tflite_file.write_tflite(model, paths[0])
  tflite_file.quantize_tflite(*paths, images)
  for load in (load_litert, load_tflite_micro):
    error = load(paths[1]).run(images) - outputs
    assert np.abs(error).max() <= 0.03 * np.abs(outputs).max()


def test_large_weights_are_inside_the_flatbuffer(tmp_path):
  """Outside of it TFLite Micro reads zeros, and returns the same for all images."""
  rng = np.random.default_rng(0)
  layer = layers.serial(layers.global_average_pool(), layers.dense(600, 600))
  kernel = rng.normal(size=(600, 600))
  variables = layers.Variables(((), {"kernel": kernel, "bias": np.zeros(600)}), ((), ()))
  model = make_model(layer, (1, 1, 600), variables, place=lambda path: "part")
  float_file, int8_file = _written(model, tmp_path)
  images = rng.normal(size=(2, 1, 1, 600)).astype(np.float32)
  outputs = images[:, 0, 0] @ kernel
  error = load_tflite_micro(int8_file).run(images) - outputs
  assert np.abs(error).max() < 0.03 * np.abs(outputs).max()

  from ai_edge_quantizer import quantizer, recipe

  quantize = quantizer.Quantizer(float_file, recipe.dynamic_wi8_afp32())
  content = quantize.quantize(enable_progress_report=False).quantized_model
  (tmp_path / "outside.tflite").write_bytes(content)
  with pytest.raises(ValueError, match=r"outside.tflite stores weights outside its flatbuffer"):
    load_tflite_micro(tmp_path / "outside.tflite")


def _file_peak(path):
  """Bytes of the tensors that live at the same time, at most, by the operators of an int8 file."""
  model = tflite_file.read(path)
  [graph] = model.subgraphs
  last = {tensor: i for i, o in enumerate(graph.operators) for tensor in o.inputs}
  last[graph.outputs[0]] = len(graph.operators)
  born = {graph.inputs[0]: 0} | {o.outputs[0]: i for i, o in enumerate(graph.operators)}
  sizes = {tensor: np.prod(graph.tensors[tensor].shape) for tensor in born}
  return max(
    sum(sizes[t] for t in born if born[t] <= i <= last[t]) for i in range(len(graph.operators))
  )


def _arena_over_peak(space, seed, folder):
  """The arena of an int8 file in TFLite Micro, relative to the resource `memory`."""
  rng = np.random.default_rng(seed)
  drawn = rng.integers(0, space.elements // space.positions + 1, space.positions)
  start = np.array(space.start)
  # Positions of the start network stay, because they change the resolution.
  architecture = space.canonical(
    np.where((start > 0) | (rng.random(len(start)) < 0.5), start, drawn)
  )
  layer = build(space, space.check(architecture))
  variables = layer.init(
    jax.random.key(0), lambda _, shape: rng.normal(size=shape).astype(np.float32)
  )
  model = make_model(layer, space.image_shape, variables)
  paths = _written(model, folder, calibration=1)
  table = resources.from_config({"memory": "tflite_micro"})
  cost = resources.network_cost(space, architecture, table)
  assert cost["flash"] == tflite_file.weight_bytes(paths[1])
  assert _file_peak(paths[1]) <= cost["memory"] == peak_numbers(model.graph, micro=True)
  return load_tflite_micro(paths[1]).arena / cost["memory"]


def test_the_arena_of_tflite_micro_is_the_peak_memory(tmp_path):
  assert [_arena_over_peak(spaces.digits(), seed, tmp_path) for seed in (0, 1)] == [1, 1]
  # Pooling many channels takes memory of its own, and odd sizes are rounded up.
  wide = {"name": "digits", "head_channels": 1280, "image_shape": (7, 5, 3)}
  assert _arena_over_peak(spaces.from_config(wide), 0, tmp_path) == 1


@pytest.mark.slow
def test_the_arena_is_the_peak_memory_of_most_networks(tmp_path):
  ratios = [
    _arena_over_peak(spaces.get(name), seed, tmp_path)
    for name in ("digits", "rcnet_cifar100")
    for seed in range(8)
  ]
  print(ratios)
  assert min(ratios) == 1
  # TFLite Micro places tensors one by one, and sometimes leaves gaps.
  assert ratios.count(1) >= 12
  assert max(ratios) < 1.078


@pytest.mark.parametrize("shape", [(0, 8, 8, 1), (4, 8, 8, 3), (8, 8, 1)])
def test_calibration_images_must_fit(shape, digits, tmp_path):
  with pytest.raises(ValueError, match=r"float.tflite .* shape .*allowed: .*\(images, 8, 8, 1\)"):
    tflite_file.quantize_tflite(digits[0], tmp_path / "int8.tflite", np.zeros(shape))
  assert not list(tmp_path.iterdir())


def test_values_that_are_not_finite_are_named(tmp_path):
  """A scale that is infinite would make TFLite Micro end the process."""
  layer = layers.conv(1, 1)
  variables = layers.Variables({"kernel": np.full((1, 1, 1, 1), 3e38)}, ())
  model = make_model(layer, (2, 2, 1), variables, place=lambda path: "part")
  with pytest.raises(ValueError, match=r"tensor logits of .* not finite"):
    _written(model, tmp_path)


def test_an_int8_file_is_not_quantized_again(digits, tmp_path):
  with pytest.raises(ValueError, match=r"int8.tflite is not a float32 file"):
    tflite_file.quantize_tflite(digits[1], tmp_path / "x.tflite", np.zeros((1, 8, 8, 1)))


@pytest.mark.parametrize(
  "read",
  [load_litert, load_tflite_micro, tflite_file.metadata, tflite_file.nodes],
)
def test_missing_and_damaged_files_are_named_in_one_line(read, digits, tmp_path):
  damaged = tmp_path / "damaged.tflite"
  for content in (digits[1].read_bytes()[:9000], b"", b"x" * 1000):
    damaged.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged.tflite cannot be (loaded|read)") as found:
      read(damaged)
    assert "\n" not in str(found.value)
  with pytest.raises(ValueError, match=r"none.tflite cannot be read: No such file or directory$"):
    read(tmp_path / "none.tflite")


def test_a_missing_package_is_named_with_its_extra(monkeypatch, tmp_path, digits):
  images = np.zeros((1, 8, 8, 1))
  for name, call in {
    "ai_edge_litert": lambda: tflite_file.write_tflite(case("identity").model, tmp_path / "x"),
    "ai_edge_litert.interpreter": lambda: load_litert(digits[0]),
    "ai_edge_quantizer": lambda: tflite_file.quantize_tflite(digits[0], tmp_path / "x", images),
    "tflite_micro": lambda: load_tflite_micro(digits[1]),
  }.items():
    with monkeypatch.context() as patch:
      for module in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
        patch.setitem(sys.modules, module, None)
      package = name.partition(".")[0]
      with pytest.raises(ValueError, match=rf"^{package} cannot .*'\.\[tflite\]'$"):
        call()
  assert not list(tmp_path.iterdir())
