"""Measures a latency table of a space on this device, and reports how well it predicts."""

import datetime
import pathlib
import platform
import tempfile
from collections.abc import Callable, Mapping

import numpy as np

from nas_submod import origin
from nas_submod.export import parts, timing
from nas_submod.networks.parts import fingerprint
from nas_submod.networks.parts import parts as parts_of_space
from nas_submod.networks.search_space import SearchSpace
from nas_submod.resources import network_costs
from nas_submod.resources.latency import fit
from nas_submod.resources.latency.by_part import Measured, kind_of
from nas_submod.resources.latency.samples import Samples

Show = Callable[[str, int, int], None]  # activity, done, of how many


def measure(
  space: SearchSpace,
  samples: Samples,
  runtime: str,
  threads: int,
  sweeps: int,
  log: pathlib.Path | None = None,
  show: Show = lambda activity, done, total: None,
) -> Measured:
  """Times all parts of a space and the sampled networks, and fits the correction.

  Args:
    space: The space.
    samples: The networks.
    runtime: A key of `timing.RUNTIMES`.
    threads: Threads of the runtime.
    sweeps: How often each part and network runs.
    log: Keeps finished sweeps, see `timing.round_robin`.
    show: Called with the progress.

  Raises:
    ValueError: If the runtime's package is missing, a layer has no `Layer.trace`, or the log
      belongs to another measurement.
  """
  ending, prepare, _ = timing.RUNTIMES[runtime]
  total = len(parts_of_space(space)) + len(samples.fit) + len(samples.check)
  settings = comments(space, runtime, threads)
  del settings["date"]
  with tempfile.TemporaryDirectory() as folder:
    paths: dict[str, pathlib.Path] = {}
    for name, model in parts.models(space, samples):
      paths[name] = pathlib.Path(folder) / f"{len(paths)}.{ending}"
      parts.WRITERS[ending](model, paths[name])
      show("part", len(paths), total)

    rng = np.random.default_rng(0)

    def load():
      # In a new order each time: the last network of one order ran a fifth too fast.
      order = [list(paths)[index] for index in rng.permutation(len(paths))]
      loaded = {name: prepare(paths[name], threads) for name in order}
      return {name: loaded[name] for name in paths}

    times = timing.round_robin(
      load(),
      sweeps,
      threads,
      log=log,
      settings=settings,
      renew=load,
      show=lambda done: show("sweep", done, sweeps),
    )
  found: tuple[dict[str, float], ...] = ({}, {}, {})
  for name, value in times.items():
    kind, key = kind_of(name)
    found[kind][key] = value
  return Measured(found[0], found[1], found[2], fit.fit_correction(space, found[0], found[1]))


def comments(space: SearchSpace, runtime: str, threads: int, device: str = "") -> dict[str, str]:
  """The comments of a table measured here, by key."""
  clock, _ = timing.clock_of(threads)
  return {
    "device": device or _processor(),
    "runtime": f"{runtime} {timing.version_of(runtime)}",
    "threads": str(threads),
    "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    "versions": _versions(),
    "protocol": f"float32, batch 1, {clock}, {timing.PERCENTILE}th percentile of "
    f"{timing.SWEEPS}, in shuffled order",
    "space": space_comment(space),
  }


def _versions() -> str:
  found = {"Python": platform.python_version(), **origin.versions(("numpy", "nas-submod"))}
  found[platform.system()] = platform.release()
  return ", ".join(f"{name} {version}" for name, version in found.items())


def space_comment(space: SearchSpace) -> str:
  """The comment that distinguishes tables of spaces with different parts."""
  return f"{space.name} {fingerprint(space)}"


def _processor() -> str:
  """The name of this machine's processor."""
  info = pathlib.Path("/proc/cpuinfo")
  lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
  names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
  return names[0] if names else platform.processor() or platform.machine()


def report(space: SearchSpace, table: Measured) -> str:
  """Compares measured latency with predictions by the table and by multiply-adds, as text."""
  assert table.correction is not None
  if not table.networks and not table.checks:
    return (
      f"no whole networks: the correction is {table.correction:.4g}, and the table is not checked"
    )
  lines = [
    f"correction {table.correction:.4g} ms for each part but the stem, fitted on "
    f"{len(table.networks)} networks",
    f"{'networks':<60} {'predicted by':<13} {'mean error':>10} {'largest':>8} {'rank corr.':>10}",
  ]
  factor, listed = None, [f"{'measured ms':>11} {'predicted ms':>12} {'madds':>13}  network"]
  for what, measured in (("fit, of all sizes", table.networks), ("check", table.checks)):
    if not measured:
      continue
    madds, times = _madds(space, measured), np.array(list(measured.values()))
    factor = fit.scaled(madds, times) if factor is None else factor
    predicted = fit.predict(space, list(measured), table.parts, table.correction)
    label = f"{len(times)} to {what}, {madds.min():,} to {madds.max():,} madds"
    for name, values in (("table", predicted), ("multiply-adds", factor * madds)):
      found = fit.accuracy(values, times)
      rank = "-" if np.isnan(found.rank) else f"{found.rank:.2f}"
      lines.append(f"{label:<60} {name:<13} {found.mean:>10.1%} {found.largest:>8.1%} {rank:>10}")
      label = ""
    for row in zip(times, predicted, madds, measured):
      text = space.text(space.from_key(row[3]))
      listed.append(f"{row[0]:>11.4g} {row[1]:>12.4g} {row[2]:>13,}  {text}")
  return "\n".join(lines + listed)


def _madds(space: SearchSpace, keys: Mapping[str, float]) -> np.ndarray:
  architectures = [space.from_key(key) for key in keys]
  return network_costs(space, architectures, ("madds",))[..., 0]
