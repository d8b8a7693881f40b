"""Trains a network on all training images and tests it.

python -m experiments.train --config=configs/digits.py --workdir=runs/digits \
  --architecture=runs/digits/result.json

The architecture is a result.json of a search, a line as the search prints it, or numbers such as
"0,0,5,1,...". The same command again continues from the last checkpoint. On SIGTERM the step under
way is finished and saved, and the exit code is 75: run the same command again.
"""

import json
import pathlib
import re

from absl import flags
from ml_collections import ConfigDict
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from experiments import common
from nas_submod import data, final, journal, preemption, report, resources, spaces

ARCHITECTURE = flags.DEFINE_string("architecture", None, "What to train.", required=True)


def read_architecture(space: spaces.SearchSpace, text: str) -> tuple[int, ...]:
  """The architecture that a file or a text names.

  Raises:
    ValueError: If there is no such file, or it does not belong to the space.
  """
  if text.endswith(".json"):
    path = pathlib.Path(text)
    if not path.is_file():
      raise ValueError(f"there is no {path}: run experiments.search first")
    content = json.loads(path.read_text())
    if "architecture" not in content:
      raise ValueError(f"{path} has no field architecture: a result.json of a search is expected")
    return space.check(content["architecture"])
  if re.fullmatch(r"[\d\s,\[\]]+", text):
    return space.check([int(number) for number in re.findall(r"\d+", text)])
  return space.parse(text)


def main(config: ConfigDict) -> None:
  """Trains, tests, writes metrics.json."""
  console = Console(soft_wrap=True, highlight=False)
  try:
    space = spaces.from_config(config.space)
    architecture = read_architecture(space, ARCHITECTURE.value)
    images = data.load(config.data)
    decides = {"config": config.to_dict(), "architecture": list(architecture)}
    workdir = journal.make_workdir(common.workdir() / "train", decides)
    console.print(report.draw(space, architecture), markup=False)
    columns = BarColumn(), TextColumn("step {task.completed:.0f} of {task.total:.0f}")
    loss_column = TextColumn("training loss {task.fields[loss]:.4f}")
    with Progress(*columns, loss_column, TimeRemainingColumn(), console=console) as progress:
      task = progress.add_task("train", total=1, loss=float("nan"))

      def show(step, steps, loss):
        progress.update(task, completed=step, total=steps, loss=loss)

      metrics = final.train(space, architecture, images, config, workdir, show)
  except (ValueError, FloatingPointError) as error:
    return common.fail(error)
  except preemption.Preempted as notice:
    return common.fail(f"{notice}; the same command continues", preemption.EXIT_CODE)
  except KeyboardInterrupt:
    return common.fail("stopped; the same command continues from the last checkpoint", 130)
  journal.write_json(workdir / "metrics.json", metrics)
  costs = resources.network_cost(space, architecture)
  test = metrics["test"]
  console.print(
    f"\n{', '.join(f'{value:,} {name}' for name, value in costs.items())}\n"
    f"test accuracy {test['accuracy']:.2%}, top-5 {test['top5_accuracy']:.2%}, loss "
    f"{test['loss']:.4f} on {test['images']:,} images, after {metrics['steps']:,} steps on "
    f"{metrics['train_images']:,} images in {metrics['seconds']:.0f} seconds\n"
    f"files {workdir}/: metrics.json, metrics.jsonl, checkpoints/, tensorboard/",
    markup=False,
  )


if __name__ == "__main__":
  common.run(main)
