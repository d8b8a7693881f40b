"""StableHLO files, loaded again, against the layers they come from."""

import json

import jax
import pytest
from jax import export

from nas_submod.export import runtimes, stablehlo_file
from tests.export_cases import METADATA, NAMES, assert_close, case

pytest.importorskip("flatbuffers", reason="needs the extra export")


@pytest.mark.parametrize("name", NAMES)
def test_a_file_returns_what_the_layer_does(name, tmp_path):
  model, images, outputs = case(name)
  stablehlo_file.write_stablehlo(model, tmp_path / "model.stablehlo")
  runner = runtimes.load_stablehlo(tmp_path / "model.stablehlo")
  assert runner.arena is None
  assert_close(runner.run(images), outputs)


def test_a_file_takes_any_batch_on_each_platform_and_has_metadata_beside_it(tmp_path):
  model, images, outputs = case("squeeze_excite")
  path = tmp_path / "model.stablehlo"
  stablehlo_file.write_stablehlo(model, path)
  assert_close(runtimes.load_stablehlo(path).run(images[:1]), outputs[:1])
  assert json.loads((tmp_path / "model.stablehlo.json").read_text()) == METADATA
  program = export.deserialize(bytearray(path.read_bytes()))
  assert program.platforms == ("cpu", "cuda", "tpu")
  text = program.mlir_module()
  assert "stablehlo.convolution" in text
  assert "HIGHEST" in text  # A TPU would use bfloat16.
  written = path.read_bytes()
  assert b"squeeze_excite/hard_sigmoid1" in written
  assert b".py" not in written  # No places in the code that wrote it, which are paths.


def test_each_convolution_is_one_operation():
  model, images, _ = case("squeeze_excite")
  program = str(jax.make_jaxpr(lambda x: stablehlo_file.interpret(model, x))(images))
  assert program.count("conv_general_dilated[") == 5


def test_missing_and_damaged_files_are_named_in_one_line(tmp_path):
  path = tmp_path / "model.stablehlo"
  stablehlo_file.write_stablehlo(case("shortcut").model, path)
  content = path.read_bytes()
  middle = len(content) // 2
  for damaged in (b"", content[:middle], content[:middle] + b"x" * 1000 + content[middle + 1000 :]):
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"model.stablehlo cannot be loaded as") as found:
      runtimes.load_stablehlo(path)
    assert "\n" not in str(found.value)
  with pytest.raises(ValueError, match=r"none cannot be read: No such file or directory$"):
    runtimes.load_stablehlo(tmp_path / "none")
