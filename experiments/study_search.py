"""The study of a search config: which networks are trained, and their values.

Chains of networks grow from the start network by random blocks, until nothing fits. For every block
of a chain, its gain is measured in the chain, one block earlier, and at the start. So the same
block is measured at smaller and larger sets. Each network has its own training seeds, so the noise
of different networks is independent.
"""

import pathlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments.study_measures import SEED, assumption, rank_correlation
from nas_submod import identity, parallel, search
from nas_submod.evaluation.evaluator import Job, standard_error
from nas_submod.evaluation.journal import JOURNAL_FILE, Journaled, open_journal
from nas_submod.evaluation.training_evaluator import TrainingEvaluator
from nas_submod.report.live import duration
from nas_submod.search import inputs
from nas_submod.set_functions.measured import measured
from nas_submod.workdir import make_workdir

_SEEDS_APART = 1_000_000  # Replicate t of network i is i + t times this.
_TELL_EVERY = 30  # seconds


class Design(NamedTuple):
  """The sets of a study.

  Attributes:
    masks: All sets, the start first. `[K, n]` bool.
    chains: The rows of each chain, from the start on.
  """

  masks: np.ndarray
  chains: list[list[int]]


class Sizes(NamedTuple):
  """Chains, and trainings of each of their networks."""

  chains: int
  trainings: int


class Longer(NamedTuple):
  """How many times as long some networks are trained, and how many networks."""

  times: float
  networks: int


def study(
  config: ConfigDict,
  sizes: Sizes,
  longer: Longer | None,
  workdir: pathlib.Path,
  tell: Callable[[str], None],
) -> dict[str, Any]:
  """Studies a search config; every training is kept in the workdir.

  Args:
    config: The config.
    sizes: How much is trained.
    longer: What is trained longer, for the rank correlation; None for nothing.
    workdir: The folder.
    tell: Called with lines of progress.

  Raises:
    ValueError: If the config is wrong, or the start network cannot be trained.
  """
  setup = search.make_setup(config)
  design = draw(setup, sizes.chains)
  networks, objects = distinct(setup, design.masks)
  # Wrong settings of longer trainings are found before any training.
  of_longer = longer and search.make_setup(with_longer(config, longer.times), setup.data)
  scores = evaluate(setup, dict(enumerate(networks)), sizes.trainings, workdir / "short", tell)
  good = np.isfinite(scores).all(axis=1)
  kept = good[objects]
  if not kept[0]:
    raise ValueError("a training of the start network failed: lower config.train.learning_rate")
  samples = scores[objects[kept]]
  of = measured(design.masks[kept], samples, objects[kept])
  values = np.where(good, scores.mean(axis=1), np.nan)[objects]
  chains = [values[chain] for chain in design.chains]
  result = {
    "space": setup.space.name,
    "score": config.score,
    "failed": int((~good).sum()),
    **assumption(of, samples, 0),
    "growth": growth([chain[: _known(chain)].tolist() for chain in chains], float(of.errors[0])),
  }
  if longer and of_longer:
    in_chains = np.unique(objects[np.concatenate(design.chains)])
    ranked = sorted(in_chains.tolist(), key=_place)[: longer.networks]
    asked = {number: networks[number] for number in ranked}
    long = evaluate(of_longer, asked, 1, workdir / "longer", tell)[:, 0]
    ended = good[ranked] & np.isfinite(long)
    short, long = scores[ranked][ended], long[ended]
    result |= {"longer": longer.times, "ranked": len(long)}
    if len(long) > 2:
      result |= {
        "rank_correlation": rank_correlation(short[:, 0], long),
        "rank_correlation_of_means": rank_correlation(short.mean(axis=1), long),
      }
  return result


def draw(setup: search.Setup, chains: int) -> Design:
  """Draws the sets. A larger number of chains begins with the same ones."""
  fits_of = jax.jit(lambda problem, mask: problem.additions(mask).fits)
  start = np.asarray(setup.space.required)
  row_of: dict[bytes, int] = {start.tobytes(): 0}
  masks, drawn = [start], []

  def row(mask: np.ndarray) -> int:
    found = row_of.setdefault(mask.tobytes(), len(masks))
    if found == len(masks):
      masks.append(mask)
    return found

  first = np.asarray(fits_of(setup.problem, jnp.asarray(start)))
  for number in range(chains):
    rng = np.random.default_rng((setup.config["seed"], number))
    before, mask, fits, chain = start, start, first, [0]
    while fits.any():
      added = np.arange(len(mask)) == rng.choice(np.flatnonzero(fits))
      if chain[1:]:
        earlier = before | added  # One block earlier.
        if setup.problem.feasible(jnp.asarray(earlier)):  # Costs are not monotone in every space.
          row(earlier)
      if (first & added).any():
        row(start | added)
      before, mask = mask, mask | added
      chain.append(row(mask))
      fits = np.asarray(fits_of(setup.problem, jnp.asarray(mask)))
    drawn.append(chain)
  return Design(np.array(masks), drawn)


def evaluate(
  setup: search.Setup,
  architectures: Mapping[int, tuple[int, ...]],
  trainings: int,
  workdir: pathlib.Path,
  tell: Callable[[str], None],
) -> np.ndarray:
  """Trains canonical networks, or reads known scores from the workdir. `[K, trainings]`.

  The score of a failed training is -inf.

  Args:
    setup: The search.
    architectures: The networks by their number, which decides their seeds.
    trainings: Trainings of each.
    workdir: The folder.
    tell: Called with lines of progress.
  """
  plain, named, made_by = inputs.identity_of(setup)
  make_workdir(workdir, plain, identity.of_evaluations, named)
  journal = open_journal(workdir / JOURNAL_FILE, made_by, setup.check)
  trainer = TrainingEvaluator(setup.space, setup.data, setup.config)
  evaluator = Journaled(trainer, setup.space, journal)
  jobs = [
    Job(architecture, number + repeat * _SEEDS_APART, full=True)
    for repeat in range(trainings)
    for number, architecture in architectures.items()
  ]
  scores: list[float] = []
  missing = [job for job in jobs if not journal.get(setup.space.key(job[0]), job.replicate)]
  began = told = time.monotonic()
  tell(f"{len(jobs)} trainings of {len(architectures)} networks, {len(missing)} to be made")
  at_once = parallel.device_count()
  for begin in range(0, len(jobs), at_once):
    scores += map(setup.score, evaluator(jobs[begin : begin + at_once]))
    now, made = time.monotonic(), evaluator.trained
    if made and now - told > _TELL_EVERY:
      left = duration((now - began) / made * (len(missing) - made))
      tell(f"{made} of {len(missing)} trainings, about {left} left")
      told = now
  return np.array(scores).reshape(trainings, -1).T


def distinct(setup: search.Setup, masks: np.ndarray) -> tuple[list[tuple[int, ...]], np.ndarray]:
  """The distinct networks of sets `[K, n]`, in order, and the index of each set's network."""
  forms = [setup.space.canonical(a) for a in setup.space.architecture(masks)]
  networks = [tuple(int(option) for option in form) for form in forms]
  number_of = {network: number for number, network in enumerate(dict.fromkeys(networks))}
  return list(number_of), np.array([number_of[network] for network in networks])


def growth(chains: Sequence[Sequence[float]], of_start: float) -> dict[str, list[float]]:
  """Means and standard errors over chains after each number of additions, and of their gains.

  Args:
    chains: The values along each chain.
    of_start: Standard error of the value of the start network, which all chains share.
  """
  longest = max(map(len, chains))
  reach = [[chain for chain in chains if len(chain) > k] for k in range(longest)]
  values = [[chain[k] for chain in found] for k, found in enumerate(reach)]
  gains = [[chain[k] - chain[k - 1] for chain in reach[k]] for k in range(1, longest)]
  return {
    "chains": [len(found) for found in reach],
    "values": [float(np.mean(v)) for v in values],
    "errors": [of_start, *(standard_error(v) for v in values[1:])],
    "deviations": [float(np.std(v, ddof=1)) if len(v) > 1 else np.nan for v in values],
    "gains": [float(np.mean(g)) for g in gains],
    "gain_errors": [
      float(np.hypot(standard_error(g), of_start * (k == 0))) for k, g in enumerate(gains)
    ],
  }


def with_longer(config: ConfigDict, times: float) -> ConfigDict:
  """A copy whose trainings are `times` as long, with a learning rate schedule of the same shape."""
  this = config.copy_and_resolve_references()
  train: Any = this.train
  if train.get("steps"):
    train.steps = max(round(train.steps * times), 1)
  if train.get("warmup_steps"):
    train.warmup_steps = int(train.warmup_steps * times)
  if train.get("epochs"):
    train.epochs = float(train.epochs * times)
  if train.get("milestones"):
    train.milestones = tuple(milestone * times for milestone in train.milestones)
  return this


def _place(number: int) -> float:
  """A random place of a network, which does not depend on how many others there are."""
  return float(np.random.default_rng((SEED, number)).random())


def _known(chain: np.ndarray) -> int:
  """Number of values before the first unknown one."""
  unknown = np.flatnonzero(np.isnan(chain))
  return int(unknown[0]) if unknown.size else len(chain)


def to_stderr(line: str) -> None:
  """Prints progress, apart from the output of the command."""
  print(line, file=sys.stderr, flush=True)
