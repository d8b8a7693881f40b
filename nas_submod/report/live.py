"""The live display of a search: steps, costs against the budgets, time left."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from nas_submod import training
from nas_submod.evaluation.journal import Journaled
from nas_submod.report.text import number
from nas_submod.resources import network_cost
from nas_submod.search.estimate import estimate
from nas_submod.search.finalists import Row
from nas_submod.search.loop import Display
from nas_submod.search.setup import Setup

_LAST = ("finalists", "signal")  # The phases after the optimizer is done.
LOG_EVERY = 60.0  # least seconds between lines of a log
_FEW = 5  # trainings of the greedy phase; before that, the budgets say little about the time left


def duration(seconds: float) -> str:
  """Hours, minutes and seconds."""
  minutes, rest = divmod(int(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _Watch:
  """The state of the live display."""

  def __init__(self, setup: Setup):
    self.setup = setup
    self.expected = estimate(setup)
    self.full_steps = training.recipe(setup.config["train"], setup.data).steps
    self.began = time.monotonic()
    self.start = network_cost(setup.space, setup.space.start, setup.resources)
    self.rows: dict[str, Row] = {}
    self.counts: Journaled | None = None
    self.phase = "start"
    self.needed_before: dict[str, int] = {}  # Evaluations asked for when a phase began.
    self.known_before: int | None = None  # Trainings done and reused when finalists began.
    self.line = "shared weights: compiling a program" if setup.shares else "loading"
    self.first_shared: tuple[float, int] | None = None  # Time and step of the first report.

  def accepted(self, row: Row) -> str:
    """Records a step and returns it as one line."""
    self.rows[row["run"]] = row
    costs = ", ".join(
      f"{name} {row['resources'][name] / limit:.0%}" for name, limit in self.setup.budget.items()
    )
    tie = " (tie)" if row["tie"] else ""
    return f"{row['run']:>15} step {row['step']:<3} value {row['value']:.4f}{tie}  {costs}"

  def working(self, counts: Journaled, phase: str) -> None:
    """Records the counts and the phase before evaluations."""
    self.counts, self.phase = counts, phase
    self.needed_before.setdefault(phase, counts.needed)
    if phase in _LAST and self.known_before is None:
      self.known_before = counts.trained + counts.reused
    self.line = self._line(counts, 0.0)

  def sharing(self, step: int, steps: int) -> None:
    """Records the progress of the training of shared weights."""
    now = time.monotonic()
    # The first call comes after compiling. A resumed training begins at a later step.
    self.first_shared = self.first_shared or (now, step)
    began, before = self.first_shared
    line = f"shared weights: step {step:,} of {steps:,}"
    if step > before:
      line += f"; {duration((now - began) / (step - before) * (steps - step))} left"
    self.line = line

  def progress(self, share: float) -> None:
    """Records the progress of a round; it is 0 while its program is compiled."""
    if not share:
      self.line = (
        f"{self.phase}: compiling one program for all networks, which takes minutes; if stopped "
        "now, it starts over"
      )
    elif self.counts is not None:
      self.line = self._line(self.counts, share)

  def _line(self, counts: Journaled, share: float) -> str:
    """The counts, the share of the round that is done, and the time left."""
    line = f"{self.phase}: trained {counts.trained}"
    line += f", scored {counts.scored}" if counts.scored else ""
    line += f", reused {counts.reused}"
    line += f", failed {sum(counts.failed.values())}"
    line += f", round {share:.0%}" if share else ""
    # The start network is the first and the fastest one: its time says little about the others.
    known = self.expected.search is not None or self.phase in _LAST
    if known and counts.steps and counts.trained > 1:
      left = max(self._steps_left(counts), (1 - share) * self.full_steps if share else 0)
      seconds = left * counts.seconds / counts.steps
      line += f"; {duration(seconds)} of training left" if left else ""
    return line

  def status(self) -> str:
    """The time so far and the phase."""
    return f"{duration(time.monotonic() - self.began)} {self.line}"

  def _steps_left(self, counts: Journaled) -> float:
    """Steps still to train, of the search and of the finalists."""
    if self.phase in _LAST:
      done = counts.trained + counts.reused - (self.known_before or 0)
      return self.full_steps * max(self.expected.final - done, 0)
    of_search = self._trainings_left(counts) * counts.steps / counts.trained
    return of_search + self.full_steps * self.expected.final

  def _trainings_left(self, counts: Journaled) -> float:
    """Trainings left in the search: first by the estimate, then by the room in the budgets."""
    shares = [self._share_used(row) for row in self.rows.values()]
    done = float(np.mean(shares)) if shares else 0.0
    since = counts.needed - self.needed_before.get("greedy", counts.needed)
    if since < _FEW or done < 0.1:
      return max((self.expected.search or 0) - counts.needed, 0)
    return since * (1 - done) / done

  def _share_used(self, row: Row) -> float:
    """Share of the way from the start network to the budget that a run will meet first.

    Peaks are left out: the first block may already reach their limit.
    """
    shares = [0.0]
    for name, limit in self.setup.budget.items():
      if limit > self.start[name] and self.setup.resources[name].additive:
        shares.append((row["resources"][name] - self.start[name]) / (limit - self.start[name]))
    return max(shares)

  def table(self) -> Group:
    """The live table."""
    table = Table(title=Text(f"{self.setup.space.name}: {self.setup.config['score']}"))
    for column in ("run", "step", "value", *self.setup.budget):
      # Folded in a narrow terminal, because a truncated number is wrong.
      justify: Any = "left" if column == "run" else "right"
      table.add_column(Text(column), justify=justify, overflow="fold")
    for row in list(self.rows.values()):  # Another thread adds rows.
      costs = [
        f"{number(row['resources'][name])} ({row['resources'][name] / limit:.0%})"
        for name, limit in self.setup.budget.items()
      ]
      value = f"{row['value']:.4f}" + (" (tie)" if row["tie"] else "")
      table.add_row(Text(row["run"]), str(row["step"]), value, *costs)
    return Group(table, Text(self.status()))


def write_line(console: Console, line: str) -> None:
  """Writes a line of a log, at once: someone may follow its file."""
  console.print(line, highlight=False, markup=False)
  console.file.flush()


@contextlib.contextmanager
def live(setup: Setup, console: Console) -> Iterator[Display]:
  """Shows a search while it runs: a table in a terminal, lines elsewhere."""
  console.print("estimating how many trainings this will take")
  watch = _Watch(setup)
  if not console.is_terminal:
    last_said = -np.inf

    def say(line):
      nonlocal last_said
      last_said = time.monotonic()
      write_line(console, line)

    said: set[str] = set()

    def say_now_and_then():
      if time.monotonic() - last_said >= LOG_EVERY:
        say(watch.status())

    def working(counts, phase):
      watch.working(counts, phase)
      if phase not in said:
        said.add(phase)
        say(watch.status())

    def progress(share):
      watch.progress(share)
      if share:
        say_now_and_then()
      else:
        say(watch.status())

    def sharing(step, steps):
      watch.sharing(step, steps)
      if step == steps:
        say(watch.status())
      say_now_and_then()

    yield Display(lambda row: say(watch.accepted(row)), working, progress, sharing)
    return
  with Live(console=console, get_renderable=watch.table, refresh_per_second=4):
    yield Display(watch.accepted, watch.working, watch.progress, watch.sharing)
