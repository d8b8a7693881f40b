"""The figures of a study, as SVG files."""

import io
import pathlib
from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
import scipy.stats
from matplotlib.figure import Figure

from nas_submod import files

_STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "study", "font.family": "sans-serif"}
_DASHES = ("-", "--", ":")
_COLORS = matplotlib.color_sequences["tab10"]
_LEAST, _MOST = 0.01, 10.0  # of a plotted regret


def write(found: Mapping[str, Any], folder: pathlib.Path) -> list[pathlib.Path]:
  """Writes growth.svg, noise.svg and regret.svg, if there is something to show."""
  figures = {"growth": _growth(found)} if "growth" in found else {}
  if "tail" in found["diminishing"]:
    figures["noise"] = _noise(found)
  if "optimizers" in found:
    figures["regret"] = _regret(found)
  paths = []
  for name, figure in figures.items():
    with matplotlib.rc_context(_STYLE):
      buffer = io.BytesIO()
      figure.savefig(buffer, format="svg", metadata={"Date": None})
    paths.append(folder / f"{name}.svg")
    files.write_bytes(paths[-1], buffer.getvalue())
  return paths


def _growth(found: Mapping[str, Any]) -> Figure:
  """Mean value and mean gain against the number of random additions."""
  grown = found["growth"]
  figure = Figure(figsize=(8, 3.2), layout="constrained")
  left, right = figure.subplots(1, 2)
  count = np.arange(len(grown["values"]))
  spread = _floats(grown["deviations"])
  values = _floats(grown["values"])
  left.fill_between(count, values - spread, values + spread, alpha=0.2, lw=0)
  left.errorbar(count, values, _floats(grown["errors"]), marker="o", ms=3)
  left.set(xlabel="random additions", ylabel="mean value", title="value; band: ± one deviation")
  errors = grown.get("gain_errors")
  gains = _floats(grown["gains"])
  right.errorbar(count[1:], gains, None if errors is None else _floats(errors), marker="o", ms=3)
  if (gains > 0).all():
    right.set_yscale("log")
  else:
    right.axhline(0, color="gray", lw=0.8)
  right.set(xlabel="addition", title="mean gain of each addition")
  for panel in (left, right):
    panel.grid(alpha=0.3)
  return figure


def _noise(found: Mapping[str, Any]) -> Figure:
  """Share of checks that fail by more than t standard errors, and the share from noise alone."""
  figure = Figure(figsize=(8, 3.2), layout="constrained")
  titles = {"monotone": "additions that lower F", "diminishing": "rising gains"}
  for panel, (name, title) in zip(figure.subplots(1, 2, sharey=True), titles.items()):
    tail = _floats(found[name]["tail"])
    bound = np.linspace(0, 5, len(tail))
    panel.plot(bound, 100 * scipy.stats.norm.sf(bound), "--", color="gray", label="noise alone")
    panel.plot(bound, 100 * np.where(tail > 0, tail, np.nan), marker="o", ms=3, label="measured")
    panel.set(xlabel="by more than t standard errors", title=title, yscale="log")
    panel.set(xlim=(0, 4.5), ylim=(1e-3, 100))
    panel.grid(alpha=0.3)
    panel.legend()
  figure.axes[0].set_ylabel("share of checks, %")
  return figure


def _regret(found: Mapping[str, Any]) -> Figure:
  """Mean regret against measurements, of RCAS, its ablations and other optimizers."""
  runs = found["optimizers"]
  kinds = [kind for kind in ("exact", "noisy") if any(kind in run for run in runs.values())]
  first, *ablated = [name for name in runs if name not in found["rivals"]]
  figure = Figure(figsize=(1 + 4 * len(kinds), 6), layout="constrained")
  panels = figure.subplots(2, len(kinds), sharex=True, sharey=True, squeeze=False)
  for row, names in zip(panels, (ablated, found["rivals"])):
    for panel, kind in zip(row, kinds):
      for number, name in enumerate([first, *names]):
        regret = _floats(runs[name][kind]["regret"])
        look: dict[str, Any] = {"color": "black", "lw": 2.5, "zorder": 3}
        if number:
          look = {"color": _COLORS[number % len(_COLORS)], "lw": 1.5}
          look["ls"] = _DASHES[(number - 1) // len(_COLORS) % len(_DASHES)]
        panel.plot(np.arange(len(regret))[1:], regret[1:], label=name, **look)
      panel.set(yscale="log", ylim=(_LEAST, _MOST))
      panel.grid(alpha=0.3)
    row[0].set_ylabel("regret, points")
    row[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small")
  for kind, panel in zip(kinds, panels[0]):
    panel.set_title(f"{kind} F")
  for panel in panels[-1]:
    panel.set_xlabel("measurements")
  return figure


def _floats(values: list[float | None]) -> np.ndarray:
  """Numbers, with NaN for None."""
  return np.array([np.nan if value is None else value for value in values])
