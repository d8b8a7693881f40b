"""Draws stratified subsets of a labelled set."""

from collections.abc import Sequence

import numpy as np


def stratify(
  labels: np.ndarray,
  size: int,
  seed: int | tuple[int, ...],
  *,
  name: str = "size",
  leave: int = 0,
  class_names: Sequence[str] = (),
) -> tuple[np.ndarray, np.ndarray]:
  """Draws a subset whose numbers of members per class differ by at most one.

  The larger numbers go to the classes with the most members, lower labels first. With the same seed
  and labels, a larger subset contains a smaller one, because both take the first members of each
  class in one random order.

  Args:
    labels: Classes `0..classes-1`, each at least once. Shape `[N]`, integer.
    size: Number of members of the subset.
    seed: Seed or seeds of the draw.
    name: Name of the size in error messages.
    leave: Number of members of each class that must stay outside the subset.
    class_names: Names of the classes for error messages, if known.

  Returns:
    `(chosen, rest)`, ascending indices. Shapes `[size]` and `[N - size]`.

  Raises:
    ValueError: No such subset of this size exists, or it would lack a class.
  """
  counts = np.bincount(labels)
  classes = len(counts)
  spare = counts - leave
  scarcest = int(np.argmin(counts))
  named = f" ({class_names[scarcest]})" if scarcest < len(class_names) else ""
  worst = f"class {scarcest}{named}"
  if spare[scarcest] < 1:
    raise ValueError(
      f"{name}={size} is not possible: {worst} has {counts[scarcest]} images, at least "
      f"{1 + leave} are needed"
    )
  least = int(np.min(spare))
  largest = least * classes + int(np.sum(spare > least))
  if not classes <= size <= largest:
    left = f", {leave} of which must be left" if leave else ""
    raise ValueError(
      f"{name}={size} is not possible: allowed are {classes} (one image of each class) to "
      f"{largest} of the {len(labels):,} images (evenly over {classes} classes; {worst} "
      f"has {counts[scarcest]} images{left})"
    )
  each, extra = divmod(size, classes)
  quota = np.full(classes, each)
  quota[np.argsort(-spare, kind="stable")[:extra]] += 1

  order = np.random.default_rng(seed).permutation(len(labels))
  order = order[np.argsort(labels[order], kind="stable")]
  place_in_class = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
  is_chosen = np.zeros(len(labels), bool)
  is_chosen[order] = place_in_class < quota[labels[order]]
  return np.flatnonzero(is_chosen), np.flatnonzero(~is_chosen)
