"""Long searches with a table as evaluator: whether memory and time stay flat, and the overhead.

python -m benchmarks.long_run [--evaluations=5000]

Nothing is trained: the value of a network is a sum over its blocks, so that all time is that of the
search itself. The space is that of digits with 12 positions in each stage, 216 elements. The long
search is `regularized_evolution`, with its journal on disk: every evaluation is there before the
next one begins. Its first evaluations, which compile, are left out. Overhead is what the host does
in a round of a greedy search that measures one set, without a file: from the end of one call of the
evaluator to the start of the next. Times are those of the processor, so that other work on the
machine counts little; on a CPU they hold the compiled programs too.
"""

import itertools
import pathlib
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from absl import app, flags
from rich.console import Console
from rich.table import Table

from configs import digits
from nas_submod import search
from nas_submod.evaluation.evaluator import Evaluation, Job
from nas_submod.evaluation.journal import JOURNAL_FILE, Journal
from nas_submod.networks.search_space import SearchSpace
from nas_submod.resources import budgets

EVALUATIONS = flags.DEFINE_integer("evaluations", 5_000, "Of the long search.", lower_bound=100)
_FIRST = 50  # evaluations that compile


class TableEvaluator:
  """An evaluator that looks values up, and notes when it is called.

  Attributes:
    calls: For each call its begin and its end, in seconds of processor time of this thread.
    marks: After each evaluation the processor time of the process in seconds, and its memory in
      MiB.
  """

  def __init__(self, space: SearchSpace):
    """Makes a table of gains: each block of a stage adds less than the one before it."""
    rng = np.random.default_rng(0)
    self._space = space
    self._stage = np.repeat(range(len(space.stages)), [s.positions for s in space.stages])
    self._gains = np.append(0, rng.uniform(0.5, 1, len(space.options)))
    self.calls: list[tuple[float, float]] = []
    self.marks: list[tuple[float, float]] = []

  def __call__(self, jobs: Sequence[Job]) -> Iterator[Evaluation]:
    """Yields an evaluation for each job."""
    began = time.thread_time()
    for job in jobs:
      in_stage = np.bincount(self._stage, self._gains[list(job.architecture)])
      loss = float(9 - np.sqrt(in_stage).sum() + 1e-3 * (job.replicate % 7))
      metrics = {"accuracy": 0.5, "loss": loss, "train_loss": loss}
      yield Evaluation(self._space.key(job.architecture), job.replicate, metrics, 0.0, 1)
      self.marks.append((time.process_time(), _mebibytes()))
    self.calls.append((began, time.thread_time()))


def _mebibytes() -> float:
  pages = int(pathlib.Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
  return pages * 4096 / 2**20


def make_setup(optimizer: str, **options: Any) -> search.Setup:
  """A search on digits whose space has 216 elements, and whose budgets fit most networks."""
  config = digits.get_config()
  stages = ((8, 12), (16, 12), (32, 12, 2))
  config.space = {"name": "digits", "stages": stages, "start": ". | . | e3"}
  config.budget = budgets(params=400e3, madds=8e6)
  config.search.update({"optimizer": optimizer, "options": options})
  return search.make_setup(config)


def overheads(repeats: int = 2) -> np.ndarray:
  """Milliseconds of the host between the calls of the evaluator in greedy searches."""
  setup, found = make_setup("greedy"), []
  for repeat in range(repeats + 1):
    evaluator = TableEvaluator(setup.space)
    search.run(setup, evaluator)
    ends, begins = zip(*((end, begin) for begin, end in evaluator.calls))
    if repeat:  # The first one compiles.
      # The last two calls are those of finalists and of the signal.
      found.append(np.subtract(begins[1:-2], ends[:-3]))
  return 1_000 * np.concatenate(found)


def long_search(evaluations: int) -> tuple[np.ndarray, np.ndarray]:
  """Runs the long search; returns after each evaluation the seconds and the memory in MiB."""
  setup = make_setup("regularized_evolution", evaluations=evaluations)
  evaluator = TableEvaluator(setup.space)
  with tempfile.TemporaryDirectory() as folder:
    search.run(setup, evaluator, Journal(pathlib.Path(folder) / JOURNAL_FILE))
  seconds, memory = np.array(evaluator.marks[:evaluations]).T
  return seconds, memory


def table_of(seconds: np.ndarray, memory: np.ndarray, steps: np.ndarray) -> Table:
  """The table: the long search in quarters, then the overhead of a greedy step."""
  table = Table(title=f"{len(seconds):,} evaluations of 216 elements")
  for column in ("", "processor ms for each", "memory, MiB"):
    table.add_column(column, justify="right" if column else "left")
  ends = np.linspace(_FIRST, len(seconds) - 1, 5).astype(int)
  for begin, end in itertools.pairwise(ends):
    each = 1_000 * (seconds[end] - seconds[begin]) / (end - begin)
    table.add_row(f"{begin + 1:,} to {end + 1:,}", f"{each:.2f}", f"{memory[end]:.1f}")
  middle, high = np.percentile(steps, (50, 90))
  table.add_row("a round of greedy, overhead", f"{middle:.2f} (90%: {high:.2f})", "")
  return table


def main(_: Sequence[str]) -> None:
  """Prints the table."""
  steps = overheads()
  seconds, memory = long_search(EVALUATIONS.value)
  Console(width=100, highlight=False).print(table_of(seconds, memory, steps))


if __name__ == "__main__":
  jax.config.update("jax_num_cpu_devices", 1)
  app.run(main)
