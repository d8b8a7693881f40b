"""Searches for the best network within budgets.

python -m experiments.search --config=configs/digits.py --workdir=runs/digits [--dry_run]

The same command again continues where it was stopped.
"""

import contextlib
import pathlib
import time
from typing import Any

import jax
from absl import flags
from ml_collections import ConfigDict
from rich.console import Console

from experiments import common
from nas_submod import files, identity, parallel, preemption, search
from nas_submod.evaluation.evaluator import EvaluationError
from nas_submod.evaluation.journal import JOURNAL_FILE, Journal, open_journal
from nas_submod.evaluation.training_evaluator import TrainingEvaluator
from nas_submod.report import dry_run, finished, live, page, text
from nas_submod.report.origin import origin
from nas_submod.search import inputs
from nas_submod.validation import first_line
from nas_submod.workdir import check_workdir, locked, make_workdir, plain_of

DRY_RUN = flags.DEFINE_bool("dry_run", False, "Say what would be done; train nothing.")
_KEPT = "; the trainings are kept, and the same command continues"
VERBOSE = flags.DEFINE_bool("verbose", False, "Print noise, bound, counts and times too.")


def main(config: ConfigDict) -> None:
  """Prepares, searches, reports."""
  try:
    console = common.start_console()
    setup = search.make_setup(config)
    workdir, plain = common.workdir(), plain_of(config.to_dict())
    decides, files_named = identity.of_evaluations, inputs.of_search(setup)
    common.print_notes(console, setup.data)
    if DRY_RUN.value:
      parallel.on_first_process(lambda: check_workdir(workdir, plain, decides, files_named))
      console.print(dry_run.describe(setup), markup=False)
      return
    lock = contextlib.ExitStack()
    parallel.on_first_process(lambda: lock.enter_context(locked(workdir)))
    # The config in a workdir is that of its result, which a longer search replaces at its end.
    is_new = not (workdir / finished.RESULT_FILE).exists()
    open_workdir = make_workdir if is_new else check_workdir
    parallel.on_first_process(lambda: open_workdir(workdir, plain, decides, files_named))
    made_by = identity.fingerprint_of(decides(plain), files_named)
    journal = open_journal(workdir / JOURNAL_FILE, made_by, setup.check)
  except ValueError as error:
    return common.fail(error)
  with lock, common.one_line(_KEPT):
    result = run(setup, workdir, journal, console)
    if result is None or jax.process_index() > 0:
      return
    result["run"] = origin("experiments.search", common.given_arguments())
    found = finished.make(str(workdir), plain, result, journal, files_named)
    try:
      try:
        make_workdir(workdir, plain, decides, files_named)
        files.write_json(workdir / finished.RESULT_FILE, result)
      finally:  # The disk may be full; the answer is known.
        console.print(text.summary(found, VERBOSE.value), markup=False)
      page.write_page(found, workdir / page.PAGE_FILE)
    except ValueError as error:  # A file in the workdir was damaged or replaced.
      common.fail(f"{error}{_KEPT}")


def run(
  setup: search.Setup, workdir: pathlib.Path, journal: Journal, console: Console
) -> dict[str, Any] | None:
  """Searches; an error, a notice or Ctrl-C ends the command with one line."""
  try:
    common.interrupt_on_sigterm()
    with live.live(setup, console) as display:
      training = TrainingEvaluator(
        setup.space, setup.data, setup.config, journal.weights, display.progress
      )
      began = time.perf_counter()
      evaluator = search.evaluator_with_shared_weights(
        setup, training, workdir, display.sharing, display.progress
      )
      sharing = time.perf_counter() - began
      result = search.run(setup, evaluator, journal, display)
      if setup.shares:
        result["seconds"]["shared_weights"] = sharing
      return result
  except (search.SearchFailedError, FloatingPointError) as error:
    return common.fail(error)
  except preemption.Preempted as notice:
    return common.stop(f"{notice}; the same command continues", preemption.EXIT_CODE)
  except ValueError as error:
    if not common.is_ours(error):  # A fault in a user's code is shown with its place.
      raise
    return common.fail(error)
  except jax.errors.JaxRuntimeError as error:
    # At once: other processes may wait for this one.
    return common.stop(f"error: the device failed: {first_line(error)}{_KEPT}", 1)
  except EvaluationError as error:
    return common.stop(f"error: {error}{_KEPT}", 1)
  except KeyboardInterrupt as interrupt:
    code = 143 if isinstance(interrupt, common.Terminated) else 130
    return common.stop(
      f"stopped; the same command continues (trainings kept: {len(journal)})", code
    )


if __name__ == "__main__":
  common.run(main)
