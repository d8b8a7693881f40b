"""Measures a latency table: every part of a space on this device, for `config.resources.latency`.

python -m experiments.measure_latency --config=configs/digits.py --runtime=onnxruntime \
  --output=runs/latency.csv
python -m experiments.measure_latency --config=configs/digits.py --export_parts=DIR
python -m experiments.measure_latency --config=configs/digits.py --from_csv=DIR/parts.csv

The same command continues where it was stopped. The second form writes the parts as files for a
device that cannot run Python; the third fits the correction to measurements on that device. See
docs/latency.md.
"""

import pathlib
import shlex
import time

from absl import flags
from ml_collections import ConfigDict
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from experiments import common
from nas_submod.export import measure, parts, timing
from nas_submod.fields import check_config
from nas_submod.files import local_path
from nas_submod.networks import spaces
from nas_submod.networks.search_space import SearchSpace
from nas_submod.resources.latency import by_part, open_table, samples
from nas_submod.resources.latency.fit import check_complete
from nas_submod.validation import at_least_one
from nas_submod.workdir import held

RUNTIME = flags.DEFINE_enum("runtime", "onnxruntime", list(timing.RUNTIMES), "What runs the parts.")
THREADS = flags.DEFINE_integer("threads", 1, "Threads of the runtime.")
SWEEPS = flags.DEFINE_integer("sweeps", 200, "How often each part runs; 60 to 300 are usual.")
NETWORKS = flags.DEFINE_integer("networks", 13, "Whole networks that fit the correction.")
CHECKS = flags.DEFINE_integer("checks", 12, "Other networks, of nearly equal multiply-adds.")
DEVICE = flags.DEFINE_string("device", None, "Name of this device; default: its processor's.")
OUTPUT = flags.DEFINE_string("output", None, "The table; default: latency_RUNTIME.csv in workdir.")
EXPORT_PARTS = flags.DEFINE_string("export_parts", None, "Write the parts as files here.")
FORMATS = flags.DEFINE_list(
  "formats", ["onnx", "tflite"], f"Files of --export_parts: {', '.join(parts.WRITERS)}."
)
FROM_CSV = flags.DEFINE_string("from_csv", None, "Fit the correction of this table, and check it.")


def main(config: ConfigDict) -> None:
  """Measures, exports the parts, or fits what another device has measured."""
  try:
    console = common.start_console()
    check_config(config, ("space",))
    space = spaces.from_config(config.space)
    at_least_one(threads=THREADS.value, sweeps=SWEEPS.value)
    for name, value in (("from_csv", FROM_CSV.value), ("export_parts", EXPORT_PARTS.value)):
      if value == "":
        raise ValueError(f"--{name} is empty; allowed: a path")
    if FROM_CSV.value:
      return from_csv(space, FROM_CSV.value, console)
    at_least_one(networks=NETWORKS.value, checks=CHECKS.value)
    madds = (config.get("budget") or {}).get("madds")
    sampled = samples.draw(space, NETWORKS.value, CHECKS.value, madds)
    if EXPORT_PARTS.value:
      return export_parts(space, sampled, local_path(EXPORT_PARTS.value), console)
    path = output(f"latency_{RUNTIME.value}.csv")
    with held(path.with_name(f".{path.name}.lock"), str(path)):
      measure_here(space, sampled, path, console)
  except ValueError as error:
    common.fail(error)
  except OSError as error:
    common.fail(f"{error.filename} cannot be written: {error.strerror}")
  except KeyboardInterrupt:
    common.stop("stopped; the same command continues", 130)


def output(name: str) -> pathlib.Path:
  """The path of the table; its folder is made.

  Raises:
    OSError: If the folder cannot be made.
    ValueError: If the path is a folder, or exists: it may hold measurements.
  """
  path = local_path(OUTPUT.value) if OUTPUT.value else common.workdir() / name
  if path.is_dir():
    raise ValueError(f"--output={path} is a folder; allowed: the path of a file")
  if path.exists():
    raise ValueError(f"{path} exists, and may hold measurements: move it, or name another --output")
  path.parent.mkdir(parents=True, exist_ok=True)
  return path


def measure_here(
  space: SearchSpace, sampled: samples.Samples, path: pathlib.Path, console: Console
) -> None:
  """Measures on this device, and writes and checks the table."""
  log = path.with_name(f"{path.name}.sweeps.jsonl")
  columns = BarColumn(), TextColumn("{task.description} {task.completed:.0f} of {task.total:.0f}")
  # Refreshed between sweeps: a drawing thread would disturb what is timed.
  with Progress(*columns, TimeRemainingColumn(), console=console, auto_refresh=False) as progress:
    task, last = progress.add_task("part"), 0.0

    def show(activity, done, total):
      nonlocal task, last
      if progress.tasks[-1].description != activity:
        progress.update(task, visible=False)
        task = progress.add_task(activity, total=total)
      if done == total or time.monotonic() - last > 0.5:
        last = time.monotonic()
        progress.update(task, completed=done, total=total, refresh=True)

    table = measure.measure(
      space, sampled, RUNTIME.value, THREADS.value, SWEEPS.value, log=log, show=show
    )
  about = measure.comments(space, RUNTIME.value, THREADS.value, DEVICE.value or "")
  about["protocol"] += f", {SWEEPS.value} sweeps"
  by_part.write_measured(path, table, about)
  log.unlink()
  finish(space, table, path, console)


def export_parts(
  space: SearchSpace, sampled: samples.Samples, folder: pathlib.Path, console: Console
) -> None:
  """Writes the parts and whole networks as files, and a table to fill in."""
  if unknown := set(FORMATS.value or [""]) - set(parts.WRITERS):
    raise ValueError(f"unknown format {min(unknown)!r}; allowed: {', '.join(parts.WRITERS)}")
  if (table := folder / "parts.csv").exists():
    raise ValueError(f"{table} exists, and may hold measurements: move it, or name another folder")
  stems = parts.write(parts.models(space, sampled), folder, FORMATS.value)
  keys = "device", "runtime", "threads", "date"
  about = dict.fromkeys(keys, "") | {"space": measure.space_comment(space)}
  parts.write_skeleton(stems, table, about)
  fit = [*common.flags_of_config(common.given_arguments()), f"--from_csv={table}"]
  command = ["python", "-m", "experiments.measure_latency", *fit, "--output=table.csv"]
  console.print(
    f"{len(stems)} parts and networks as {', '.join(FORMATS.value)} in {folder}/\n"
    f"Time each on the device, best in turns, and write its milliseconds into {table}. "
    f"Then\n  {shlex.join(command)}\nfits the correction and writes the table for "
    "config.resources.latency. Rows of networks (network/... and check/...) may be deleted: then "
    "the correction is 0.",
    markup=False,
  )


def from_csv(space: SearchSpace, source: str, console: Console) -> None:
  """Fits the correction of a table that was measured elsewhere."""
  path = output("latency.csv")
  found = open_table(source)
  table = by_part.read_measured(found)
  if table.networks:
    table = table._replace(correction=None)  # It is fitted again.
  table = by_part.fitted(found, table, space)
  check_complete(space, table.parts, f"latency table {source}")
  about = {key: value for key, value in found.comments.items() if key != "correction_ms"}
  by_part.write_measured(path, table, about)
  finish(space, table, path, console)


def finish(
  space: SearchSpace, table: by_part.Measured, path: pathlib.Path, console: Console
) -> None:
  """Prints how good a table is, and how to use it."""
  console.print(measure.report(space, table), markup=False)
  console.print(
    f"{path}: use it by --config.resources.latency={path} --config.budget.latency_ms=LIMIT",
    markup=False,
  )


if __name__ == "__main__":
  common.run(main)
