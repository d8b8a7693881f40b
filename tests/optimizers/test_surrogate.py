import functools

import chex
import instances
import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor, kernels

import nas_submod as ns
from nas_submod import set_functions
from nas_submod.optimizers import random_search, surrogate
from nas_submod.optimizers.bayesian import data as data_of
from nas_submod.optimizers.bayesian import kernel as model
from nas_submod.optimizers.bayesian import posterior as posterior_of
from nas_submod.optimizers.bayesian import thompson as search_of
from nas_submod.optimizers.bayesian.knowledge_gradient import choose
from nas_submod.precision import full_precision

NOISE = 0.05
ONE, FOUR = surrogate(24), surrogate(24, batch=4)  # all tests share their compiled programs


class Fixed(kernels.Kernel):
  """A kernel given as a matrix; inputs are row numbers."""

  def __init__(self, matrix):
    self.matrix = matrix

  def __call__(self, x, y=None, eval_gradient=False):
    rows, columns = x[:, 0].astype(int), (x if y is None else y)[:, 0].astype(int)
    return self.matrix[np.ix_(rows, columns)]

  def diag(self, x):
    return np.diag(self.matrix)[x[:, 0].astype(int)]

  def is_stationary(self):
    return False


def measured(seed, rows=24, count=12):
  """Returns a problem, its encoding, data of some measured sets, and unmeasured sets."""
  problem = instances.two_knapsacks(seed)
  masks = instances.every_mask(8)
  masks = masks[(masks.reshape(-1, 4, 2).sum(-1) < 2).all(1)]  # one element of each group
  masks = np.random.default_rng(seed).permutation(masks)[: rows + 4]
  encoding = model.encode(problem, jnp.asarray(masks))
  used = np.arange(rows) < count
  values = np.where(used, np.random.default_rng(seed).normal(size=rows), 0).astype(np.float32)
  data = data_of.Data(
    masks=jnp.asarray(masks[:rows]),
    features=model.featurize(problem, encoding, jnp.asarray(masks[:rows])),
    values=jnp.asarray(values),
    counts=jnp.asarray(np.where(used, 1 + np.arange(rows) % 3, 0)),
    variances=jnp.full(rows, jnp.nan),
  )
  return problem, encoding, data, jnp.asarray(masks[count:])


def conditioned(seed):
  problem, encoding, data, others = measured(seed)
  targets = data_of.warp(data)
  parameters = posterior_of.start_fit(encoding).parameters
  return (
    problem,
    encoding,
    data,
    others,
    posterior_of.condition(parameters, encoding, data, targets),
  )


@full_precision()  # as in the drivers
def test_the_posterior_equals_that_of_scikit_learn():
  problem, encoding, data, others, posterior = conditioned(0)
  features = model.featurize(problem, encoding, others)
  mean, covariance = posterior_of.predict(
    posterior, encoding, features, jnp.full(len(others), len(data.counts))
  )
  both = jax.tree.map(lambda a, b: jnp.concatenate([a[:12], b]), data.features, features)
  prior = np.asarray(posterior_of.covariances(posterior, encoding, both, both), np.float64)
  prior += np.exp(posterior_of.PRIOR_MEAN.nugget) * np.eye(len(prior))
  noise = np.asarray(posterior.variances[:12]) - np.exp(posterior_of.PRIOR_MEAN.nugget)
  reference = GaussianProcessRegressor(Fixed(prior), alpha=noise, optimizer=None)
  reference.fit(np.arange(12)[:, None], np.asarray(posterior.targets[:12]))
  rows = np.arange(12, len(prior))[:, None]
  expected, expected_covariance = reference.predict(rows, return_cov=True)
  np.testing.assert_allclose(mean, expected, atol=2e-4)
  np.testing.assert_allclose(covariance, expected_covariance, atol=5e-4)
  assert np.linalg.eigvalsh(prior).min() > 0


def test_the_evidence_and_its_gradient_equal_scipy_density_and_finite_differences():
  rng = np.random.default_rng(0)
  root = rng.normal(size=(5, 5))
  covariance, values = jnp.asarray(root @ root.T + np.eye(5)), jnp.asarray(rng.normal(size=5))
  density = jax.scipy.stats.multivariate_normal.logpdf(values, jnp.zeros(5), covariance)
  constant = 2.5 * np.log(2 * np.pi)
  np.testing.assert_allclose(
    posterior_of._evidence(covariance, values), -density - constant, rtol=1e-5
  )
  jax.test_util.check_grads(
    lambda c, v: posterior_of._evidence((c + c.T) / 2, v),
    (covariance, values),
    order=1,
    modes=["rev"],
    rtol=0.02,
  )


@full_precision()
def test_the_fit_lowers_its_loss_also_after_gradients_that_are_nan_or_huge(monkeypatch):
  _, encoding, data, _ = measured(0)
  targets = data_of.warp(data)
  products = model.inner_products(encoding, data.features, data.features)
  norms = model.square_norms(encoding, data.features)
  start = posterior_of.start_fit(encoding)

  @jax.jit
  def loss(fit):
    return posterior_of._loss(fit.parameters, products, norms, targets)

  def broken(factor, parameters, *_):
    return factor * sum(jnp.sum(leaf) for leaf in jax.tree.leaves(parameters))

  data_of_all = dict(encoding=encoding, data=data, targets=targets)
  improve = jax.jit(functools.partial(posterior_of.improve, **data_of_all))
  assert loss(improve(start)) < loss(start) - 0.1
  for factor in (jnp.nan, 1e30):
    with monkeypatch.context() as patch:
      patch.setattr(posterior_of, "_loss", functools.partial(broken, factor))
      fit = posterior_of.improve(start, **data_of_all)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(fit.parameters))
    for _ in range(8):
      fit = improve(fit)
    assert loss(fit) < loss(start) - 0.1, factor


@full_precision()
def test_draws_have_the_moments_of_the_posterior():
  problem, encoding, _, others, posterior = conditioned(1)
  features = model.featurize(problem, encoding, others)
  rows = jnp.full(len(others), 24)
  mean, covariance = posterior_of.predict(posterior, encoding, features, rows)
  covariance -= np.exp(posterior_of.PRIOR_MEAN.nugget) * np.eye(len(others))

  def values(rng):
    waves, draws = search_of.draw(posterior, encoding, rng, jnp.ones(64).at[0].set(0.0))
    cross = posterior_of.covariances(posterior, encoding, features)
    prior = jax.vmap(search_of._prior_values, in_axes=(None, 0, None))(waves, draws, features)
    return prior + draws.updates @ cross.T

  drawn = np.asarray(jax.jit(jax.vmap(values))(jax.random.split(jax.random.key(0), 200)))
  np.testing.assert_allclose(drawn[:, 0], np.broadcast_to(mean, drawn[:, 0].shape), atol=1e-3)
  drawn = drawn[:, 1:].reshape(-1, len(others))
  deviation = np.sqrt(np.diagonal(covariance))
  assert (np.abs(drawn.mean(0) - mean) < 0.05 * deviation + 0.01).all()
  np.testing.assert_allclose(drawn.std(0), deviation, rtol=0.1)


def test_warping_keeps_the_order_and_puts_failures_lowest():
  _, _, data, _ = measured(2)
  values = data.values.at[3].set(-jnp.inf).at[5].set(-1e9)
  warped = np.asarray(data_of.warp(data._replace(values=values)).values)[:12]
  order = np.argsort(values[:12])
  assert (np.diff(warped[order]) > 0).all()
  assert np.isfinite(warped).all() and warped[3] == warped.min() > -4


def test_the_first_choice_has_the_best_simulated_knowledge_gradient():
  rng = np.random.default_rng(0)
  root = rng.normal(size=(5, 5))
  covariance, mean, noise = root @ root.T / 5, rng.normal(size=5), 0.3
  answers = np.array([True, True, False, False, False])
  worth = []
  for x in range(5):
    move = covariance[:, x] / np.sqrt(covariance[x, x] + noise)
    after = mean + rng.normal(size=(200_000, 1)) * move
    eligible = answers | (np.arange(5) == x)
    worth.append(after[:, eligible].max(1).mean() - mean[answers].max())
  order, valid = choose(
    jnp.asarray(mean), jnp.asarray(covariance), jnp.float32(noise), jnp.asarray(answers),
    jnp.ones(5, bool), 3,
  )  # fmt: skip
  assert order[0] == np.argmax(worth) and np.diff(np.sort(worth)[-2:]) > 0.02
  assert valid.all() and len(set(order.tolist())) == 3


def noisy(function, seed):
  """Returns measurements with noise `NOISE`, and a dictionary that counts them for each set."""
  rng, on_host, asked = np.random.default_rng(seed), set_functions.on_host(function), {}

  def value(masks):
    for mask in masks:
      asked[mask.tobytes()] = asked.get(mask.tobytes(), 0) + 1
    return on_host(masks) + rng.normal(0, NOISE, len(masks))

  return value, asked


def knapsacks(seed, cost=None):
  """Twelve elements in six groups, two knapsacks."""
  cost = np.random.default_rng(seed).integers(1, 6, (12, 2)) if cost is None else cost
  return ns.Problem(np.arange(12) // 2, cost, [11, 11])


@pytest.mark.slow
def test_beats_random_search_under_noise():
  gaps = {"surrogate": [], "random": []}
  random = random_search(24)
  masks = instances.every_mask(12)
  for seed in range(6):
    problem, function = knapsacks(seed), instances.facility_location(seed, 12)
    feasible = np.asarray(instances.every_feasible(problem, masks))
    values = set_functions.on_host(function)(masks)
    for name, optimizer in ("surrogate", ONE), ("random", random):
      result = ns.maximize(problem, noisy(function, seed)[0], optimizer, seed=seed)
      found = values[(masks == result.mask).all(1)][0]
      gaps[name].append(values[feasible].max() - found)
  assert np.mean(gaps["surrogate"]) < 0.5 * np.mean(gaps["random"])


def test_noise_is_replicated_and_an_exact_f_hardly_ever():
  problem, function = knapsacks(3), instances.facility_location(3, 12)
  value, asked = noisy(function, 0)
  result = ns.maximize(problem, value, ONE, seed=0)
  assert result.evaluations == sum(asked.values()) == 24
  assert max(asked.values()) > 1

  on_host, counts = set_functions.on_host(function), {}

  def exact(masks):
    for mask in masks:
      counts[mask.tobytes()] = counts.get(mask.tobytes(), 0) + 1
    return on_host(masks)

  ns.maximize(problem, exact, ONE, seed=0)
  assert 0 < sum(counts.values()) - len(counts) <= 2  # the repeats that show that F is exact
  counts.clear()
  ns.maximize(problem, lambda masks: (exact(masks), np.zeros(len(masks))), ONE, seed=0)
  assert set(counts.values()) == {1}


@pytest.mark.slow
def test_a_batch_holds_distinct_sets():
  function, rounds = set_functions.on_host(instances.facility_location(4, 12)), []

  def value(masks):
    rounds.append(masks)
    return function(masks), np.zeros(len(masks))

  result = ns.maximize(knapsacks(4), value, FOUR, seed=1)
  assert result.rounds >= 6 and max(len(masks) for masks in rounds) == 4
  for masks in rounds:
    assert len(np.unique(masks, axis=0)) == len(masks)


def test_all_evaluations_are_used_when_the_empty_set_is_best():
  rng, asked = np.random.default_rng(0), 0

  def value(masks):
    nonlocal asked
    asked += len(masks)
    return -masks.sum(1) + rng.normal(0, 0.3, len(masks))

  result = ns.maximize(knapsacks(0, np.full((12, 2), 3)), value, FOUR, seed=0)
  assert result.evaluations == asked == 24 and not result.mask.any()


def test_a_failed_set_is_not_asked_again():
  asked = []

  def value(masks):
    asked.extend(mask.tobytes() for mask in masks)
    return np.full(len(masks), -np.inf)

  result = ns.maximize(knapsacks(5), value, ONE, seed=0)
  assert len(set(asked)) == len(asked)
  assert result.value == -np.inf and not result.mask.any()


def test_bad_arguments_are_refused():
  with pytest.raises(ValueError, match="batch must be at least 1, got 0"):
    surrogate(batch=0)


def pool_of(problem, count, seed=0):
  masks = instances.every_mask(problem.n)
  feasible = masks[np.asarray(instances.every_feasible(problem, masks))]
  return np.random.default_rng(seed).permutation(feasible)[:count]


def test_only_sets_of_the_pool_are_asked_and_the_best_is_found():
  problem, function = knapsacks(1), instances.facility_location(1, 12)
  values = set_functions.on_host(function)
  pool, asked = pool_of(problem, 40), []
  pool[3] = True  # infeasible, so it is never asked

  def value(masks):
    asked.extend(mask.tobytes() for mask in masks)
    return values(masks), np.zeros(len(masks))

  host = ns.maximize(problem, value, surrogate(24, pool=pool), seed=2)
  assert set(asked) <= {mask.tobytes() for mask in np.delete(pool, 3, 0)}
  assert len(asked) == 24 and host.value == pytest.approx(values(np.delete(pool, 3, 0)).max())
  device = ns.maximize(problem, function, surrogate(24, pool=pool), seed=2, traceable=True)
  np.testing.assert_array_equal(device.mask, host.mask)


def test_a_small_pool_is_measured_completely():
  problem, function = knapsacks(2), instances.facility_location(2, 12)
  pool = pool_of(problem, 11)
  result = ns.maximize(problem, function, surrogate(24, batch=4, pool=pool), traceable=True)
  values = set_functions.on_host(function)(pool)
  assert result.value == pytest.approx(values.max())


def test_a_pool_without_a_feasible_set_is_refused():
  function = set_functions.on_host(instances.facility_location(2, 12))
  with pytest.raises(ValueError, match="asked for no set"):
    ns.maximize(knapsacks(2), function, surrogate(24, pool=np.ones((3, 12), bool)))


def hidden(seed):
  """A problem whose F elements, costs and sizes do not explain, a pool and the values of F."""
  problem = knapsacks(seed)
  pool = pool_of(problem, 200, seed)
  return problem, pool, np.random.default_rng(seed).normal(size=len(pool)).astype(np.float32)


def found_with(problem, pool, values, features, seed):
  rows = {mask.tobytes(): row for row, mask in enumerate(pool)}

  def value(masks):
    found = np.array([values[rows[mask.tobytes()]] for mask in masks])
    return found, np.zeros(len(masks))

  return ns.maximize(problem, value, surrogate(16, pool=pool, features=features), seed=seed).value


@pytest.mark.slow
def test_a_feature_that_ranks_finds_the_best_set_and_noise_does_no_harm():
  good, useless, alone = [], [], []
  for seed in range(4):
    problem, pool, values = hidden(seed)
    rng = np.random.default_rng(100 + seed)
    ranks = np.stack([values + 0.3 * rng.normal(size=len(values)), rng.normal(size=len(values))], 1)
    good.append(found_with(problem, pool, values, ranks, seed) - values.max())
    useless.append(found_with(problem, pool, values, ranks[:, 1], seed) - values.max())
    alone.append(found_with(problem, pool, values, None, seed) - values.max())
  assert np.mean(good) > -0.2 and np.mean(good) > np.mean(alone) + 0.3
  assert np.mean(useless) > np.mean(alone) - 0.4


def test_a_function_and_its_table_are_the_same_features():
  problem = knapsacks(1)
  pool = pool_of(problem, 40)
  table = pool @ np.arange(12.0)
  one, other = (
    jax.jit(surrogate(16, pool=pool, features=given).init)(problem, jax.random.key(0))
    for given in (table, lambda mask: mask @ jnp.arange(12.0))
  )
  chex.assert_trees_all_close(one._replace(rng=None), other._replace(rng=None), rtol=1e-6)


def test_features_need_no_pool_and_equal_arrays_give_one_optimizer():
  problem, function = knapsacks(1), instances.facility_location(1, 12)
  optimizer = surrogate(16, features=lambda mask: jnp.stack([mask.sum(), mask[0]]))
  result = ns.maximize(problem, function, optimizer, traceable=True)
  assert result.value > 0 and problem.feasible(result.mask)
  pool = pool_of(problem, 5)
  assert surrogate(pool=pool) is surrogate(pool=pool.copy())


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (dict(pool=np.ones(3, bool)), r"pool must be bool \[K, n\].* got bool \(3,\)"),
    (dict(pool=np.ones((3, 12))), r"pool must be bool \[K, n\].* got float64 \(3, 12\)"),
    (dict(features=np.ones(3)), "features is an array, which needs a pool"),
    (dict(features=np.ones(4), pool=np.ones((3, 12), bool)), r"the K = 3 sets .* got \(4,\)"),
    (dict(features=["a"] * 3, pool=np.ones((3, 12), bool)), "features must be numbers"),
  ],
)
def test_bad_features_and_pools_are_refused(arguments, message):
  with pytest.raises(ValueError, match=message):
    surrogate(**arguments)


def test_features_and_pools_that_do_not_fit_the_problem_are_refused():
  problem, function = knapsacks(1), instances.facility_location(1, 12)
  for given, message in (
    (dict(pool=np.ones((3, 5), bool)), "pool has sets of 5 elements, the problem has 12"),
    (dict(features=lambda mask: jnp.eye(2)), r"features must be .* it returned \(2, 2\)"),
    (dict(features=lambda mask: float(mask[0])), "features must be a traceable function"),
  ):
    with pytest.raises(ValueError, match=message):
      ns.maximize(problem, function, surrogate(16, **given), traceable=True)


def test_a_set_that_the_limit_left_unmeasured_is_no_failed_one():
  problem = ns.Problem([-1] * 6, np.ones(6), 3)
  optimizer = ns.optimizers.surrogate(evaluations=8, batch=2)
  state = optimizer.init(problem, jax.random.key(0))
  answers = jnp.array([1.0, -jnp.inf])
  failed, _ = optimizer.tell(state, answers, jnp.array([jnp.nan, jnp.nan]))
  unmeasured, _ = optimizer.tell(state, answers, jnp.array([jnp.nan, jnp.inf]))
  assert [int(told.data.counts.sum()) for told in (failed, unmeasured)] == [2, 1]


def test_there_are_at_most_as_many_measurements_as_evaluations():
  problem = ns.Problem([-1] * 6, np.ones(6), 3)
  calls = []

  def value(masks):
    calls.extend(masks)
    return masks.sum(1)

  ns.maximize(problem, value, ns.optimizers.surrogate(evaluations=2, batch=4))
  assert len(calls) == 2
