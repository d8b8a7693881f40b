"""What a search shows in a few sentences: what its answer beats, and how far to trust that."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from nas_submod.report import text
from nas_submod.report.differences import Noise, difference, noise_of
from nas_submod.report.finished import (
  Finished,
  answer_scores,
  real,
  row_scores,
  score_name,
  start_scores,
  trainings,
)
from nas_submod.report.markup import sentence, with_error
from nas_submod.report.steps import Chain, Step

GOOD, OPEN, PLAIN = "good", "open", "plain"  # kinds of a verdict
_SMALL_NOISE = 0.5  # of the gain of a block


class Verdict(NamedTuple):
  """A verdict: its kind, the word that it begins with, and the rest."""

  kind: str
  word: str
  sentence: str


def verdicts(
  search: Finished, chains: Sequence[Chain], others: Sequence[Finished] = ()
) -> Iterator[Verdict]:
  """What the answer beats, and how certain that is.

  Args:
    search: The search.
    chains: Its paths.
    others: Other searches whose values can be compared with its own.
  """
  result = search.result
  if search.space.key(result["architecture"]) == search.space.key(search.space.start):
    yield Verdict(OPEN, "No gain:", "the answer is the start network.")
  elif start := start_scores(search):
    empty = "" if any(search.space.start) else " without blocks"
    name = f"the start network{empty} ({_trainings(start)})"
    yield compared(search, start, name, noise_of(search))
  for row in result.get("references", ()):
    if not math.isfinite(real(row["value"])):
      continue
    scores = row_scores(row)
    name = f"the reference {row['name']} ({_trainings(scores)})"
    yield compared(search, scores, name, noise_of(search))
  for other in others:
    spent = f"{other.result['optimizer']}, {trainings(other)} trainings"
    if other.result["budget"] != result["budget"]:
      spent += ", other budgets"
    name = f"the answer of {other.name} ({spent})"
    yield compared(search, answer_scores(other), name, noise_of(search, other))
  rest = search.finalists[1:]
  if ties := sum(row["tie"] for row in rest):
    words = f"{ties} of the {len(rest)} other finalists" if len(rest) > 1 else "the other finalist"
    yield Verdict(OPEN, "Tie:", f"{words} cannot be told apart from the answer.")
  elif rest:
    yield Verdict(GOOD, "Ahead", "of all other finalists, beyond the noise.")
  gain, noise = result["signal"]["mean_gain_of_first_additions"], noise_of(search).deviation
  if gain is None and math.isfinite(noise):
    words = f"the standard deviation of the score between seeds is {noise:.4f}."
    yield Verdict(PLAIN, "Noise:", words)
  elif gain is not None and gain <= 0:
    yield Verdict(OPEN, "Noise:", "the first blocks gain nothing that fresh seeds confirm.")
  elif gain is not None and math.isfinite(noise):
    kind = GOOD if noise < _SMALL_NOISE * gain else OPEN
    words = (
      f"the standard deviation of the score between seeds is {noise / gain:.2f} times what one of "
      "the first blocks gains."
    )
    yield Verdict(kind, "Noise:", words)
  answer = search.space.key(result["architecture"])
  path = next((c for c in chains if any(_key(search, s) == answer for s in c.steps)), None)
  doubts = [step.doubt for step in path.steps if step.doubt is not None] if path else []
  if any(doubts):
    words = (
      f"at {sum(doubts)} of {len(doubts)} steps of its path noise hides which of the two best "
      "blocks wins."
    )
    yield Verdict(OPEN, "Doubt:", words)
  if failed := sum(e.metrics is None for e in search.evaluations):
    yield Verdict(OPEN, "Failed:", f"{failed} of {len(search.evaluations)} evaluations, see below.")
  if limit := text.limit_line(search):
    yield Verdict(PLAIN, "Limit:", f"{limit}.")
  bound = real(result["upper_bound"])
  if math.isfinite(bound) and (line := text.bound_line(search)) and not line.startswith("none"):
    yield Verdict(PLAIN, "Bound:", f"{sentence(line)}.")


def compared(search: Finished, scores: Sequence[float], other: str, noise: Noise) -> Verdict:
  """Whether the answer beats another network, which has these scores."""
  own = answer_scores(search)
  found = difference(own, scores, noise)
  by = f"{with_error(found.value, found.error, sign=True)} in {score_name(search)}"
  if found.certain:
    return Verdict(GOOD, "Better", f"than {other}: {by}.")
  if difference(scores, own, noise).certain:
    return Verdict(OPEN, "Worse", f"than {other}: {by}.")
  return Verdict(OPEN, "Not surely better", f"than {other}: {by}.")


def _key(search: Finished, step: Step) -> str:
  return search.space.key(step.row["architecture"])


def _trainings(scores: Sequence[float]) -> str:
  return f"{len(scores)} short trainings" if len(scores) > 1 else "one short training"
