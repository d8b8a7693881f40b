"""The live display of a search: steps, costs against the budgets, time left."""

import contextlib
import time
from collections.abc import Iterator

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from nas_submod import training
from nas_submod.evaluation.objective import ProxyObjective
from nas_submod.resources.additive import network_cost
from nas_submod.search.estimate import estimate
from nas_submod.search.loop import Accepted, Display
from nas_submod.search.setup import Setup

_LAST = ("finalists", "signal")  # what is done once the search is over


def duration(seconds: float) -> str:
  """Hours, minutes and seconds."""
  minutes, rest = divmod(int(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _Watch:
  """State of the live display."""

  def __init__(self, setup: Setup):
    self.setup = setup
    self.expected = estimate(setup)
    self.whole = training.recipe(setup.config["train"], setup.data).steps
    self.began = time.monotonic()
    self.start = network_cost(setup.space, setup.space.start)
    self.rows: dict[str, Accepted] = {}
    self.before_greedy: int | None = None
    self.before_last: int | None = None
    self.line = "loading"

  def accepted(self, step: Accepted) -> str:
    """Takes in a step and says it in one line."""
    self.rows[step.run] = step
    costs = ", ".join(
      f"{name} {step.resources[name] / limit:.0%}" for name, limit in self.setup.budget.items()
    )
    tie = " (tie)" if step.tie else ""
    return f"{step.run:>15} step {step.step:<3} value {step.value:.4f}{tie}  {costs}"

  def progress(self, objective: ProxyObjective, share: float, doing: str) -> None:
    """Takes in how far training is."""
    if not objective.trained and not objective.compilations.programs:
      self.line = f"{doing}: compiling the program for every network, a minute or so"
      return
    self.line = f"{doing}: trained {objective.trained}, reused {objective.reused}"
    self.line += f", failed {objective.failed}"
    if objective.steps and (self.expected.search is not None or doing in _LAST):
      left = max(self._steps_left(objective, doing), (1 - share) * self.whole)
      seconds = left * objective.train_seconds / objective.steps
      self.line += f"; {duration(seconds)} of training left"

  def status(self) -> str:
    """What is being done, and for how long."""
    return f"{duration(time.monotonic() - self.began)} {self.line}"

  def _steps_left(self, objective: ProxyObjective, doing: str) -> float:
    """Steps still to train: of the search, where some are short, then of what is last, in full."""
    if doing in _LAST:
      if self.before_last is None:
        self.before_last = objective.trained
      return self.whole * (self.expected.final - (objective.trained - self.before_last))
    of_search = self._remaining(objective, doing) * objective.steps / objective.trained
    return of_search + self.whole * self.expected.final

  def _remaining(self, objective: ProxyObjective, doing: str) -> float:
    """Trainings of the search to come: the estimate, then what the budgets have room for."""
    shares = [self._share_used(step) for step in self.rows.values()]
    done = float(np.mean(shares)) if shares else 0.0
    if doing != "greedy" or done < 0.1:
      return max((self.expected.search or 0) + self.expected.short - objective.trained, 0)
    if self.before_greedy is None:
      self.before_greedy = objective.trained
    return (objective.trained - self.before_greedy) * (1 - done) / done

  def _share_used(self, step: Accepted) -> float:
    """How far a run is from the start set to the budget that it will meet first."""
    return max(
      (step.resources[name] - self.start[name]) / max(limit - self.start[name], 1)
      for name, limit in self.setup.budget.items()
    )

  def table(self) -> Group:
    """The live table."""
    table = Table(title=f"{self.setup.space.name}: {self.setup.config['score']}")
    for column in ("run", "step", "value", *self.setup.budget):
      table.add_column(column, justify="left" if column == "run" else "right")
    for step in self.rows.values():
      costs = [
        f"{step.resources[name]:,} ({step.resources[name] / limit:.0%})"
        for name, limit in self.setup.budget.items()
      ]
      value = f"{step.value:.4f}" + (" (tie)" if step.tie else "")
      table.add_row(step.run, str(step.step), value, *costs)
    return Group(table, Text(self.status()))


@contextlib.contextmanager
def live(setup: Setup, console: Console) -> Iterator[Display]:
  """Shows a search while it runs: a table in a terminal, lines elsewhere."""
  console.print("estimating how many trainings this will take")
  watch = _Watch(setup)
  if not console.is_terminal:

    def say(line):
      console.print(line, highlight=False, markup=False)
      console.file.flush()  # A log that is watched is not written in blocks.

    said: set[str] = set()

    def progress(objective, share, doing):
      watch.progress(objective, share, doing)
      if doing not in said:
        said.add(doing)
        say(watch.status())

    yield Display(lambda step: say(watch.accepted(step)), progress)
    return
  with Live(console=console, get_renderable=watch.table, refresh_per_second=4):
    yield Display(lambda step: (watch.accepted(step), None)[1], watch.progress)
