"""The report of a search: its numbers against independent ones, and the page in a browser."""

import dataclasses
import html.parser
import json
import math
import pathlib
import re
import shutil
import subprocess
import sys
import types
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from scipy import stats

from nas_submod import files, resources, search
from nas_submod.evaluation.evaluator import Evaluation
from nas_submod.evaluation.journal import JOURNAL_FILE, Journal
from nas_submod.networks import blocks, spaces
from nas_submod.report import (
  comparison,
  differences,
  figure,
  finished,
  gains,
  markup,
  network,
  page,
  progress,
  steps,
  text,
)
from nas_submod.report.verdict import compared, verdicts
from nas_submod.search.setup import make_setup
from nas_submod.workdir import make_workdir
from tests import tiny_config
from tests.evaluators import computed

ROOT = pathlib.Path(__file__).parent.parent
BROWSER = next(
  filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
NASTY = "<i>&'$\"x"  # one word, as the names of options must be


def config_of(optimizer="rcas", **fields):
  config = tiny_config.get_config()
  config.search.optimizer = optimizer
  config.search.update(fields)
  return config


def searched(folder, config):
  """A finished search in a folder, with computed scores; some trainings fail."""
  setup = make_setup(config)
  make_workdir(folder, config.to_dict())
  evaluate = computed(setup.space)

  def fails(jobs):
    for found in evaluate(jobs):
      failed = found.replicate == 0 and found.key == setup.space.key([2, 2, 1, 0])
      yield found._replace(metrics=None, cause=f"out of {NASTY}") if failed else found

  result = search.run(setup, fails, Journal(folder / JOURNAL_FILE))
  files.write_json(folder / "result.json", result | {"run": {"command": f"python {NASTY}"}})
  return finished.read(folder)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
  """A search whose names, causes and command hold what HTML and SVG must escape."""
  config = config_of()
  config.space.name = f"a space <script>alert(1)</script> {NASTY}"
  config.space.options = (
    {"expansion": 2, "block": "inverted_residual", "name": NASTY},
    {"expansion": 4, "expand_groups": 2, "squeeze_excite": True},
  )
  config.space.start = f". | {NASTY}"
  config.budget = resources.budgets(params=1.4e3, madds=12e3)
  return searched(tmp_path_factory.mktemp("runs") / "found", config)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
  return searched(tmp_path_factory.mktemp("runs") / "random", config_of("random_search"))


class Tags(html.parser.HTMLParser):
  """The elements of a page, and its text."""

  def __init__(self, page):
    super().__init__()
    self.names, self.words = set(), []
    self.feed(page)

  def handle_starttag(self, tag, attrs):
    self.names.add(tag)
    assert not any(name.startswith("on") for name, _ in attrs)

  def handle_data(self, data):
    self.words.append(data)


def test_names_are_text_not_markup(found):
  parsed = Tags(page.page(found))
  assert not parsed.names & {"script", "i", "img", "link", "iframe"}
  words = "".join(parsed.words)
  for expected in (
    f"<script>alert(1)</script> {NASTY}: found by",
    f"out of {NASTY}",
    f"python {NASTY}",
  ):
    assert expected in words
  # In the drawing, the path, the finalists and the map of gains.
  assert words.count(NASTY) > 10


def test_a_page_has_the_numbers_of_the_answer(found):
  words = "".join(Tags(page.page(found)).words)
  result = found.result
  assert markup.with_error(result["value"], result["standard_error"]) in words
  for name, limit in result["budget"].items():
    assert f"{result['resources'][name]:,} of {limit:,}" in words
  assert "1 failed; such" in words and "trained " in words
  start = finished.start_scores(found)
  ahead = np.mean(finished.answer_scores(found)) - np.mean(start)
  assert len(start) == 2 and f"than the start network (2 short trainings): +{ahead:.4f}" in words


def test_the_terminal_shows_the_answer_and_more_on_request(found):
  short, long = text.summary(found), text.summary(found, verbose=True)
  for words in ("stage 2", "params", "value   ", "finalists, ", "files   "):
    assert words in short
  for words in ("signal  ", "bound   ", "programs compiled", "seconds "):
    assert words in long and words not in short


@pytest.mark.parametrize(
  ("rule", "price"),
  [
    ("unit", lambda extra, limits: 1.0),
    ("params", lambda extra, limits: extra["params"]),
    ("joint", lambda extra, limits: sum(extra[name] / limits[name] for name in limits)),
  ],
)
def test_the_runner_up_is_the_second_best_by_the_rule(found, rule, price):
  """Against all networks with one more block, from the journal."""
  space, limits = found.space, found.result["budget"]
  values = {e.key: found.score(e) for e in found.evaluations if e.replicate == 0}

  def costs(network):
    return resources.network_cost(space, network, found.resources)

  [chain] = [chain for chain in steps.chains(found) if rule in chain.runs]
  assert chain.grows and len(chain.steps) > 2
  rule = chain.runs[0]
  base, step = (chain.steps[i].row["architecture"] for i in (0, 1))
  ranked = {}
  for position in range(space.positions):
    for option in range(1, 3):
      if not base[position]:
        network = [option if p == position else o for p, o in enumerate(base)]
        if (key := space.key(network)) in values:
          extra = {name: costs(network)[name] - costs(base)[name] for name in limits}
          ranked[key] = (values[key] - values[space.key(base)]) / price(extra, limits)
  first, second, *_ = sorted(ranked, key=ranked.get, reverse=True)
  assert first == space.key(step)
  assert chain.steps[1].runner_up.addition.key == second
  gain = values[second] - values[space.key(base)]
  np.testing.assert_allclose(chain.steps[1].runner_up.gain, gain)


def made_of(values, start=". | e2"):
  """A search of the tiny space whose journal holds these values, in this order."""
  config = tiny_config.get_config()
  config.space.start = start
  config.score = "accuracy"
  rows = [
    Evaluation(key, replicate, {"accuracy": value}, 2.0, 12) for key, replicate, value in values
  ]
  last = max(replicate for _, replicate, _ in values)
  rows += [Evaluation("0.0|1.0", last + 1 + i, {"accuracy": 0.5}, 2.0, 12) for i in range(2)]
  finalist = {"architecture": [0, 0, 1, 0], "value": 0.5, "scores": [0.5, 0.5]}
  result = {"score": "accuracy", "finalists": [finalist], "seconds": {}, "path": []}
  result["budget"] = {}
  return finished.make("made", config, result, rows)


def test_the_gains_of_an_additive_score_are_its_weights():
  weights = {0: 0.0, 1: 0.125, 2: 0.25}
  networks = [(a, b, 1, c) for a in range(3) for b in range(3) for c in range(3) if a or not b]
  values = [
    (f"{a}.{b}|{c}.{d}", 0, weights[a] + weights[b] + weights[d]) for a, b, c, d in networks
  ]
  found, counts, paired = gains.block_gains(made_of(values))
  assert paired
  for position in (0, 1, 3):
    np.testing.assert_allclose(found[position], [0.125, 0.25])
  # At the place of the start's block nothing was measured without it.
  assert np.isnan(found[2]).all() and not counts[2].any()
  # With each of three blocks at 2.2: e2 alone or before e4, then e2 after e2 or after e4.
  assert counts[0, 0] == 6 and counts[1, 0] == 6


def test_without_pairs_the_map_shows_differences_of_means():
  found, _, paired = gains.block_gains(made_of([("1.1|1.0", 0, 0.5), ("2.2|1.1", 0, 0.7)]))
  assert not paired
  np.testing.assert_allclose(found[0], [-0.1, 0.1])


def test_the_best_so_far_is_the_best_mean():
  """A network that is measured again may lose its lead."""
  key, other = "1.0|1.0", "2.0|1.0"
  made = made_of([(key, 0, 0.5), (other, 0, 0.9), (other, 1, 0.3), (key, 1, 0.7)])
  counts, seconds, best = progress.progress_of(made)
  assert counts == [1, 2, 3, 4] and seconds == [2.0, 4.0, 6.0, 8.0]
  np.testing.assert_allclose(best, [0.5, 0.9, 0.6, 0.6])


def test_networks_of_a_larger_budget_do_not_count():
  """A workdir keeps its trainings when the budget changes."""
  key, larger = "1.0|1.0", "2.0|1.0"
  made = made_of([(key, 0, 0.5), (larger, 0, 0.9)])
  params = [
    resources.network_cost(made.space, made.space.from_key(k))["params"] for k in (key, larger)
  ]
  assert params[0] < params[1]
  made = made._replace(result=made.result | {"budget": {"params": params[0]}})
  assert progress.progress_of(made)[2] == [0.5]
  assert larger not in finished.mean_scores(made)


def test_fresh_seeds_are_those_of_the_answer():
  """Whatever else the journal holds: here finalists of the same search with a larger limit."""
  made = made_of([("1.0|1.0", 0, 0.5), ("2.0|1.0", 1, 0.25)])
  assert finished.fresh_replicates(made) == range(2, 4)
  later = [Evaluation("0.0|1.0", 40 + i, {"accuracy": 0.9}, 2.0, 12) for i in range(2)]
  assert finished.start_scores(made._replace(evaluations=(*made.evaluations, *later))) == [0.5, 0.5]


@pytest.mark.parametrize("shift", [0.0, 1.0, 3.0])
def test_a_difference_is_certain_where_students_test_rejects(shift):
  rng = np.random.default_rng(0)
  for _ in range(20):
    first, second = rng.normal(shift, 1, 4).tolist(), rng.normal(0, 1, 6).tolist()
    pooled = math.sqrt((3 * np.var(first, ddof=1) + 5 * np.var(second, ddof=1)) / 8)
    found = differences.difference(first, second, differences.Noise(pooled, 8))
    expected = stats.ttest_ind(first, second, alternative="greater")
    assert found.certain == (expected.pvalue < 0.05)
    np.testing.assert_allclose(found.value / found.error, expected.statistic)


def test_single_scores_have_the_noise_of_others():
  noise = differences.Noise(0.5, 20)
  found = differences.difference([1.0], [0.0], noise)
  np.testing.assert_allclose(found.error, math.sqrt(0.5))
  assert not found.certain and differences.difference([2.0], [0.0], noise).certain
  assert not differences.difference([2.0], [0.0], differences.Noise(math.nan, 0)).certain


def test_noise_is_pooled_over_searches(found, other):
  """Each network has as many fresh seeds, so its variance counts alike."""
  signals = [search.result["signal"] for search in (found, other)]
  noise, count = differences.noise_of(found, other), len(found.finalists[0]["scores"])
  freedom = sum(signal["replicates"] for signal in signals) * (count - 1) / count
  assert noise.freedom == freedom
  squares = [s["replicates"] * s["replicate_standard_deviation"] ** 2 for s in signals]
  total = sum(signal["replicates"] for signal in signals)
  np.testing.assert_allclose(noise.deviation**2, sum(squares) / total)


def test_runs_with_one_path_share_it(found):
  row = {"architecture": [0, 0, 1, 0], "value": -2.0, "resources": {}, "tie": False, "step": 0}
  grown = row | {"architecture": [0, 0, 1, 2], "value": -1.0, "step": 1}
  other = row | {"architecture": [1, 0, 1, 0], "value": -1.5, "step": 1}
  paths = {"unit": [row, grown], "madds": [row, other], "joint": [row, grown]}
  result = found.result | {
    "path": [step | {"run": run} for run, path in paths.items() for step in path]
  }
  shown = steps.chains(found._replace(result=result))
  assert [chain.runs for chain in shown] == [("unit", "joint"), ("madds",)]
  assert [step.gain for step in shown[0].steps[1:]] == [1.0]


def test_a_failed_finalist_is_shown_as_failed(found):
  failed = found.finalists[1] | {"value": None, "standard_error": None, "scores": [None, -1.0]}
  result = found.result | {"finalists": [failed, found.finalists[0]]}
  words = "".join(Tags(page.page(found._replace(result=result))).words)
  assert "failed" in words.split("Best value so far")[0].rsplit("Finalists", 1)[1]
  assert "  failed  " in text.summary(found._replace(result=result))


def test_paths_side_by_side_in_one_run_are_told_apart(found):
  def row(*architecture):
    return {
      "architecture": [*architecture],
      "value": 0.0,
      "resources": {},
      "tie": False,
      "run": "unit",
    }

  rows = [row(0, 0, 1, 0), row(1, 0, 1, 0), row(2, 0, 1, 0), row(1, 1, 1, 0), row(2, 0, 1, 1)]
  shown = steps.chains(found._replace(result=found.result | {"path": rows}))
  paths = {tuple(tuple(step.row["architecture"]) for step in chain.steps) for chain in shown}
  assert paths == {((0, 0, 1, 0), (1, 0, 1, 0), (1, 1, 1, 0)), ((2, 0, 1, 0), (2, 0, 1, 1))}
  # Networks that do not grow out of one another are one path.
  rows = [row(1, 0, 1, 0), row(0, 0, 1, 2), row(2, 2, 1, 0)]
  [chain] = steps.chains(found._replace(result=found.result | {"path": rows}))
  assert len(chain.steps) == 3 and not chain.grows


def test_the_caption_says_what_each_block_is():
  options = (
    blocks.option(expansion=3, expand_groups=1, project_groups=2, shuffle=False),
    blocks.option("residual", "mine"),
    blocks.option(expansion=6, kernel=5, squeeze_excite=True),
  )
  space = dataclasses.replace(spaces.get("digits"), options=options)
  caption = network.draw(space, [1, 2, *[0] * 6, 1, 0, 0, 0]).caption
  assert caption.endswith(
    " e3p2: inverted residual, expansion 3, project groups 2, no shuffle. mine: residual."
  )


def test_what_beats_the_answer_is_said(found, other):
  words = {v.word: v.sentence for v in verdicts(found, steps.chains(found), [other])}
  [(kind, sentence)] = [(k, s) for k, s in words.items() if "random_search" in s]
  lead = np.mean(finished.answer_scores(found)) - np.mean(finished.answer_scores(other))
  assert f"{lead:+.4f}".replace("-", "\N{MINUS SIGN}") in sentence
  own, theirs = finished.answer_scores(found), finished.answer_scores(other)
  noise = differences.noise_of(found, other)
  assert (kind == "Better") == differences.difference(own, theirs, noise).certain
  for shift, word in ((-1e3, "Better"), (0, "Not surely better"), (1e3, "Worse")):
    scores = [score + shift for score in own]
    said = compared(found, scores, "another", noise)
    assert said.word == word and said.sentence.endswith(" in negative loss.")


def test_a_comparison_ranks_and_averages(found, other, tmp_path):
  again = other._replace(name="again", config=other.config | {"seed": 1})
  again = again._replace(result=other.result | {"value": other.result["value"] + 0.25})
  words = "".join(Tags(comparison.page([found, other, again], tmp_path)).words)
  assert "3 searches compared" in words and "search.optimizer" in words
  mean = other.result["value"] + 0.125
  assert markup.with_error(mean, 0.125) in words


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"result": {"score": "accuracy"}}, "their scores are negative_loss and accuracy"),
    ({"config": {"data": {"source": "npz:x"}}}, "measure on other validation images"),
    ({"config": {"train": {"steps": 9}}}, "their config.train.steps are 12 and 9"),
  ],
)
def test_what_cannot_be_compared_is_refused(found, changes, message):
  changed = found._replace(
    config=found.config | changes.get("config", {}), result=found.result | changes.get("result", {})
  )
  with pytest.raises(ValueError, match=message):
    comparison.check([found, changed])


def test_figures_are_written_as_svg_and_png_the_same_each_time(found, tmp_path):
  written = []
  for folder in (tmp_path / "first", tmp_path / "second"):
    folder.mkdir()
    paths = [
      path
      for plot in page.all_plots(found, steps.chains(found))
      for path in figure.save(plot, folder)
    ]
    written.append({path.name: path.read_bytes() for path in paths})
  assert written[0] == written[1]
  for name, content in written[0].items():
    if name.endswith("svg"):
      assert ElementTree.fromstring(content).tag.endswith("svg")
    else:
      assert content.startswith(b"\x89PNG")


def test_the_command_rebuilds_pages_and_compares(found, other, tmp_path):
  folders = [found.name, f"{found.name}/", other.name, f"--output={tmp_path}"]
  command = [sys.executable, "-m", "experiments.report", *folders]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  written = pathlib.Path(found.name, page.PAGE_FILE).read_text()
  assert written == page.page(finished.read(found.name), [finished.read(other.name)])
  assert (tmp_path / page.PAGE_FILE).exists()
  assert pathlib.Path(found.name, "figures", "network.png").exists()


def test_a_page_is_made_without_a_table_that_is_gone(found):
  """It shows what the result holds, and says what cannot be computed any more."""
  config = {**found.config, "resources": {"params": "learned", "latency": "gone.csv"}}

  def timed(rows):
    return [{**row, "resources": row["resources"] | {"latency_ms": 1.5}} for row in rows]

  result = {**found.result, "budget": found.result["budget"] | {"latency_ms": 2.5}}
  result |= {name: timed(result[name]) for name in ("path", "finalists")}
  result["resources"] = result["resources"] | {"latency_ms": 1.5}
  gone = finished.make("run", config, result, found.evaluations)
  words = "".join(Tags(page.page(gone)).words)
  assert "latency_ms of networks other than the answer is left out: there is no latency" in words
  assert "1.5 of 2.5" in words
  names = {plot.name for plot in page.all_plots(gone, steps.chains(gone))}
  assert "value_params" in names and not any("latency" in name for name in names)


def test_a_folder_without_a_finished_search_is_refused(found, tmp_path):
  with pytest.raises(ValueError, match=r"there is no folder .*nowhere"):
    finished.read(tmp_path / "nowhere")
  shutil.copy(pathlib.Path(found.name, "config.json"), tmp_path)
  with pytest.raises(ValueError, match=r"result.json cannot be read .*did it end\?"):
    finished.read(tmp_path)


def in_browser(folder, pages, dark=False):
  """What a browser says of pages: widths, colour of the background, text, and its messages."""
  script = """
    onload = () => {
      document.title = JSON.stringify([...document.querySelectorAll("iframe")].map(frame => {
        const found = [], page = frame.contentDocument;
        for (const width of [375, 1280]) {
          frame.width = width;
          const root = page.documentElement;
          found.push(root.scrollWidth - root.clientWidth);
        }
        const color = frame.contentWindow.getComputedStyle(page.body).backgroundColor;
        return {over: found, color, text: page.body.innerText};
      }));
    }"""
  frames = "".join(f'<iframe height="800" src="file://{path}"></iframe>' for path in pages)
  outer = folder / "outer.html"
  outer.write_text(f'<!doctype html><meta charset="utf-8">{frames}<script>{script}</script>')
  flags = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--allow-file-access-from-files",
    "--enable-logging=stderr",
    f"--blink-settings=preferredColorScheme={0 if dark else 1}",
    f"--user-data-dir={folder / 'browser'}",
    "--dump-dom",
  ]
  done = subprocess.run(
    [BROWSER, *flags, f"file://{outer}"], capture_output=True, text=True, timeout=120
  )
  title = re.search("<title>(.*?)</title>", done.stdout, re.S)
  assert title, done.stderr
  messages = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
  return json.loads(html.unescape(title[1])), messages


@pytest.mark.skipif(not BROWSER, reason="no chromium is installed")
@pytest.mark.parametrize(("dark", "color"), [(False, "255, 255, 254"), (True, "13, 17, 23")])
def test_a_browser_shows_pages_wide_and_narrow(found, other, dark, color, tmp_path):
  pages = [tmp_path / f"{number}.html" for number in range(3)]
  for path, search_ in zip(pages, (found, other)):
    page.write_page(search_, path)
  pages[2].write_text(comparison.page([found, other], tmp_path))
  shown, messages = in_browser(tmp_path, pages, dark)
  assert messages == []
  for content in shown:
    assert content["over"] == [0, 0] and color in content["color"]
  for content, search_ in zip(shown, (found, other)):
    assert f"\N{MINUS SIGN}{-search_.result['value']:.4f}" in content["text"]
  assert f"{other.result['resources']['params']:,}" in shown[2]["text"]


def test_names_of_resources_and_folders_are_safe():
  assert figure.file_name("value", "mJ/image") == "value_mJ_image"
  searches = [types.SimpleNamespace(name=name) for name in ("runs/_a", "runs/b")]
  assert comparison.labels_of(searches) == ["\u200b_a", "b"]
