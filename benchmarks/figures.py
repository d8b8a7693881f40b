"""A figure of regret against measurements, with a panel for exact and one for noisy F."""

from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.figure import Figure

_DASHES = ("-", "--", ":")


def save_regret(path: str, title: str, results: Mapping[str, Mapping[str, np.ndarray]]) -> None:
  """Writes the figure.

  Args:
    path: A PNG file.
    title: Name of the suite.
    results: Regrets by optimizer and kind. Each `[instances, seeds, limit + 1]`.
  """
  kinds = list(dict.fromkeys(kind for curves in results.values() for kind in curves))
  figure = Figure(figsize=(1.5 + 5 * len(kinds), 4.5), layout="constrained")
  panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
  colors = matplotlib.color_sequences["tab10"]
  lowest, highest = 1e-3, 1.0
  for panel, kind in zip(panels, kinds):
    for number, (name, curves) in enumerate(results.items()):
      if kind not in curves:
        continue
      means = curves[kind].mean(axis=0)
      mean = means.mean(axis=0)
      error = means.std(axis=0, ddof=1) / np.sqrt(len(means)) if len(means) > 1 else 0 * mean
      steps = np.arange(mean.size)
      style = _DASHES[number // len(colors) % len(_DASHES)]
      color = colors[number % len(colors)]
      panel.plot(steps[1:], mean[1:], style, color=color, label=name)
      shown = np.maximum(mean - error, lowest / 2), mean + error
      panel.fill_between(steps[1:], shown[0][1:], shown[1][1:], color=color, alpha=0.15, lw=0)
      highest = max(highest, mean[min(10, mean.size - 1)])
    panel.set(title=f"{kind} F", xlabel="measurements", yscale="log", ylim=(lowest, 2 * highest))
    panel.grid(alpha=0.3)
  panels[0].set_ylabel("regret, points")
  handles, labels = panels[0].get_legend_handles_labels()
  figure.legend(handles, labels, loc="outside right upper", fontsize="small")
  figure.suptitle(title, fontsize="medium")
  figure.savefig(path, dpi=150)
