"""Searches for the best network within budgets.

python -m experiments.search --config=configs/digits.py --workdir=runs/digits [--dry_run]

The same command again continues where it was stopped.
"""

import time

import jax
from absl import flags
from ml_collections import ConfigDict

from experiments import common
from nas_submod import files, parallel, preemption, search
from nas_submod.evaluation.journal import JOURNAL_FILE, open_journal
from nas_submod.evaluation.training_evaluator import TrainingEvaluator
from nas_submod.report import dry_run, live, page, text
from nas_submod.validation import first_line
from nas_submod.workdir import make_workdir

DRY_RUN = flags.DEFINE_bool("dry_run", False, "Say what would be done; train nothing.")


def main(config: ConfigDict) -> None:
  """Prepares, searches, reports."""
  try:
    console = common.start_console()
    setup = search.make_setup(config)
    if DRY_RUN.value:
      console.print(dry_run.describe(setup), markup=False)
      return
    workdir = common.workdir()
    parallel.on_first_process(lambda: make_workdir(workdir, config.to_dict()))
    journal = open_journal(workdir / JOURNAL_FILE)
  except ValueError as error:
    return common.fail(error)
  try:
    common.interrupt_on_sigterm()
    with live.live(setup, console) as display:
      training = TrainingEvaluator(
        setup.space, setup.data, config, journal.weights, display.progress
      )
      began = time.perf_counter()
      evaluator = search.evaluator_with_shared_weights(
        setup, training, workdir, display.sharing, display.progress
      )
      sharing = time.perf_counter() - began
      result = search.run(setup, evaluator, journal, display)
      if setup.shares:
        result["seconds"]["shared_weights"] = sharing
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
    return common.stop(f"error: the device failed: {first_line(error)}; trainings are kept", 1)
  except KeyboardInterrupt as interrupt:
    code = 143 if isinstance(interrupt, common.Terminated) else 130
    return common.stop(
      f"stopped; the same command continues (trainings kept: {len(journal)})", code
    )
  if jax.process_index() > 0:
    return
  files.write_json(workdir / "result.json", result)
  page.write_page(setup, result, journal, workdir / "report.html")
  console.print(text.summary(setup, result, workdir), markup=False)


if __name__ == "__main__":
  common.run(main)
