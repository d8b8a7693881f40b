"""Searches for the best network within budgets.

python -m experiments.search --config=configs/digits.py --workdir=runs/digits [--dry_run]

The same command continues a search that was stopped. With --pareto, it searches within each budget
of `config.front`, and reuses evaluations; front.html in the workdir shows all answers.
"""

import contextlib
import functools
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import jax
from absl import flags
from ml_collections import ConfigDict
from rich.console import Console

from experiments import common
from nas_submod import files, identity, parallel, preemption, search
from nas_submod.evaluation.evaluator import Evaluation, EvaluationError
from nas_submod.evaluation.journal import JOURNAL_FILE, Journal, open_journal
from nas_submod.evaluation.training_evaluator import TrainingEvaluator
from nas_submod.origin import origin
from nas_submod.report import dry_run, finished, front, live, page, text
from nas_submod.report.finished import Finished
from nas_submod.search import front as front_search
from nas_submod.search import inputs
from nas_submod.validation import first_line, located
from nas_submod.workdir import check_workdir, locked, make_workdir

DRY_RUN = flags.DEFINE_bool("dry_run", False, "Say what would be done; train nothing.")
PARETO = flags.DEFINE_bool("pareto", False, "Search within each budget of config.front.")
_KEPT = "; the trainings are kept, and the same command continues"
VERBOSE = flags.DEFINE_bool("verbose", False, "Print noise, bound, counts and times too.")


def main(config: ConfigDict) -> None:
  """Prepares, searches, reports."""
  try:
    console = common.start_console()
    workdir = common.workdir()
    configs = {workdir: config}
    if PARETO.value:
      configs = {workdir / name: this for name, this in front_search.configs(config).items()}
    setups: dict[pathlib.Path, search.Setup] = {}
    for folder, this in configs.items():
      images = setups[next(iter(setups))].data if setups else None  # Loaded once.
      make = functools.partial(search.make_setup, this, images)
      place = f"--pareto, {folder.name} (config.front)"
      with located(place) if PARETO.value else contextlib.nullcontext():
        setups[folder] = parallel.on_all_processes(make)
    common.print_notes(console, setups[next(iter(setups))].data)
    folders = {folder: inputs.identity_of(setup) for folder, setup in setups.items()}
    for made_from in folders.values():
      inputs.check_same_everywhere(made_from.named)

    kept: dict[pathlib.Path, int] = {}

    def check() -> None:
      """Checks all folders before the first search, which may take days."""
      for folder, (plain, named, made_by) in folders.items():
        check_workdir(folder, plain, identity.of_evaluations, named, may_replace=True)
        kept[folder] = len(Journal(folder / JOURNAL_FILE, made_by, setups[folder].check))

    parallel.on_first_process(check)
    if DRY_RUN.value:
      for folder, setup in setups.items():
        console.print(dry_run.describe(setup), markup=False)
        if count := kept.get(folder):
          console.print(
            f"journal    {folder} has {count:,} evaluations; the search reuses those that it needs",
            markup=False,
          )
      return
  except ValueError as error:
    common.fail(error)
  known: list[Evaluation] = []
  searches = []
  trainers: list[TrainingEvaluator] = []  # The first search makes one, whose programs all use.
  for folder, setup in setups.items():
    found, journal = search_in(folder, setup, folders[folder], console, trainers, known)
    known = [evaluation for evaluation in journal if evaluation.metrics is not None]
    searches.append(found)
  if PARETO.value and jax.process_index() == 0:
    with common.one_line(_KEPT):
      console.print(f"\n{front.text(searches)}", markup=False)
      files.write_json(workdir / front.FILE, front.content(searches))
      files.write_bytes(workdir / front.PAGE, front.page(searches, workdir).encode())
      console.print(f"files   {workdir}/: {front.FILE}, {front.PAGE}", markup=False)


def search_in(
  workdir: pathlib.Path,
  setup: search.Setup,
  made_from: inputs.Identity,
  console: Console,
  trainers: list[TrainingEvaluator],
  known: Sequence[Evaluation] = (),
) -> tuple[Finished, Journal]:
  """Searches, prints the summary, and writes result and page.

  Args:
    workdir: The folder of this search.
    setup: The search.
    made_from: What decides its values.
    console: Where it prints.
    trainers: The evaluator of an earlier search that differs in budgets alone; if empty, the new
      one is added.
    known: Evaluations of other searches, which are not repeated.

  Returns:
    The search as reports read it, and its evaluations.
  """
  plain, named, made_by = made_from
  try:
    lock = contextlib.ExitStack()
    parallel.on_first_process(lambda: lock.enter_context(locked(workdir)))
    # The config in a workdir belongs to its result; a longer search replaces both at its end.
    is_new = not (workdir / finished.RESULT_FILE).exists()
    open_workdir = make_workdir if is_new else check_workdir
    parallel.on_first_process(
      lambda: open_workdir(workdir, plain, identity.of_evaluations, named, may_replace=True)
    )
    journal = open_journal(workdir / JOURNAL_FILE, made_by, setup.check)
    journal.add([e for e in known if journal.get(e.key, e.replicate) is None])
  except ValueError as error:
    common.fail(error)
  with lock, common.one_line(_KEPT):
    result = run(setup, workdir, journal, console, trainers)
    result["run"] = origin("experiments.search", common.given_arguments())
    found = finished.make(str(workdir), plain, result, journal, named)
    if jax.process_index() > 0:
      return found, journal
    try:
      try:
        make_workdir(workdir, plain, identity.of_evaluations, named)
        files.write_json(workdir / finished.RESULT_FILE, result)
      finally:  # The disk may be full; the answer is known.
        console.print(text.summary(found, VERBOSE.value), markup=False)
      page.write_page(found, workdir / page.PAGE_FILE)
    except ValueError as error:  # A file in the workdir was damaged or replaced.
      common.fail(f"{error}{_KEPT}")
    return found, journal


def run(
  setup: search.Setup,
  workdir: pathlib.Path,
  journal: Journal,
  console: Console,
  trainers: list[TrainingEvaluator],
) -> dict[str, Any]:
  """Searches; an error, SIGTERM or Ctrl-C ends the command with one line."""
  try:
    common.interrupt_on_sigterm()
    with live.live(setup, console) as display:
      if not trainers:
        trainers.append(TrainingEvaluator(setup.space, setup.data, setup.config))
      trainers[0].on_progress = display.progress
      began = time.perf_counter()
      evaluator = search.evaluator_with_shared_weights(
        setup, trainers[0], workdir, display.sharing, display.progress
      )
      sharing = time.perf_counter() - began
      result = search.run(setup, evaluator, journal, display)
      if setup.shares:
        result["seconds"]["shared_weights"] = sharing
      return result
  except (search.SearchFailedError, FloatingPointError) as error:
    common.fail(error)
  except preemption.Preempted as notice:
    common.stop(f"{notice}; the same command continues", preemption.EXIT_CODE)
  except ValueError as error:
    if not common.is_ours(error):  # A fault in a user's code is shown with its place.
      raise
    common.fail(error)
  except jax.errors.JaxRuntimeError as error:
    # At once: other processes may wait for this one.
    common.stop(f"error: the device failed: {first_line(error)}{_KEPT}", 1)
  except EvaluationError as error:
    common.stop(f"error: {error}{_KEPT}", 1)
  except KeyboardInterrupt as interrupt:
    code = 143 if isinstance(interrupt, common.Terminated) else 130
    common.stop(f"stopped; the same command continues (trainings kept: {len(journal)})", code)


if __name__ == "__main__":
  common.run(main)
