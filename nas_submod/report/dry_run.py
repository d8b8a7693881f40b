"""The plan of a search, for `--dry_run`: what it would do, and roughly how long it takes."""

import time

import jax
import jax.numpy as jnp
import numpy as np

from nas_submod import parallel, training
from nas_submod.evaluation.shared_weights import settings as shared_settings
from nas_submod.optimizers.random_sets import maximal_sets
from nas_submod.report.budget_lines import budget_lines
from nas_submod.report.live import duration
from nas_submod.resources import mask_cost, network_cost
from nas_submod.search.estimate import Estimate, estimate
from nas_submod.search.setup import Setup

# Cost of a training step in forward passes: the backward pass costs two, rematerialisation one.
_PASSES = 4


def describe(setup: Setup) -> str:
  """Describes what a search would do."""
  space, data = setup.space, setup.data
  start = network_cost(space, space.start)
  train = setup.config["train"]
  steps = training.recipe(train, data).steps
  name, expected = setup.config["search"]["optimizer"], estimate(setup)
  if expected.rounds is None or expected.scored is None:
    guess = "set config.search.max_evaluations to limit it"
  else:
    devices = parallel.device_count()
    typical = _typical_madds(setup)
    # Only greedy searches train networks of every size from the start on.
    mean = (start["madds"] + typical) / 2 if setup.grows else typical
    work = _PASSES * train["batch_size"] * expected.rounds * steps * mean
    work += _shared_work(setup, expected.scored, start["madds"], typical) / devices
    seconds = work / _madds_per_second()
    guess = f"{duration(seconds)} (a rough guess from multiply-adds, without compiling)"
  references = setup.config["search"].get("references") or ()
  left_out = [reference for reference in references if reference not in setup.references]
  return "\n".join(
    [
      *budget_lines(space, setup.budget, setup.resources),
      f"space      {space.name}: {space.positions} positions, {len(space.options)} options, "
      f"{space.elements} elements",
      f"           {space.distinct():,} distinct networks contain the start set",
      f"data       {len(data.train.labels):,} train, {len(data.validation.labels):,} validation, "
      f"{len(data.test.labels):,} test images of {data.train.images.shape[1:]}",
      f"start      {space.text(space.start)}",
      f"optimizer  {name}" + (f": runs {', '.join(setup.runs)}" if len(setup.runs) > 1 else ""),
      *([f"first step {_candidates(setup, expected)}"] if setup.grows else []),
      f"training   {steps} steps of {train['batch_size']} images a network",
      *([_shared(setup, expected)] if setup.shares else []),
      *([f"references {', '.join(left_out)}: over the budgets, left out"] if left_out else []),
      f"estimate   {_trainings(setup, expected)}",
      f"           {guess}",
      f"devices    {parallel.device_count()} x {jax.local_devices()[0].device_kind}",
    ]
  )


def _shared(setup: Setup, expected: Estimate) -> str:
  """The training of shared weights, and the networks that they score."""
  found = shared_settings.from_config(setup.config, setup.data)
  steps = found.stores * found.recipe.steps
  short = training.recipe(setup.config["train"], setup.data)
  images = steps * found.recipe.batch_size / (short.steps * short.batch_size)
  scores = "more than 1,000" if expected.scored is None else f"about {expected.scored:,}"
  return (
    f"shared     {steps:,} steps of weights that all networks share, as long as "
    f"{images:.0f} trainings; "
    + (f"a pool of {found.pool} networks" if setup.guided else f"{scores} scores")
  )


def _shared_work(setup: Setup, scored: int, start: float, typical: float) -> float:
  """Multiply-adds of training and scoring with shared weights, from those of two networks."""
  if not setup.shares:
    return 0.0
  found = shared_settings.from_config(setup.config, setup.data)
  share = (1 + found.least_share) / 2  # of the budgets, on average
  images = found.recipe.steps * found.recipe.batch_size
  of_steps = _PASSES * images * (start + share * (typical - start))
  of_score = (found.statistics_images + len(setup.data.validation.labels)) * (start + typical) / 2
  return found.stores * (of_steps + scored * of_score)


def _candidates(setup: Setup, expected: Estimate) -> str:
  """The number of networks with one block more, and how many of them a limit allows."""
  left = (setup.config["search"]["max_evaluations"] or expected.candidates + 1) - 1
  limited = f", {left} of them within the limit" if left < expected.candidates else ""
  return f"{expected.candidates} distinct candidate{'s'[expected.candidates == 1 :]}{limited}"


def _trainings(setup: Setup, expected: Estimate) -> str:
  """The number of trainings of the search and of its finalists."""
  if expected.search is None:
    told = "more than 1,000 trainings"
  elif not expected.search:
    told = "no trainings"
  elif expected.search == expected.most:
    told = f"at most {expected.most:,} trainings"
  else:
    told = f"about {expected.search:,} trainings"
  # Every search begins with the start network. Some optimizers never ask for it.
  besides = " besides the start network" if expected.search and not setup.grows else ""
  signal = " and signal" if setup.grows else ""
  return f"{told} in the search{besides}, at most {expected.final} for finalists{signal}"


def _typical_madds(setup: Setup) -> float:
  """Mean multiply-adds of random networks that fill the budgets."""
  masks = jax.jit(maximal_sets, static_argnums=2)(setup.problem, jax.random.key(0), 16)
  return float(mask_cost(setup.space, ("madds",))(np.asarray(masks)).mean())


def _madds_per_second() -> float:
  """Multiply-adds per second of one device: an eighth of the speed of a matrix product.

  Takes the fastest of several runs, since other programs may be running too.
  """
  side = 512
  product = jax.jit(lambda x: x @ x)
  x = jnp.ones((side, side))
  jax.block_until_ready(product(x))
  fastest = np.inf
  for _ in range(20):
    began = time.perf_counter()
    jax.block_until_ready(product(x))
    fastest = min(fastest, time.perf_counter() - began)
  return side**3 / fastest / 8
