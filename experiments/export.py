"""Writes a trained network as files for devices, checks them on test images, and times them.

python -m experiments.export --workdir=runs/digits
python -m experiments.export --workdir=runs/digits --formats=onnx,tflite_int8 --checkpoint=best
python -m experiments.export --config=configs/digits.py --architecture='e3 . | e3 | e3' \
  --output=/tmp/model

The config and the network are those of the training in `--workdir`. With `--architecture`, the
network has random weights, which is enough to time it. Formats: onnx, onnx_int8, tflite,
tflite_int8, stablehlo; by default all whose packages are installed (`.[export]`,
`.[tflite]`). The files, a model card and a script that classifies an image are written to
`WORKDIR/model`, or `WORKDIR/untrained`. If a float file differs from the network, the exit status
is 1.
"""

import pathlib
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags
from ml_collections import ConfigDict
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from experiments import common
from nas_submod import data, networks, resources, trained
from nas_submod.data import fingerprint
from nas_submod.export import card, formats, parts
from nas_submod.export.deploy import CALIBRATION, deploy
from nas_submod.export.subject import Subject
from nas_submod.fields import check_config
from nas_submod.files import local_path, read_json
from nas_submod.networks import architectures, spaces
from nas_submod.training import check_fit
from nas_submod.validation import at_least_one
from nas_submod.workdir import CONFIG_FILE, INPUTS_FILE

FORMATS = flags.DEFINE_list("formats", [], "Formats to write; default: all that are installed.")
CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Steps, or best; default: the last one.")
ARCHITECTURE = flags.DEFINE_string("architecture", None, "An untrained network of --config.")
OUTPUT = flags.DEFINE_string("output", None, "Folder of the files; default: WORKDIR/model.")
DATA = flags.DEFINE_bool("data", True, "Whether to load the data: to check files, and for int8.")
IMAGES = flags.DEFINE_integer("calibration_images", CALIBRATION, "Training images for int8.")


def main(config: ConfigDict) -> None:
  """Exports, and prints the table of files."""
  try:
    console = common.start_console()
    formats.choose(FORMATS.value)
    at_least_one(calibration_images=IMAGES.value)
    subject = _untrained(config) if ARCHITECTURE.value else _trained(common.workdir())
    no_int8 = f"int8 needs training images: {subject.no_data}" if subject.no_data else ""
    choice = formats.choose(FORMATS.value, no_int8)
    # The files of a trained network stay.
    folder = "untrained" if ARCHITECTURE.value else "model"
    output = local_path(OUTPUT.value or common.workdir() / folder)
    columns = (
      TextColumn("{task.description:<12}"),
      BarColumn(),
      TextColumn("{task.percentage:.0f}%"),
    )
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
      tasks: dict[str, TaskID] = {}

      def show(doing, done, count):
        if doing not in tasks:
          tasks[doing] = progress.add_task(doing, total=count)
        progress.update(tasks[doing], completed=done)

      content = deploy(subject, choice, output, IMAGES.value, show)
  except ValueError as error:
    common.fail(error)
  except KeyboardInterrupt:
    common.stop("stopped; the same command begins again", 130)
  console.print(_summary(content, output), markup=False)
  for fault in card.faults(content):
    print(f"FAULT {fault}", file=sys.stderr)
  if any(f["faults"] for name, f in content["formats"].items() if not formats.FORMATS[name].source):
    sys.exit(1)


def _trained(workdir: pathlib.Path) -> Subject:
  """The network of a training, with the budgets of the search that found it."""
  changed = [flag for flag in common.read_arguments() if re.match(r"--?(no)?config\.", flag)]
  if changed:
    raise ValueError(
      f"{changed[0]} changes nothing: the config of a trained network is that of its training; "
      "allowed with --architecture"
    )
  wanted = CHECKPOINT.value
  network = trained.load(workdir, int(wanted) if wanted and wanted.isdigit() else wanted)
  images, no_data = _data(network.config)
  if images is not None:
    check_fit(network.space, images)
    now: dict[str, Any] = {"mean": images.mean, "std": images.std, "classes": images.class_names}
    before: dict[str, Any] = {"mean": network.mean, "std": network.std, "classes": network.classes}
    named = workdir / trained.FOLDER / INPUTS_FILE
    if named.exists():  # It has more, such as code of the user's own.
      now |= fingerprint.of_splits(images, ("train", "validation", "test"))
      before |= read_json(named)
    for name, found in now.items():
      if not np.array_equal(found, before.get(name, "unknown")):
        raise ValueError(
          f"the data are not those of the training: {name} {found}, not {before.get(name)}; "
          "--nodata exports without them"
        )
  commands = [network.origin.get("command", "")]
  found = _result(workdir / "result.json", network)
  settings = network.config.get("resources")
  if found:
    searched = _config(workdir)
    commands.insert(0, _search_command(workdir, searched == network.config, commands[0]))
    settings = searched.get("resources", settings)
  return _subject(network, images, no_data, found, commands, settings)


def _config(workdir: pathlib.Path) -> dict[str, Any]:
  """The config of a search; empty if it cannot be read."""
  try:
    return dict(read_json(workdir / CONFIG_FILE))
  except (OSError, ValueError, TypeError):
    return {}


def _search_command(workdir: pathlib.Path, same: bool, training: str) -> str:
  """The search command of a network, with the flags of its training if the config is the same."""
  settings = common.flags_of_config(shlex.split(training))
  command = ["python", "-m", "experiments.search", *(settings if same else [])]
  note = "" if same else f"  # with the config in {workdir / CONFIG_FILE}"
  return f"{shlex.join([*command, f'--workdir={workdir}'])}{note}"


def _untrained(config: ConfigDict) -> Subject:
  """A network with random weights."""
  if CHECKPOINT.value:
    raise ValueError("--checkpoint is for a trained network; --architecture has random weights")
  check_config(config, ("seed", "space", "data", "final"))
  space = spaces.from_config(config.space)
  architecture = architectures.read(space, ARCHITECTURE.value or "")
  images, no_data = _data(config.to_dict())
  if images is not None:
    check_fit(space, images)
  channels = space.image_shape[-1]
  network = trained.Trained(
    space=space,
    architecture=architecture,
    variables=parts.random_variables(
      networks.build(space, architecture), np.random.default_rng(config.seed)
    ),
    mean=np.zeros(channels, np.float32) if images is None else images.mean,
    std=np.ones(channels, np.float32) if images is None else images.std,
    classes=tuple(map(str, range(space.classes))) if images is None else images.class_names,
    border=0.0 if images is None else trained.data_facts(images)["border"],
    step=0,
    scores={},
    config=config.to_dict(),
    origin={} if images is None else trained.data_facts(images),
  )
  return _subject(network, images, no_data, {}, [], config.to_dict().get("resources"))


def _resources(
  network: trained.Trained, settings: Mapping[str, Any]
) -> tuple[resources.Resources, dict[str, int | float]]:
  """The resources of `config.resources`, and their costs.

  A latency and resources of one's own are left out if they can no longer be counted: their files
  may be gone, or belong to another space now.
  """

  def counted(settings: Mapping[str, Any]) -> tuple[resources.Resources, dict[str, int | float]]:
    known = resources.from_config(settings)
    return known, resources.network_cost(network.space, network.architecture, known)

  try:
    return counted(settings)
  except ValueError:
    return counted({name: settings[name] for name in settings if name in resources.RESOURCES})


def _subject(
  network: trained.Trained,
  images: data.Data | None,
  no_data: str,
  result: Mapping[str, Any],
  commands: Sequence[str],
  settings: Mapping[str, Any] | None,
) -> Subject:
  """What is exported, with its costs; `settings` are `config.resources`."""
  known, costs = _resources(network, settings or {})
  export = shlex.join(["python", "-m", "experiments.export", *common.given_arguments()])
  return Subject(
    network=network,
    data=images,
    no_data=no_data,
    resources=costs | result.get("resources", {}),
    units={name: resource.unit for name, resource in known.items()},
    settings=settings or {},
    budget=result.get("budget", {}),
    commands=[*filter(None, commands), export],
  )


def _data(config: Mapping[str, Any]) -> tuple[data.Data | None, str]:
  """The data of a config; None and the reason if there are none."""
  if not DATA.value:
    return None, "--nodata"
  try:
    return data.load(ConfigDict(config["data"]), may_stream=True), ""
  except ValueError as error:
    return None, str(error)


def _result(path: pathlib.Path, network: trained.Trained) -> dict[str, Any]:
  """The result of the search that found a network; empty if there is none."""
  if not path.is_file():
    return {}
  try:
    result = read_json(path)
    canonical = network.space.canonical(np.array(result["architecture"]))
    same = np.array_equal(canonical, network.space.canonical(np.array(network.architecture)))
    return {name: result[name] for name in ("resources", "budget")} if same else {}
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(f"{path} is damaged, or not the result of a search") from error


def _summary(content: Mapping[str, Any], output: pathlib.Path) -> str:
  accuracy, network = content["accuracy"], content["network"]
  lines = [f"{network['architecture']}, after {network['steps']:,} training steps"]
  if accuracy:
    lines.append(
      f"accuracy {accuracy['accuracy']:.2%} on {accuracy['images']:,} test images by JAX"
    )
  files = [facts["file"] for facts in content["formats"].values()]
  files += ["MODEL_CARD.md", "export.json", *(["classify.py"] if "model.onnx" in files else [])]
  return "\n".join(
    [
      *lines,
      "",
      card.table(content),
      "",
      *([card.budget_table(content), ""] if content["budget"] else []),
      *card.notes(content),
      f"files {output}/: {', '.join(files)}",
    ]
  )


if __name__ == "__main__":
  common.run(main)
