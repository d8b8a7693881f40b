"""Trains a network on all training images and tests it.

python -m experiments.train --config=configs/digits.py --workdir=runs/digits \
  --architecture=runs/digits/result.json
python -m experiments.train --config=configs/train/cifar100.py:mobilenet_v2 --workdir=runs/reference

The architecture is a result.json of a search, a name of `nas_submod/networks/architectures.py`, a
line as the search prints it, or numbers such as "0,0,5,1,...". The same command continues from the
last checkpoint. On SIGTERM it finishes and saves the current step, skips an evaluation, and exits
with code 75.
"""

import contextlib
import json
import pathlib
import shlex
import sys
import time
from collections.abc import Mapping
from typing import Any

import jax
from absl import flags, logging
from ml_collections import ConfigDict
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from experiments import common
from nas_submod import allocation, data, files, identity, parallel, preemption, trained
from nas_submod.evaluation.evaluator import has_diverged
from nas_submod.fields import check_config, check_sizes
from nas_submod.networks import architectures, spaces
from nas_submod.report import text
from nas_submod.report.live import LOG_EVERY, duration, write_line
from nas_submod.search import inputs, make_setup, sharing
from nas_submod.training import final
from nas_submod.validation import first_line
from nas_submod.workdir import locked, make_workdir, plain_of

_CONTINUES = "; the same command continues from the last checkpoint"
ARCHITECTURE = flags.DEFINE_string("architecture", None, "Network to train; default: the config's.")


def main(config: ConfigDict) -> None:
  """Trains, tests, writes metrics.json."""
  logging.set_verbosity(logging.FATAL)  # Orbax logs the tracebacks of errors that it raises.
  _quiet_given_up_writes()
  try:
    console = common.start_console(takes_notice=True)
    check_config(config, ("seed", "space", "data", "final"))
    space = spaces.from_config(config.space)
    check_sizes(config, space.image_shape)
    wanted = ARCHITECTURE.value or config.get("architecture")
    if not wanted:
      raise ValueError("--architecture is missing: give a result.json, a name, a line or numbers")
    # On process 0, because only its host has the result of a search.
    named = parallel.on_first_process(lambda: architectures.read(space, wanted))
    sent = parallel.broadcast(json.dumps([int(option) for option in named or ()]).encode())
    architecture: list[int] = json.loads(sent)
    images = parallel.on_all_processes(lambda: data.load(config.data, may_stream=True))
    common.print_notes(console, images)
    # All checks come before a workdir is made.
    final.check(space, images, config)
    initial = None
    if config.final.get("from_shared_weights"):
      if config.data.get("stream"):
        raise ValueError("config.final.from_shared_weights needs data.stream=False, as in a search")
      initial = sharing.variables_of(make_setup(config, images), common.workdir(), architecture)
    run_config = plain_of({"config": config.to_dict(), "architecture": architecture})
    workdir = common.workdir() / trained.FOLDER
    command = shlex.join(["python", "-m", "experiments.train", *common.given_arguments()])
    facts = {"command": command, **trained.data_facts(images)}
    splits = ("train", "validation", "test")
    files_named = inputs.inputs_of(run_config["config"], images, splits, space)
    inputs.check_same_everywhere(files_named)
    lock = contextlib.ExitStack()  # Ends with the process.
    parallel.on_first_process(lambda: lock.enter_context(locked(workdir)))
    parallel.on_first_process(
      lambda: make_workdir(workdir, run_config, identity.of_training, files_named)
    )
    # Facts that a trained network needs about its data, for use without them.
    parallel.on_first_process(lambda: files.write_json(workdir / trained.DATA_FILE, facts))
    console.print(text.draw(space, architecture), markup=False)
    columns = BarColumn(), TextColumn("step {task.completed:.0f} of {task.total:.0f}")
    loss_column = TextColumn("training loss {task.fields[loss]:.4f}, {task.description}")
    with Progress(*columns, loss_column, TimeRemainingColumn(), console=console) as progress:
      task = progress.add_task("compiling", total=1, loss=float("nan"))

      began = told = time.monotonic()
      first = None

      def show(step, steps, loss, activity):
        nonlocal told, first
        progress.update(task, completed=step, total=steps, loss=loss, description=activity)
        now, first = time.monotonic(), first or (time.monotonic(), step)
        if not console.is_terminal and now - told > LOG_EVERY and step > first[1]:
          told = now
          left = (now - first[0]) / (step - first[1]) * (steps - step)
          write_line(
            console,
            f"{duration(now - began)} {activity}: step {step:,} of {steps:,}, training loss "
            f"{loss:.4f}; {duration(left)} left",
          )

      with common.one_line(_CONTINUES):
        metrics = final.train(space, architecture, images, config, workdir, show, initial)
  except jax.errors.JaxRuntimeError as error:
    common.stop(f"error: the device failed: {first_line(error)}{_CONTINUES}", 1)
  except (ValueError, FloatingPointError) as error:
    common.fail(error)
  except preemption.Preempted as notice:
    common.fail(f"{notice}; the same command continues", preemption.EXIT_CODE)
  with common.one_line(_CONTINUES):
    try:
      if jax.process_index() == 0:
        files.write_json(workdir / "metrics.json", metrics)
    finally:  # The disk may be full; the answer is known.
      console.print(_summary(metrics, workdir), markup=False)
  if has_diverged({"loss": metrics["test"]["loss"]}):
    common.fail("the training diverged: lower config.final.learning_rate", 1)


def _summary(metrics: Mapping[str, Any], workdir: pathlib.Path) -> str:
  costs, test = metrics["resources"], metrics["test"]
  return (
    f"\n{', '.join(f'{text.number(value)} {name}' for name, value in costs.items())}\n"
    f"test accuracy {test['accuracy']:.2%}, top-5 {test['top5_accuracy']:.2%}, loss "
    f"{test['loss']:.4f} on {test['images']:,} images, after {metrics['steps']:,} steps on "
    f"{metrics['train_images']:,} images; {metrics['seconds']:.0f} seconds since step "
    f"{metrics['resumed_from_step']:,}\n"
    f"files {workdir}/: metrics.json, metrics.jsonl, checkpoints/, tensorboard/"
  )


def _quiet_given_up_writes() -> None:
  """Hides errors of writes that orbax gave up after another error.

  There may be hundreds, one for each array of a checkpoint.
  """
  of_threads, unraisable = sys.excepthook, sys.unraisablehook

  def is_known(error: BaseException | None) -> bool:
    return str(error) == "Event loop is closed"

  sys.excepthook = lambda *error: None if is_known(error[1]) else of_threads(*error)
  sys.unraisablehook = lambda it: None if is_known(it.exc_value) else unraisable(it)


if __name__ == "__main__":
  allocation.keep_freed_memory()
  common.run(main)
