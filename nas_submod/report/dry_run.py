"""The plan of a search, for `--dry_run`: what it would do, and roughly how long it takes."""

import time

import jax
import jax.numpy as jnp
import numpy as np

from nas_submod import parallel, training
from nas_submod.evaluation.shared_weights import settings as shared_settings
from nas_submod.optimizers.random_sets import random_set
from nas_submod.report.feasibility import feasibility_lines
from nas_submod.report.live import duration
from nas_submod.resources import mask_cost, network_cost
from nas_submod.search.estimate import Estimate, estimate
from nas_submod.search.setup import Setup


def describe(setup: Setup) -> str:
  """Describes what a search would do."""
  space, data = setup.space, setup.data
  start = network_cost(space, space.start)
  train = setup.config["train"]
  steps = training.recipe(train, data).steps
  inherited, screening = (train.get(f"{kind}_steps", 0) for kind in ("inherit", "screen"))
  name, expected = setup.config["search"]["optimizer"], estimate(setup)
  shared, sharing = 0, []
  if setup.shares:
    found = shared_settings.from_config(setup.config, data)
    shared = found.stores * found.recipe.steps
    sharing = [
      f"shared     {shared:,} steps of weights that all networks share, as long as "
      f"{shared / steps:.0f} trainings" + f"; a pool of {found.pool} networks" * setup.guided
    ]
  if expected.search is None:
    guess = "set config.search.max_evaluations to limit it"
  else:
    all_steps = expected.short * screening + expected.final * steps
    all_steps += expected.search * (inherited or steps)
    all_steps += shared * 3 / 4  # Of networks that fill half of the budgets on average.
    # The backward pass costs twice the forward pass, rematerialisation one forward pass more.
    work = 4 * train["batch_size"] * np.mean([start["madds"], _typical_madds(setup)])
    seconds = all_steps * work / _madds_per_second() / parallel.device_count()
    guess = f"{duration(seconds)} (a rough guess from multiply-adds, without compiling)"
  return "\n".join(
    [
      *feasibility_lines(space, setup.budget, setup.resources),
      f"space      {space.name}: {space.positions} positions, {len(space.options)} options, "
      f"{space.elements} elements",
      f"           {space.distinct():,} distinct networks contain the start set",
      f"data       {len(data.train.labels):,} train, {len(data.validation.labels):,} validation, "
      f"{len(data.test.labels):,} test images of {data.train.images.shape[1:]}",
      f"start      {space.text(space.start)}",
      f"optimizer  {name}" + (f": runs {', '.join(setup.runs)}" if len(setup.runs) > 1 else ""),
      *([f"first step {_candidates(setup, expected)}"] if setup.grows else []),
      f"training   {steps} steps of {train['batch_size']} images a network"
      + (f", {inherited} of one that inherits" if inherited else "")
      + (f", {screening} for all of a large call" if screening else ""),
      *sharing,
      f"estimate   {_trainings(setup, expected)}",
      f"           {guess}",
      f"devices    {parallel.device_count()} x {jax.local_devices()[0].device_kind}",
    ]
  )


def _candidates(setup: Setup, expected: Estimate) -> str:
  """The number of networks of one block more, and how many of them a limit leaves."""
  left = (setup.config["search"]["max_evaluations"] or expected.candidates + 1) - 1
  limited = f", {left} of them within the limit" if left < expected.candidates else ""
  return f"{expected.candidates} distinct candidates{limited}"


def _trainings(setup: Setup, expected: Estimate) -> str:
  """The number of trainings of the search and of its finalists."""
  train = setup.config["train"]
  whole = " in full" if train.get("screen_steps", 0) and not train.get("inherit_steps", 0) else ""
  if expected.search is None:
    told = f"more than 1,000 trainings{whole}"
  elif not expected.search:
    told = "no trainings"
  elif expected.search == expected.most:
    told = f"at most {expected.most:,} trainings{whole}"
  else:
    told = f"about {expected.search:,} trainings{whole}"
  told += " in the search"
  if expected.short:
    told += f" after {expected.short} short ones"
  elif train.get("screen_steps", 0):
    told += " (short ones of large calls apart)"
  signal = " and signal" if setup.grows else ""
  return f"{told}, at most {expected.final} for finalists{signal}"


def _typical_madds(setup: Setup) -> float:
  """Mean multiply-adds of random networks that fill the budgets."""
  keys = jax.random.split(jax.random.key(0), 16)
  masks = jax.jit(jax.vmap(lambda key: random_set(setup.problem, key, stop=0.0)))(keys)
  return float(mask_cost(setup.space, ("madds",))(np.asarray(masks)).mean())


def _madds_per_second() -> float:
  """Multiply-adds a second of one device: an eighth of the speed of a matrix product.

  The fastest of several, since other programs may be running too.
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
