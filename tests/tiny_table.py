"""A table of 18 networks of three positions, written as benchmarks read it."""

import csv
import itertools
import re

import numpy as np

SIZES = (3, 2, 3)  # options of the positions of the tiny table


def tiny_rows(name="{}{}{}", canonical=True, shift=0, trainings=("acc0", "acc1", "acc2"), scale=1):
  """Accuracies with a known optimum, costs of whole networks; the last two positions may move."""
  rows = []
  for architecture in itertools.product(*map(range, SIZES)):
    a, b, c = architecture
    row = {"arch": name.format(a + shift, b + shift, c + shift)}
    if canonical:
      # An empty position before a filled one, where both may hold it, is the same network.
      b, c = (c, 0) if b == 0 and c == 1 else (b, c)
      row["canonical"] = name.format(a, b, c)
    accuracy = 50 + 9 * a + 12 * (b > 0) + 8 * c - a * c
    for i, training in enumerate(trainings):
      row[training] = scale * (accuracy + 0.5 * (i - 1))
    row["params"] = 10 + 5 * a * a + 3 * b + 4 * c
    row["flops"] = 1000 + 100 * a + 250 * b + 130 * c
    rows.append(row)
  return rows


def write(path, rows):
  with open(path, "w", newline="", encoding="utf-8") as file:
    writer = csv.DictWriter(file, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
  return str(path)


def optimum_of(rows, fractions):
  """The best mean accuracy within the budgets, from the rows alone."""
  trainings = [key for key in rows[0] if re.fullmatch(r"(acc|seed)\d", key)]
  limits = {
    cost: fraction * max(row[cost] for row in rows)
    for cost, fraction in zip(("params", "flops"), fractions)
  }
  return max(
    np.mean([row[training] for training in trainings])
    for row in rows
    if all(row[cost] <= limit for cost, limit in limits.items())
  )
