"""The additive baseline against SciPy's densities and against brute force."""

import jax
import numpy as np
import scipy.stats

import nas_submod as ns
from benchmarks import additive as baseline
from nas_submod import set_functions


def problem_of(seed):
  cost = np.random.default_rng(seed).integers(1, 6, (12, 2))
  return ns.Problem(np.arange(12) // 2, cost, [11, 11])


def feasible_sets(problem):
  masks = (np.arange(2**12)[:, None] >> np.arange(12)) % 2 == 1
  return masks[np.asarray(jax.jit(jax.vmap(problem.feasible))(masks))]


def test_the_best_set_of_an_additive_function_is_found():
  optimizer = baseline.additive(evaluations=24)
  for seed in range(4):
    problem = problem_of(seed)
    function = set_functions.modular(np.random.default_rng(seed).random(12))
    best = set_functions.on_host(function)(feasible_sets(problem)).max()
    result = ns.maximize(problem, function, optimizer, seed=seed, traceable=True)
    assert result.evaluations == 24 and result.value > 0.97 * best


def test_the_fit_is_the_ridge_of_the_largest_evidence():
  problem, rng = problem_of(0), np.random.default_rng(0)
  optimizer = baseline.additive(evaluations=20)
  masks = rng.permutation(feasible_sets(problem))[:15]
  state = optimizer.init(problem, jax.random.key(0))
  values = np.full(20, -np.inf)
  values[:15] = masks @ rng.normal(size=12) + rng.normal(0, 0.5, 15)
  values[4] = -np.inf  # a failure
  state = state._replace(
    masks=state.masks.at[:15].set(masks), values=jax.numpy.float32(values), asked=15
  )
  mean, _ = baseline._fit(state, jax.random.key(0))

  used = np.isfinite(values)
  features = np.asarray(baseline._features(state, state.masks), float)[used]
  scaled = (values[used] - values[used].mean()) / values[used].std()
  own = np.isin(np.arange(features.shape[1]), np.arange(1, 13))

  def density(weight, noise):
    prior = np.where(own, weight, 1.0)
    covariance = (features * prior) @ features.T + noise * np.eye(len(scaled))
    return scipy.stats.multivariate_normal(np.zeros(len(scaled)), covariance).logpdf(scaled)

  grid = list(zip(baseline._WEIGHT.ravel(), baseline._NOISE.ravel()))
  weight, noise = max(grid, key=lambda pair: density(*pair))
  prior = np.where(own, weight, 1.0)
  ridge = np.linalg.solve(features.T @ features / noise + np.diag(1 / prior), features.T @ scaled)
  np.testing.assert_allclose(mean, ridge / noise, atol=2e-3)


def test_the_largest_set_is_measured_alone():
  problem = problem_of(1)
  result = ns.maximize(
    problem, set_functions.modular(np.ones(12)), baseline.largest(), traceable=True
  )
  sums = [(np.asarray(problem.cost(mask)) / 11).sum() for mask in feasible_sets(problem)]
  assert result.evaluations == 1
  assert (result.cost / 11).sum() == max(sums)
