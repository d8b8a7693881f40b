"""Fit and predictions of the Gaussian process of `surrogate`."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.linalg import solve_triangular

from nas_submod.optimizers.bayesian.data import Data, Targets
from nas_submod.optimizers.bayesian.kernel import (
  Encoding,
  Features,
  Hyperparameters,
  inner_products,
  kernel,
  square_norms,
)

_FLOOR = 3e-4  # added to variances of measurements, warped; keeps float32 Cholesky stable
_STEPS = 8  # steps of the fit in a round
# Adam's moving averages are short: each round has new data and few steps. A covariance that is not
# positive definite in float32 gives a NaN gradient, which would stay in the averages. A nearly
# singular one gives a huge gradient, which would shrink the next steps. `eps` prevents full steps
# on gradients that are mere rounding.
_DESCENT = optax.chain(
  optax.zero_nans(), optax.clip(20.0), optax.adam(0.1, b1=0.8, b2=0.9, eps=1e-3)
)

# Prior of the logarithms; the same for each block.
PRIOR_MEAN = Hyperparameters(
  additive=np.log(0.5),
  rates=np.log(0.3),
  interactions=np.log(0.3),
  noise=np.log(0.2),
  nugget=np.log(0.05),
)
PRIOR_DEVIATION = Hyperparameters(additive=1.5, rates=1.0, interactions=1.5, noise=1.5, nugget=2.0)


class Fit(NamedTuple):
  """Hyperparameters and the state of Adam, kept between rounds."""

  parameters: Hyperparameters
  descent: optax.OptState


class Posterior(NamedTuple):
  """The posterior: hyperparameters and the factorised covariance of the data.

  Attributes:
    parameters: The hyperparameters.
    features: Features of the data.
    norms: Square norms of the data in each block. `[B, E]`.
    used: Whether the row holds data. `[E]` bool.
    targets: Warped values. `[E]`.
    variances: Nugget plus noise of each row. `[E]`.
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


def _covariance(
  parameters: Hyperparameters, products: jax.Array, norms: jax.Array, targets: Targets
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Covariance of the means `[E, E]`, nugget plus noise `[E]`, variance of a measurement `[]`."""
  used = targets.counts > 0
  noise = jnp.where(targets.exact, 0.0, jnp.exp(parameters.noise))
  own = jnp.exp(parameters.nugget) + noise / jnp.maximum(targets.counts, 1) + _FLOOR
  between = jnp.where(used[:, None] & used, kernel(parameters, products, norms, norms), 0.0)
  own = jnp.where(used, own, 1.0)
  return between + jnp.diag(own), own, noise


def _whiten(covariance: jax.Array) -> jax.Array:
  """Computes the inverse of the Cholesky factor of `covariance [E, E]`, lower triangular.

  These are the only two LAPACK calls, and they run one after the other: under vmap on a CPU, two
  concurrent calls may wait for each other's threads forever (jaxlib 0.10).
  """
  factor = jnp.linalg.cholesky(covariance)
  return solve_triangular(factor, jnp.eye(len(factor), dtype=factor.dtype), lower=True)


@jax.custom_vjp
def _evidence(covariance: jax.Array, values: jax.Array) -> jax.Array:
  """Computes the negative log density of normal `values [E]`, without its constant.

  The gradient is written by hand: it needs only the whitening matrix, so that LAPACK is not called
  again in the backward pass.
  """
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
  """Computes the negative log posterior density of the hyperparameters, without constants."""
  covariance, _, noise = _covariance(parameters, products, norms, targets)
  evidence = _evidence(covariance, targets.values)
  noise += _FLOOR
  replicates = 0.5 * (targets.squares / noise + targets.freedom * jnp.log(noise))
  prior = jax.tree.map(
    lambda x, m, s: jnp.sum(((x - m) / s) ** 2), parameters, PRIOR_MEAN, PRIOR_DEVIATION
  )
  return evidence + replicates + 0.5 * sum(prior)


def start_fit(encoding: Encoding) -> Fit:
  """Starts the fit at the mode of the prior."""
  blocks = jnp.zeros(2 + len(encoding.members))
  parameters = jax.tree.map(jnp.float32, PRIOR_MEAN)
  parameters = parameters._replace(
    additive=blocks + parameters.additive, rates=blocks + parameters.rates
  )
  return Fit(parameters, _DESCENT.init(parameters))


def improve(fit: Fit, encoding: Encoding, data: Data, targets: Targets) -> Fit:
  """Takes a few steps of Adam (Kingma and Ba 2015) from the hyperparameters of the last round."""
  products = inner_products(encoding, data.features, data.features)
  norms = square_norms(encoding, data.features)

  def step(_: jax.Array, fit: Fit) -> Fit:
    gradient = jax.grad(_loss)(fit.parameters, products, norms, targets)
    updates, descent = _DESCENT.update(gradient, fit.descent)
    return Fit(optax.apply_updates(fit.parameters, updates), descent)

  return jax.lax.fori_loop(0, _STEPS, step, fit)


def condition(
  parameters: Hyperparameters, encoding: Encoding, data: Data, targets: Targets
) -> Posterior:
  """Conditions F on the data, with given hyperparameters."""
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
  """Prior covariances `[L, R]`, without the nugget, of `left` with `right`.

  If `right` is None, it is the data, and covariances with free rows are 0.
  """
  if right is None:
    products = inner_products(encoding, left, posterior.features)
    result = kernel(posterior.parameters, products, square_norms(encoding, left), posterior.norms)
    return jnp.where(posterior.used, result, 0.0)
  products = inner_products(encoding, left, right)
  norms = square_norms(encoding, left), square_norms(encoding, right)
  return kernel(posterior.parameters, products, *norms)


def measured_means(posterior: Posterior) -> jax.Array:
  """Computes the posterior mean of F at the sets of the data, -inf in free rows. `[E]`."""
  noise = posterior.variances - jnp.exp(posterior.parameters.nugget)
  return jnp.where(posterior.used, posterior.targets - noise * posterior.pull, -jnp.inf)


def predict(
  posterior: Posterior, encoding: Encoding, features: Features, row: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Mean `[K]` and covariance `[K, K]` of F at distinct sets.

  `row [K]` is the row of the data that holds the set, E if none does.
  """
  nugget = jnp.exp(posterior.parameters.nugget)
  rows = jnp.arange(posterior.used.shape[0])
  cross = covariances(posterior, encoding, features) + nugget * (row[:, None] == rows)
  white = cross @ posterior.whitening.T
  prior = covariances(posterior, encoding, features, features) + nugget * jnp.eye(len(row))
  return cross @ posterior.pull, prior - white @ white.T
