import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from jax.tree_util import Partial

import nas_submod as ns
from benchmarks import convolutions, deployed, optimizers, runs, tables
from nas_submod import networks
from nas_submod.networks import spaces
from nas_submod.optimizers import Info, Optimizer
from tests.tiny_table import optimum_of, tiny_rows, write

read = functools.cache(tables.Table)
# All tests that run the whole command share one program.
SETTINGS = {"budgets": "diagonal", "seeds": 2, "measurements": ["1", "3", "18"]}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
  return write(tmp_path_factory.mktemp("table") / "tiny.csv", tiny_rows())


@pytest.fixture(autouse=True)
def tables_read_once(monkeypatch):
  """A program belongs to a table object: reading the file again would compile it again."""

  def read_once(path, costs=(), measured=None):
    return read(path, tuple(costs), measured)

  monkeypatch.setattr(tables, "Table", read_once)


def run_main(**values):
  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()
  with flagsaver.flagsaver(**values):
    optimizers.main(["optimizers"])


def test_a_stopped_run_is_resumed(path, tmp_path, capsys, monkeypatch):
  own = {"table": path, "optimizers": ["random_search"], "keep": str(tmp_path / "runs")}
  settings = SETTINGS | own
  plain, done = optimizers.run, []

  def stopped(*arguments):
    if len(done) == 3:
      raise KeyboardInterrupt
    done.append(arguments)
    return plain(*arguments)

  monkeypatch.setattr(optimizers, "run", stopped)
  with pytest.raises(KeyboardInterrupt):
    run_main(**settings)
  assert len([*(tmp_path / "runs").glob("*.npz")]) == 3
  again = []
  monkeypatch.setattr(optimizers, "run", lambda *a: again.append(a) or plain(*a))
  run_main(**settings)
  assert again and again[0][2:] != done[-1][2:]
  printed = capsys.readouterr().out
  run_main(**settings | {"keep": None})
  assert capsys.readouterr().out == printed
  with pytest.raises(ValueError, match="seeds is 2 there and 3 here"):
    run_main(**settings | {"seeds": 3})


def test_main_prints_and_draws_regrets_that_end_at_zero(path, tmp_path, capsys, monkeypatch):
  seen, plain = [], optimizers.regrets

  def regrets(suite, runs):
    seen.append((suite, plain(suite, runs)))
    return seen[0][1]

  monkeypatch.setattr(optimizers, "regrets", regrets)
  figure = tmp_path / "regret.png"
  run_main(**SETTINGS, table=path, optimizers=["random_search"], plot=str(figure))
  printed = capsys.readouterr().out
  assert "random_search" in printed and "tiny" in printed and "jax" in printed
  assert figure.stat().st_size > 5_000
  [(suite, found)] = seen
  shares = [float(instance.name.split()[0]) for instance in suite.instances]
  # The first measurement is of the empty network, whose accuracy is 50.
  first = [optimum_of(tiny_rows(), (share, share)) - 50 for share in shares]
  assert set(found["random_search"]) == {"exact", "noisy"}
  for kind, regret in found["random_search"].items():
    assert (regret >= -1e-4).all()
    np.testing.assert_allclose(regret[:, :, 1], np.tile(first, (2, 1)).T, atol=1e-3)
    if kind == "exact":  # After as many measurements as there are networks.
      np.testing.assert_allclose(regret[:, :, 18], 0, atol=1e-3)


def tell_lengths(lengths):
  """Returns a constructor that records the limit it gets."""

  def make(evaluations):
    lengths.append(evaluations)
    return ns.optimizers.random_search(evaluations=evaluations)

  return make


def test_a_missing_optuna_is_named(monkeypatch):
  monkeypatch.setattr(optimizers, "optuna_samplers", None)
  with pytest.raises(
    ValueError, match=r"optuna_tpe needs Optuna: pip install -e '.\[benchmarks\]'"
  ):
    run_main(optimizers=["optuna_tpe"])


def test_a_file_that_cannot_be_written_is_refused_before_any_work(tmp_path, monkeypatch):
  monkeypatch.setattr(optimizers, "load_suite", lambda: pytest.fail("work was begun"))
  with pytest.raises(ValueError, match="missing/file cannot be written: its folder is missing"):
    run_main(plot=str(tmp_path / "missing" / "file"))


def test_a_users_optimizer_runs_by_its_module(path, capsys, monkeypatch):
  lengths = []
  monkeypatch.setattr("benchmarks.tables.made_for_a_test", tell_lengths(lengths), raising=False)
  own = "benchmarks.tables:made_for_a_test"
  run_main(**SETTINGS, table=path, optimizers=[own, "random_search"])
  printed = capsys.readouterr()
  assert own in printed.out
  assert lengths == [18]  # made once, so compiled once
  lines = printed.err.splitlines()
  told = [re.fullmatch(r"(\S+), (\w+): \d+\.\d s", line).groups() for line in lines]
  assert told == [(name, kind) for name in (own, "random_search") for kind in ("exact", "noisy")]


@pytest.mark.parametrize(
  ("flag", "words"),
  [
    ({"optimizers": ["magic"]}, "unknown optimizer 'magic'; allowed: rcas.*or module:function"),
    ({"optimizers": ["no.module:magic"]}, "no.module cannot be imported .*; allowed: rcas"),
    ({"optimizers": ["benchmarks.tables:magic"]}, "no optimizer 'magic'; allowed there: .*grid"),
    ({"optimizers": ["os:getcwd"]}, "'os:getcwd' returned str; allowed: an? .*Optimizer"),
    ({"optimizers": ["benchmarks.tables:grid"]}, "'benchmarks.tables:grid' with no arguments"),
    ({"measurements": ["a"]}, "--measurements=a: allowed are positive numbers"),
    ({"measurements": ["25", "0"]}, "--measurements=25,0: allowed are positive numbers"),
    ({"measurements": []}, "--measurements=: allowed are positive numbers"),
  ],
)
def test_a_wrong_flag_is_refused_before_any_work(flag, words, monkeypatch):
  monkeypatch.setattr(optimizers, "load_suite", lambda: pytest.fail("work was begun"))
  with pytest.raises(ValueError, match=words):
    run_main(**flag)


def test_brute_force_has_no_regret_and_counts_networks_once(path):
  table = tables.Table(path)
  [instance] = table.instances([(0.8, 0.8)])
  rngs = jax.random.split(jax.random.key(0), 2)
  optimizer = ns.optimizers.brute_force(batch=4)
  scores, made, _ = runs.run_seeds(optimizer, 100, instance.case, rngs, jnp.bool_(True))
  np.testing.assert_allclose(scores[:, -1], instance.optimum, rtol=1e-6)
  problem = instance.case.problem
  masks = (np.arange(32)[:, None] >> np.arange(5)) % 2 == 1
  kept = masks[np.asarray(jax.vmap(problem.feasible)(masks))]
  networks = {np.asarray(table.canonical(mask)).tobytes() for mask in kept}
  assert made.tolist() == [len(networks)] * 2 and len(networks) < len(kept)
  mean = jax.jit(jax.vmap(instance.case.mean))
  result = ns.maximize(problem, lambda asked: np.asarray(mean(asked)), optimizer)
  assert result.evaluations == len(networks)
  assert result.value == pytest.approx(float(scores[0, -1]), rel=1e-6)


def search_beyond_the_budget(evaluations):
  inner = ns.optimizers.random_search(evaluations)

  def ask(state):
    masks, valid = inner.ask(state)
    return jnp.ones_like(masks), valid

  return inner._replace(ask=ask)


def test_an_optimizer_that_exceeds_a_budget_is_refused(path):
  own = f"{__name__}:search_beyond_the_budget"
  with pytest.raises(ValueError, match=f"{own}: a set .* is not feasible .exact, "):
    run_main(**SETTINGS, table=path, optimizers=[own])


def test_a_proxy_is_measured_and_the_final_score_judged(tmp_path, capsys):
  rows = tiny_rows(trainings=("acc1", "acc2"))
  proxied = [row | {"acc0": 100 - row["acc1"]} for row in rows]
  settings = {"table": write(tmp_path / "t.csv", proxied), "budgets": "diagonal"}
  brute_force = "nas_submod.optimizers:brute_force"
  run_main(**settings, measurements=["40"], optimizers=[brute_force], measured="acc0")
  printed = " ".join(capsys.readouterr().out.split())
  assert "measured acc0: 3 problems" in printed and "final score: -1.00" in printed
  # The proxy is best where the final score is worst: for the empty set.
  worst = (rows[0]["acc1"] + rows[0]["acc2"]) / 2
  regret = np.mean([optimum_of(rows, (f, f)) - worst for f in (0.6, 0.7, 0.8)])
  assert f"{regret:.3f}" in printed and "noisy" not in printed
  with pytest.raises(ValueError, match="--noise=noisy: F has no noise"):
    run_main(**settings, measured="acc0", noise="noisy")
  with pytest.raises(ValueError, match="--measured needs a --table"):
    run_main(table=None, synthetic="proxy", measured="acc0")


def test_a_missing_table_is_named(tmp_path):
  with pytest.raises(ValueError, match=r"--table=.*none.csv: no such file; benchmarks/tables.py"):
    run_main(table=str(tmp_path / "none.csv"), measurements=["3"])


def replicating(told):
  """Returns an optimizer that asks one set with 1, 2, 3, then 2 replicates and records answers."""
  wanted = jnp.array([1, 2, 3, 2])

  def tell(state, values, standard_errors):
    problem, i = state
    jax.debug.callback(
      lambda *row: told.append([float(x) for x in row]), values[0], standard_errors[0]
    )
    here = problem.required
    return (problem, i + 1), Info(jnp.ones(1, bool), here[None], values)

  return Optimizer(
    init=lambda problem, rng: (problem, jnp.int32(0)),
    ask=lambda state: (state[0].required[None], jnp.ones(1, bool)),
    tell=tell,
    done=lambda state: state[1] >= 4,
    best=lambda state: (state[0].required, jnp.float32(0)),
    replicates=lambda state: wanted[state[1]][None],
  )


def test_replicates_are_means_of_the_first_measurements(path):
  table = tables.Table(path)
  [instance] = table.instances([(0.7, 0.8)])
  told = []
  optimizer, rngs = replicating(told), jax.random.split(jax.random.key(3), 1)

  def run(exact):
    told.clear()
    _, made, _ = runs.run_seeds(optimizer, 50, instance.case, rngs, jnp.bool_(exact))
    jax.effects_barrier()
    return made.tolist(), *np.array(told).T

  made, means, errors = run(exact=True)
  assert made == [3]  # Optimizers only learn from equal replicates that F is exact.
  np.testing.assert_allclose(means, 50)
  assert np.isnan(errors[0])
  np.testing.assert_array_equal(errors[1:], 0)

  made, means, errors = run(exact=False)
  assert made == [3]
  draws = np.array([means[0], 2 * means[1] - means[0], 3 * means[2] - 2 * means[1]])
  assert set(np.round(draws, 3)) <= {49.5, 50.0, 50.5} and len(set(np.round(draws, 3))) > 1
  assert means[3] == means[1] and errors[3] == errors[1]
  assert np.isnan(errors[0])
  for k in (2, 3):
    assert errors[k - 1] == pytest.approx(draws[:k].std(ddof=1) / np.sqrt(k), abs=1e-4)


@pytest.mark.parametrize("name", ["optuna_tpe", "optuna_nsga2_10"])
def test_optuna_measures_feasible_networks_once(path, name):
  pytest.importorskip("optuna")
  from benchmarks import optuna_samplers

  table = tables.Table(path)
  [instance] = table.instances([(0.8, 0.8)])
  sampler, start = optuna_samplers.samplers()[name]
  scores, made = optuna_samplers.run(sampler, start, instance.case, 12, seeds=2, exact=True)
  assert scores.shape == (2, 13) and (made <= 12).all()
  assert (np.diff(scores, axis=1) >= 0).all() and scores.max() <= instance.optimum + 1e-4
  assert (scores[:, -1] > instance.optimum - 5).all()
  judged = instance.case._replace(judge=Partial(lambda mask: -instance.case.mean(mask)))
  other, _ = optuna_samplers.run(sampler, start, judged, 12, seeds=2, exact=True)
  np.testing.assert_allclose(other, -scores)


def test_convolutions_are_timed_in_both_ways(capsys, monkeypatch):
  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()
  monkeypatch.setattr(convolutions, "FORMS", [convolutions.Form(4, 6, 6, 3, 2, 6)])
  with flagsaver.flagsaver(batch_size=2, dtype="float32", repeats=2, untuned=False):
    convolutions.main(["convolutions"])
  printed = capsys.readouterr().out
  assert printed.count("3x3, 4x4x6 -> 6, stride 2, depthwise") == 2 and "n = 2" in printed
  with flagsaver.flagsaver(untuned=True), pytest.raises(SystemExit, match="is for GPUs"):
    convolutions.main(["convolutions"])


def test_mobilenet_v2_of_the_deployed_table_is_the_published_one():
  found, shape = deployed.compared()
  published = {"params": 3_504_872, "madds": 299_494_272}
  assert found["MobileNetV2"].cost(shape) == ((1000,), published)


def test_deployed_networks_are_timed_beside_the_first(capsys, monkeypatch):
  for package in ("onnx", "onnxruntime", "ai_edge_litert"):
    pytest.importorskip(package, reason="extras export and tflite")
  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()
  space = spaces.get("digits")
  small = networks.build(space, space.start)
  large = networks.build(space, space.parse("e6 | e6 e6 | e3"))
  monkeypatch.setattr(
    deployed, "compared", lambda: ({"small": small, "large": large}, space.image_shape)
  )
  with flagsaver.flagsaver(sweeps=2):
    deployed.main(["deployed"])
  printed = capsys.readouterr().out
  assert printed.count("small") == printed.count("large") == 2 and "n = 2" in printed
  assert "197.2" in printed and "0.931" in printed and "0.993" in printed
  with (
    flagsaver.flagsaver(runtimes=["torch"]),
    pytest.raises(SystemExit, match="--runtimes=torch: allowed are onnxruntime, litert"),
  ):
    deployed.main(["deployed"])
