"""Fitting the surrogate's Gaussian process and predicting with it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular
from jax.scipy.stats import norm

from nas_submod.optimizers.bayesian.kernel import (
  Encoding,
  Features,
  Hyperparameters,
  inner_products,
  kernel,
  square_norms,
)

_FLOOR = 3e-4  # least variance of a measurement, in units of the warped values; for float32
_ADAM_STEPS, _ADAM_RATE = 8, 0.1
_ROUNDING = 1e-10  # variances up to here, in units of the warped values, are no noise


# Of the logarithms. NumPy, since importing the package must not start JAX's devices.
PRIOR_MEAN = Hyperparameters(
  additive=np.log(np.full(3, 0.5, np.float32)),
  rates=np.log(np.full(3, 0.3, np.float32)),
  interactions=np.log(np.float32(0.3)),
  noise=np.log(np.float32(0.1)),
  nugget=np.log(np.float32(0.01)),
)
PRIOR_DEVIATION = Hyperparameters(
  additive=np.full(3, 1.5, np.float32),
  rates=np.full(3, 1.0, np.float32),
  interactions=np.float32(1.5),
  noise=np.float32(1.5),
  nugget=np.float32(1.5),
)


class Data(NamedTuple):
  """What was measured, one row for each distinct set; at most `E` rows.

  Attributes:
    masks: The sets as asked. `[E, n]` bool.
    features: Their features. `[E, n]` and `[E, d]`.
    values: Mean of the measurements. `[E]`.
    counts: Number of measurements, 0 for a free row. `[E]` int.
    variances: Of one measurement, estimated or stated; NaN where unknown. `[E]`.
  """

  masks: jax.Array
  features: Features
  values: jax.Array
  counts: jax.Array
  variances: jax.Array


class Targets(NamedTuple):
  """Warped measurements.

  Attributes:
    values: Mean of each row, 0 for a free row. `[E]`.
    counts: As in `Data`. `[E]` int.
    squares: Sum of squared deviations of repeated measurements, warped. `[]`.
    freedom: Degrees of freedom of `squares`. `[]` int.
    exact: Whether F is known to be without noise. `[]` bool.
  """

  values: jax.Array
  counts: jax.Array
  squares: jax.Array
  freedom: jax.Array
  exact: jax.Array


class Fit(NamedTuple):
  """Hyperparameters and the moments of Adam, kept between rounds."""

  parameters: Hyperparameters
  first: Hyperparameters
  second: Hyperparameters


class Posterior(NamedTuple):
  """What a prediction needs: hyperparameters and the factorised covariance of the data.

  Attributes:
    parameters: The hyperparameters.
    features: Of the data. `[E, n]` and `[E, d]`.
    norms: Of the data in each block. `[3, E]`.
    used: Whether the row holds data. `[E]` bool.
    targets: Warped values. `[E]`.
    variances: Nugget and noise of each row. `[E]`.
    whitening: Inverse of the Cholesky factor of the covariance of the data. `[E, E]`.
    pull: Inverse of that covariance times the targets. `[E]`.
    noise: Variance of one measurement. `[]`.
  """

  parameters: Hyperparameters
  features: Features
  norms: jax.Array
  used: jax.Array
  targets: jax.Array
  variances: jax.Array
  whitening: jax.Array
  pull: jax.Array
  noise: jax.Array


def warp(data: Data) -> Targets:
  """Half-rank warping (Song et al. 2024, "The Vizier Gaussian process bandit algorithm").

  Values above the median are centred there and divided by their root mean square; those below are
  replaced by normal quantiles of their ranks, so that bad networks, diverged ones (-inf) among
  them, do not set the scale on which the good ones differ.
  """
  used = data.counts > 0
  finite = used & jnp.isfinite(data.values)
  values = jnp.where(finite, data.values, jnp.inf)
  middle = jnp.maximum((finite.sum() - 1) // 2, 0)
  median = jnp.where(finite.any(), jnp.sort(values)[middle], 0.0)
  upper = finite & (values >= median)
  square = jnp.where(upper, (values - median) ** 2, 0).sum() / jnp.maximum(upper.sum(), 1)
  scale = jnp.where(square > 0, jnp.sqrt(square), 1.0)

  known = jnp.where(used, data.values, jnp.inf)
  below = (known[None, :] < known[:, None]).sum(axis=1)
  ties = (known[None, :] == known[:, None]).sum(axis=1)
  rank = (below + 0.5 * ties) / jnp.maximum(used.sum(), 1)
  quantile = jnp.minimum(norm.ppf(jnp.clip(rank, 1e-3, 1 - 1e-3)), 0.0)
  warped = jnp.where(upper, (data.values - median) / scale, quantile)
  known_noise = finite & (data.variances >= 0)
  variances = jnp.where(known_noise, data.variances / scale**2, 0.0)
  freedom = jnp.where(known_noise & upper, jnp.maximum(data.counts - 1, 1), 0)
  # One repeat that agrees may be chance: few validation images make few accuracies.
  stated = known_noise & (data.counts == 1)
  certain = stated.any() | (jnp.where(known_noise, data.counts - 1, 0).sum() >= 2)
  return Targets(
    values=jnp.where(used, warped, 0.0),
    counts=data.counts,
    squares=jnp.sum(freedom * variances),
    freedom=freedom.sum(),
    exact=certain & (variances.max() <= _ROUNDING),
  )


def _covariance(
  parameters: Hyperparameters, products: jax.Array, norms: jax.Array, targets: Targets
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Covariance of the measured means `[E, E]`, their own variances `[E]`, and the noise `[]`."""
  used = targets.counts > 0
  noise = jnp.where(targets.exact, 0.0, jnp.exp(parameters.noise))
  own = jnp.exp(parameters.nugget) + noise / jnp.maximum(targets.counts, 1) + _FLOOR
  between = jnp.where(used[:, None] & used, kernel(parameters, products, norms, norms), 0.0)
  own = jnp.where(used, own, 1.0)
  return between + jnp.diag(own), own, noise


def _whiten(covariance: jax.Array) -> jax.Array:
  """The inverse of the Cholesky factor of `covariance [E, E]`, lower triangular.

  The only two calls of LAPACK, one after the other: where seeds are vmapped on a CPU, two of them
  at the same time may wait for each other's threads forever (jaxlib 0.10).
  """
  factor = jnp.linalg.cholesky(covariance)
  return solve_triangular(factor, jnp.eye(len(factor), dtype=factor.dtype), lower=True)


@jax.custom_vjp
def _evidence(covariance: jax.Array, values: jax.Array) -> jax.Array:
  """Negative logarithm of the normal density of `values [E]`, without its constant."""
  return _evidence_forward(covariance, values)[0]


def _evidence_forward(
  covariance: jax.Array, values: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  whitening = _whiten(covariance)
  white = whitening @ values
  return 0.5 * white @ white - jnp.log(jnp.diagonal(whitening)).sum(), (whitening, white)


def _evidence_backward(
  kept: tuple[jax.Array, jax.Array], cotangent: jax.Array
) -> tuple[jax.Array, jax.Array]:
  whitening, white = kept
  pull = whitening.T @ white
  gradient = 0.5 * (whitening.T @ whitening - jnp.outer(pull, pull))
  return cotangent * gradient, cotangent * pull


_evidence.defvjp(_evidence_forward, _evidence_backward)


def _loss(
  parameters: Hyperparameters, products: jax.Array, norms: jax.Array, targets: Targets
) -> jax.Array:
  """Negative logarithm of the posterior density of the hyperparameters."""
  covariance, _, noise = _covariance(parameters, products, norms, targets)
  evidence = _evidence(covariance, targets.values)
  noise += _FLOOR
  replicates = 0.5 * (targets.squares / noise + targets.freedom * jnp.log(noise))
  prior = jax.tree.map(
    lambda x, m, s: jnp.sum(((x - m) / s) ** 2), parameters, PRIOR_MEAN, PRIOR_DEVIATION
  )
  return evidence + replicates + 0.5 * sum(prior)


def start_fit() -> Fit:
  """The prior's mode."""
  zeros = jax.tree.map(jnp.zeros_like, PRIOR_MEAN)
  return Fit(jax.tree.map(jnp.asarray, PRIOR_MEAN), zeros, zeros)


def improve(fit: Fit, encoding: Encoding, data: Data, targets: Targets) -> Fit:
  """A few steps of Adam (Kingma and Ba 2015) from the hyperparameters of the round before."""
  products = inner_products(encoding, data.features, data.features)
  norms = square_norms(encoding, data.features)

  def step(_: jax.Array, fit: Fit) -> Fit:
    gradient = jax.grad(_loss)(fit.parameters, products, norms, targets)
    gradient = jax.tree.map(lambda g: jnp.clip(jnp.nan_to_num(g), -20, 20), gradient)
    first = jax.tree.map(lambda m, g: 0.8 * m + 0.2 * g, fit.first, gradient)
    second = jax.tree.map(lambda v, g: 0.9 * v + 0.1 * g * g, fit.second, gradient)
    parameters = jax.tree.map(
      lambda x, m, v: x - _ADAM_RATE * m / (jnp.sqrt(v) + 1e-3), fit.parameters, first, second
    )
    return Fit(parameters, first, second)

  return jax.lax.fori_loop(0, _ADAM_STEPS, step, fit)


def condition(
  parameters: Hyperparameters, encoding: Encoding, data: Data, targets: Targets
) -> Posterior:
  """The posterior of F given the data."""
  products = inner_products(encoding, data.features, data.features)
  norms = square_norms(encoding, data.features)
  covariance, own, noise = _covariance(parameters, products, norms, targets)
  whitening = _whiten(covariance)
  return Posterior(
    parameters=parameters,
    features=data.features,
    norms=norms,
    used=targets.counts > 0,
    targets=targets.values,
    variances=own,
    whitening=whitening,
    pull=whitening.T @ (whitening @ targets.values),
    noise=noise,
  )


def covariances(
  posterior: Posterior, encoding: Encoding, left: Features, right: Features | None = None
) -> jax.Array:
  """Prior covariances, nugget excluded, of sets with others, or with the data if None."""
  if right is None:
    products = inner_products(encoding, left, posterior.features)
    result = kernel(posterior.parameters, products, square_norms(encoding, left), posterior.norms)
    return jnp.where(posterior.used, result, 0.0)
  products = inner_products(encoding, left, right)
  norms = square_norms(encoding, left), square_norms(encoding, right)
  return kernel(posterior.parameters, products, *norms)


def measured_means(posterior: Posterior) -> jax.Array:
  """Posterior mean of F at the sets of the data, `[E]`; -inf in free rows."""
  noise = posterior.variances - jnp.exp(posterior.parameters.nugget)
  return jnp.where(posterior.used, posterior.targets - noise * posterior.pull, -jnp.inf)


def predict(
  posterior: Posterior, encoding: Encoding, features: Features, row: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Mean `[K]` and covariance `[K, K]` of F at distinct sets.

  Args:
    posterior: The posterior.
    encoding: The encoding.
    features: Of the sets. `[K, n]` and `[K, d]`.
    row: Row of the data that holds the set, E if none. `[K]` int.

  Returns:
    Mean and covariance.
  """
  nugget = jnp.exp(posterior.parameters.nugget)
  rows = jnp.arange(posterior.used.shape[0])
  cross = covariances(posterior, encoding, features) + nugget * (row[:, None] == rows)
  white = cross @ posterior.whitening.T
  prior = covariances(posterior, encoding, features, features) + nugget * jnp.eye(len(row))
  return cross @ posterior.pull, prior - white @ white.T
