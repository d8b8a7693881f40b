"""The result of a study as text for a terminal."""

import math
from collections.abc import Mapping
from typing import Any

Found = Mapping[str, Any]  # what study.json holds

_NONE = 1e-6  # a rounding error
_CHECKPOINTS = (10, 25, 50, 100, 200)


def describe(found: Found) -> str:
  """Describes all that was measured."""
  name = found.get("table") or found["space"]
  all_sets = found.get("all_sets", found["sets"])
  of_all = f" of {all_sets:,}" if all_sets > found["sets"] else ""
  lines = [
    f"{name}: {found['sets']:,} sets{of_all}, {found['networks']:,} networks, trainings of each: "
    f"{found['trainings']}",
    *_costs(found),
    *_noise(found),
    *_growth(found),
    *_violations(found, "monotone", "additions that lower F"),
    *_violations(found, "diminishing", "blocks that gain more beside another block"),
    _extreme(found, "ratio", "submodularity ratio (1 or more if submodular)"),
    _extreme(found, "curvature", "curvature (0 if additive)"),
    *_ranking(found),
    *(_optimizers(found) if "optimizers" in found else []),
    *_changes(found),
  ]
  if found.get("failed"):
    lines.append(f"networks left out because a training failed: {found['failed']}")
  return "\n".join(lines)


def number(value: float | None, digits: int = 3) -> str:
  """A number, or "-" if it is unknown."""
  return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def with_error(value: float | None, error: float | None = None, *, digits: int = 3) -> str:
  """A number and its standard error, which is left out if unknown or zero."""
  return number(value, digits) + (f" ± {number(error, digits)}" if error and error > _NONE else "")


def _costs(found: Found) -> list[str]:
  if "costs" not in found:
    return []
  left_out = ", ".join(found.get("left_out", ()))
  return [f"costs   {', '.join(found['costs'])}" + f"; left out: {left_out}" * bool(left_out)]


def _noise(found: Found) -> list[str]:
  if found["trainings"] == 1:
    return ["noise   unknown: one accuracy of each, so nothing can be tested against it"]
  least, most = found["noise"]
  return [f"noise   standard error of a mean: {number(least)} to {number(most)}"]


def _growth(found: Found) -> list[str]:
  if "growth" not in found:
    return ["random additions: not shown, because the means would depend on which sets are missing"]
  grown = found["growth"]
  errors = grown.get("gain_errors", [None] * len(grown["gains"]))
  values = [with_error(*pair) for pair in zip(grown["values"], grown["errors"])]
  gains = [with_error(*pair) for pair in zip(grown["gains"], errors)]
  chains = f"; chains {', '.join(map(str, grown['chains']))}" if "chains" in grown else ""
  return [
    f"random additions, mean value: {'  '.join(values)}{chains}",
    f"mean gain of each: {'  '.join(gains)}",
  ]


def _violations(found: Found, name: str, what: str) -> list[str]:
  tested = found[name]
  checked = max(tested["checked"], 1)
  share = (
    f"{what}: {tested['negative']} of {tested['checked']} ({tested['negative'] / checked:.1%})"
  )
  if "held_out" not in tested:
    return [f"{share}; the noise is unknown"]
  size = tested["median"]
  sized = f", median size {number(size)}" if size is not None else ""
  lines = [
    f"{share} whatever the noise; beyond it {tested['found']} ({tested['found'] / checked:.2%}"
    f"{sized}); one of {number(tested['detectable'])} would be found half of the time",
    f"  false alarms: {tested['false_positives']:.1%} of simulations without a violation",
  ]
  if (held := tested["held_out"])["selected"]:
    lines.append(
      "  those that are negative in all trainings but one, checked on that one: "
      f"{held['negative']:.0%} negative, mean {number(held['mean'])} ({number(held['least'])} to "
      f"{number(held['most'])})"
    )
  means = tested["averaged"]
  kind = "additions" if name == "monotone" else "pairs of blocks"
  lines.append(
    f"  mean over all sets, for each of {means['checked']} {kind}: {means['negative']} negative, "
    f"{means['found']} beyond the noise; one of {number(means['detectable'])} would be found half "
    "of the time"
  )
  return lines


def _extreme(found: Found, name: str, what: str) -> str:
  extreme = found[name]
  least, median = number(extreme["value"], 2), number(extreme["median"], 2)
  if found["trainings"] == 1:
    return f"{what}: {least}, median {median} of {extreme['used']}; the noise is unknown"
  return (
    f"{what}: {least}, 95% interval {number(extreme['low'], 2)} to {number(extreme['high'], 2)}, "
    f"median {median} of {extreme['used']} known well enough of {extreme['checked']}"
  )


def _ranking(found: Found) -> list[str]:
  lines = []
  if "longer" in found:
    times = f"a training {found['longer']:g} times as long ({found['ranked']} networks)"
    if "rank_correlation" not in found:
      return [f"no rank correlation with {times}: at least 3 are needed"]
    means = with_error(*found["rank_correlation_of_means"], digits=2)
    lines.append(f"rank correlation of the mean of short trainings with {times}: {means}")
    lines.append(f"  of one short training: {with_error(*found['rank_correlation'], digits=2)}")
  elif "rank_correlation" in found:
    first = found.get("measured") or "one training"
    others = with_error(*found["rank_correlation"])
    lines.append(f"rank correlation of {first} with the mean of the others: {others}")
  return lines


def _optimizers(found: Found) -> list[str]:
  lines = []
  for kind in ("exact", "noisy"):
    runs = {name: run[kind] for name, run in found["optimizers"].items() if kind in run}
    if not runs:
      continue
    points = [t for t in _CHECKPOINTS if t <= found["measurements"]]
    needs = next(iter(runs.values()))["needed"]
    lines.append(
      f"{kind} F, {found['seeds']} seeds: regret after {', '.join(map(str, points))}; made; "
      f"measurements until it is at most {', '.join(needs)}"
    )
    for name, run in runs.items():
      cells = [with_error(run["regret"][t], run["error"][t]) for t in points]
      until = [with_error(*pair, digits=0) for pair in run["needed"].values()]
      lines.append(f"  {name:24} {'  '.join(cells)}   {run['made']:.0f}   {'  '.join(until)}")
  return lines


def _changes(found: Found) -> list[str]:
  lines: list[str] = []
  for name, change in found.get("changed", {}).items():
    by = sum(change["change"]) / len(change["change"])
    costs = [sum(column) / len(column) for column in zip(*change["costs"])]
    shares = ", ".join(f"{c} {share:.0%}" for c, share in zip(found["costs"], costs))
    lines.append(
      f"rcas, {name}: accuracy changes by {by:+.3f} (mean over {len(change['change'])} budgets); "
      f"shares of the budgets used then: {shares}"
    )
  if "one_type" in found:
    types = ", ".join(f"{kind}: {number(regret)}" for kind, regret in found["one_type"].items())
    lines.append(f"best network of one type only, regret by type: {types}")
  return lines
