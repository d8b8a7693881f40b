"""Latency of networks from their parts: predictions, and the correction.

Calling a program takes time, and a network is called once, not once for each of its parts. Latency
is therefore the sum over the parts, minus a correction for each part but the first, the stem.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from nas_submod import networks
from nas_submod.networks.parts import parts
from nas_submod.networks.search_space import SearchSpace


def parts_of(space: SearchSpace, architecture: Sequence[int]) -> list[str]:
  """Names of the parts of a network.

  Raises:
    ValueError: If the architecture does not belong to the space.
  """
  places = {(p.stage, p.predecessor, p.option): p.name for p in parts(space)}
  *steps, end = networks.walk(space, np.array(space.check(architecture)))
  found = ["stem"]
  for stage, predecessor, opening, others in steps:
    if (name := places.get((stage, int(predecessor), int(opening)))) is not None:
      found.append(name)
    found += [places[stage, None, int(option)] for option in others if option]
  return [*found, places[len(steps), int(end.predecessor), None]]


def predict(
  space: SearchSpace,
  keys: Sequence[str],
  milliseconds: Mapping[str, float],
  correction: float = 0.0,
) -> np.ndarray:
  """Predicted milliseconds of networks. `[len(keys)]`.

  Args:
    space: The space.
    keys: The networks, see `SearchSpace.key`.
    milliseconds: Milliseconds of the parts, by name.
    correction: Milliseconds to subtract for each part but the stem.

  Raises:
    ValueError: If a key is no network of the space.
  """
  sums = []
  for key in keys:
    names = parts_of(space, space.from_key(key))
    sums.append(sum(milliseconds[name] for name in names) - correction * (len(names) - 1))
  return np.array(sums)


def fit_correction(
  space: SearchSpace, milliseconds: Mapping[str, float], whole: Mapping[str, float]
) -> float:
  """The correction (see `predict`) that predicts networks best; 0 without networks.

  Args:
    space: The space.
    milliseconds: Milliseconds of the parts, by name.
    whole: Milliseconds of networks, by key.

  Returns:
    The least-squares fit of relative errors, at least 0 and at most the smallest part.

  Raises:
    ValueError: If a key is no network of the space.
  """
  if not whole:
    return 0.0
  measured = np.array(list(whole.values()))
  sums = predict(space, list(whole), milliseconds)
  counts = sums - predict(space, list(whole), milliseconds, 1.0)
  rates = counts / measured
  best = rates @ (sums / measured - 1) / (rates @ rates)
  return float(np.clip(best, 0, min(milliseconds[part.name] for part in parts(space))))


def check_complete(space: SearchSpace, milliseconds: Mapping[str, float], what: str) -> None:
  """Raises ValueError if parts of a space have no number; names the first ones."""
  lacking = [part.name for part in parts(space) if part.name not in milliseconds]
  if lacking:
    more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
    raise ValueError(
      f"{what} lacks {len(lacking)} of the {len(parts(space))} parts of space {space.name}: "
      f"{', '.join(lacking[:3])}{more}"
    )


class Accuracy(NamedTuple):
  """How well numbers are predicted.

  Attributes:
    mean: Mean relative error.
    largest: Largest relative error.
    rank: Spearman's rank correlation, NaN if all predictions or all measurements are equal.
  """

  mean: float
  largest: float
  rank: float


def accuracy(predicted: np.ndarray, measured: np.ndarray) -> Accuracy:
  """The errors of predictions. Shapes `[N]`, N at least 1."""
  errors = np.abs(predicted / measured - 1)
  differ = len(set(predicted)) > 1 and len(set(measured)) > 1
  rank = stats.spearmanr(predicted, measured).statistic if differ else np.nan
  return Accuracy(float(errors.mean()), float(errors.max()), float(rank))


def scaled(quantity: np.ndarray, measured: np.ndarray) -> float:
  """The factor of a quantity that fits measured numbers, by least squares of relative errors."""
  ratios = quantity / measured
  return float(ratios.sum() / (ratios @ ratios))
