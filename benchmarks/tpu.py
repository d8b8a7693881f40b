"""The programs of a config, compiled for a Cloud TPU by XLA's TPU compiler. No TPU is needed.

pip install -e '.[test,tpu]'
python -m benchmarks.tpu --config=configs/digits.py [--topology=v5e:2x2]
  [--programs=train,alone] [--network=rcnet] [--training_images=50000] [--at_once=2]

  start, train, evaluate  the search: a candidate on each device of a process
  alone                   a training step of one network, with a program of its own, on one chip
  final_start, final, final_evaluate
                          the first state of that network's final training on one chip, a step and
                          an evaluation on all devices
  enumeration             partial enumeration of depth 1: greedy on facility location of 2,000
                          elements from 64 seeds, split over the devices of a process
  shared_weights          the same of the config's own space, by scores of shared weights

They are the programs that a TPU runs: `jax.pmap` takes the devices of a topology as it takes real
ones. A topology is `v5e:2x2`, `v5e:4x4` (four processes) or another that libtpu knows. Gray images
stand in for the data. `--network` is `--architecture` of experiments.train; the largest network
that fits is the default.

Each program is printed as it is done: seconds to lower and compile, code, memory of a device
(arguments with the images, results, temporary arrays, code) against the chip's, and flops and bytes
of one chip by the compiler's count. For a single step there are two times: the larger of flops /
peak and bytes / bandwidth, and the cycles that the compiler expects, where the clock of the chip is
known. The bytes include those of the chip's vector memory, which is much faster than the bandwidth
says. In the other programs the compiler counts the body of a loop once and of a switch the most
expensive branch, so their flops and bytes are too low. `--at_once=2` compiles two programs at a
time; the seconds of each are then longer. The last lines say how long all took, and estimate the
search by the cycles of `alone`. The command exits with 1 if a program other than those of the final
training holds a collective operation, or the compiler refuses a program, as it does if a chip's
memory is too small.

libtpu prints errors about missing workers first. They mean that there is no TPU.
"""

import collections
import re
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import NamedTuple

import jax
from absl import flags
from ml_collections import ConfigDict

from benchmarks import tpu_programs
from benchmarks.speed import collectives
from benchmarks.tpu_programs import SEARCH, Chip, Target
from experiments import common
from nas_submod import compilation
from nas_submod.evaluation.candidates import SELDOM
from nas_submod.search.estimate import estimate
from nas_submod.validation import first_line

TOPOLOGY = flags.DEFINE_string("topology", "v5e:2x2", "Kind and shape of the slice.")
PROGRAMS = flags.DEFINE_list("programs", None, "Programs to compile; all by default.")
NETWORK = flags.DEFINE_string("network", None, "Network of `alone` and `final`.")
IMAGES = flags.DEFINE_integer(
  "training_images", 50_000, "Training and validation images.", lower_bound=1
)
AT_ONCE = flags.DEFINE_integer("at_once", 1, "Programs to compile at once.", lower_bound=1)

FINAL = ("final_start", "final", "final_evaluate")  # Their devices share each batch.
# In the others the compiler counts the body of a loop once.
SINGLE_STEP = ("alone", "final", "final_evaluate")


class Row(NamedTuple):
  """What the compiler says of a program; bytes, flops and cycles are those of one device."""

  lower: float
  compile: float
  code: int
  memory: int
  flops: float
  bytes_moved: float
  cycles: float  # the sum over operations
  collectives: dict[str, int]

  def roofline(self, chip: Chip) -> float:
    """Seconds of a step at the chip's peak flops, or at its bandwidth if that is slower."""
    return max(self.flops / chip.flops, self.bytes_moved / chip.bandwidth)

  def expected(self, chip: Chip) -> float:
    """The seconds of a step that the compiler expects."""
    return self.cycles / chip.clock


def measure(
  lower: Callable[[], jax.stages.Lowered], platform: str = "tpu", seldom: bool = False
) -> Row:
  """Lowers and compiles a program; `platform` and `seldom` as for `options_for`."""
  began = time.perf_counter()
  lowered = lower()
  then = time.perf_counter()
  program = lowered.compile(compilation.options_for(platform, seldom))
  compiled = time.perf_counter()
  used, costs, text = program.memory_analysis(), program.cost_analysis() or {}, program.as_text()
  arrays = used.argument_size_in_bytes + used.output_size_in_bytes - used.alias_size_in_bytes
  return Row(
    then - began,
    compiled - then,
    used.generated_code_size_in_bytes,
    arrays + used.temp_size_in_bytes + used.generated_code_size_in_bytes,
    costs.get("flops", float("nan")),
    costs.get("bytes accessed", float("nan")),
    sum(map(int, re.findall(r'"estimated_cycles":"(\d+)"', text))) or float("nan"),
    dict(collections.Counter(collectives(text))),
  )


HEAD = """\
| program | lower s | compile s | code MB | memory MB | of the chip | Gflop | MB moved \
| roofline ms | bound by | expected ms | collectives |
|---|---|---|---|---|---|---|---|---|---|---|---|"""


def line(name: str, row: Row, chip: Chip) -> str:
  """A line of the table, in Markdown."""
  by = "flops" if row.flops / chip.flops > row.bytes_moved / chip.bandwidth else "bytes"
  times = ("-", "-", "-")
  if name in SINGLE_STEP:
    expected = 1e3 * row.expected(chip)
    known = f"{expected:.3f}" if expected > 0 else "-"
    times = f"{1e3 * row.roofline(chip):.3f}", by, known
  found = ", ".join(f"{count} {kind}" for kind, count in row.collectives.items()) or "none"
  cells = [
    name,
    f"{row.lower:.0f}",
    f"{row.compile:.0f}",
    f"{row.code / 1e6:.1f}",
    f"{row.memory / 1e6:.0f}",
    f"{row.memory / chip.memory:.1%}",
    f"{row.flops / 1e9:.2f}",
    f"{row.bytes_moved / 1e6:.1f}",
    *times,
    found,
  ]
  return f"| {' | '.join(cells)} |"


def estimated(target: Target, rows: dict[str, Row]) -> str:
  """The hours of the search if every candidate were `alone`, by the compiler's cycles."""
  found, steps, devices = estimate(target.setup), target.steps, len(target.devices)
  if found.search is None or found.rounds is None:
    return "estimate: none, the search makes more than a thousand trainings"
  step = rows["alone"].expected(target.chip)
  if not step > 0:
    return "estimate: none, the seconds of a step are unknown"
  hours = found.rounds * steps * step / 3600
  text = (
    f"estimate, if each candidate were the network of alone: about {found.search + found.final} "
    f"trainings of {steps:,} steps of {1e3 * step:.3f} ms, in {found.rounds} rounds on "
    f"{devices} chips: {hours:.2f} hours, {hours * devices:.1f} chip-hours"
  )
  compiling = [rows[name] for name in SEARCH if name in rows]
  if len(compiling) == len(SEARCH) and AT_ONCE.value == 1:
    hours += sum(row.lower + row.compile for row in compiling) / 3600
    text += f"; with compiling, one by one and as long as here: {hours:.2f}, {hours * devices:.1f}"
  return text


def fault(rows: dict[str, Row], chip: Chip, refused: Sequence[str] = ()) -> str | None:
  """Says what a program has that it must not have; None if all are well.

  Args:
    rows: What was measured.
    chip: The kind of chip.
    refused: Programs that the compiler refused.
  """
  if refused:
    return f"the compiler refused {refused[0]}"
  for name, row in rows.items():
    if name not in FINAL and row.collectives:
      return f"{name} holds a collective operation; its devices must not communicate"
    if row.memory > chip.memory:
      return f"{name} does not fit the memory of a chip"


def main(config: ConfigDict) -> None:
  """Compiles the programs and prints a line for each."""
  jax.config.update("jax_platforms", "cpu")  # On a TPU VM the chips are left alone.
  jax.config.update("jax_enable_compilation_cache", False)
  try:
    devices = tpu_programs.find_devices(TOPOLOGY.value)
    # The rounds of a search are as wide as there are devices.
    jax.config.update("jax_num_cpu_devices", len(devices))
    target = tpu_programs.make_target(config, devices, IMAGES.value, NETWORK.value)
    programs = tpu_programs.all_of(target)
    if PROGRAMS.value == []:
      raise ValueError(f"--programs is empty; allowed: {', '.join(programs)}")
    wanted = PROGRAMS.value or list(programs)
    if unknown := sorted(set(wanted) - set(programs)):
      raise ValueError(f"--programs has {unknown[0]!r}; allowed: {', '.join(programs)}")
    tpu_programs.check(target, wanted)
  except ValueError as error:
    common.fail(error)
  network = target.setup.space.text(target.architecture)
  print(f"{TOPOLOGY.value}: {len(target.devices)} x {target.devices[0].device_kind}")
  print(f"alone and final: {network}\n\n{HEAD}", flush=True)
  rows: dict[str, Row] = {}
  refused = []

  def compile_and_print(name: str) -> None:
    try:
      rows[name] = measure(programs[name], seldom=name in SELDOM)
    except jax.errors.JaxRuntimeError as error:  # Mostly: it does not fit a chip's memory.
      refused.append(name)
      print(f"| {name} | refused: {first_line(error)} |", flush=True)
    else:
      print(line(name, rows[name], target.chip), flush=True)

  began = time.perf_counter()
  with futures.ThreadPoolExecutor(AT_ONCE.value) as threads:
    list(threads.map(compile_and_print, wanted))
  passed = time.perf_counter() - began
  print(f"\n{len(wanted)} programs: {passed:.0f} s, {AT_ONCE.value} at a time")
  if "alone" in rows:
    print(estimated(target, rows))
  if found := fault(rows, target.chip, refused):
    common.fail(found, 1)


if __name__ == "__main__":
  common.run(main)
