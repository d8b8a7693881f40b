"""Products of matrices keep the precision of float32, which accelerators must be asked for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nas_submod as ns
from nas_submod import set_functions
from nas_submod.optimizers import greedy, partial_enumeration, surrogate
from nas_submod.set_function import SetFunction

WEIGHTS = jnp.asarray(np.random.default_rng(0).random(6), jnp.float32)
PRECISIONS = "jax_default_matmul_precision"


def recording(seen, function):
  """The function; where it is called, `seen` takes the precision of products there."""

  def recorded(*args):
    seen.append(getattr(jax.config, PRECISIONS))
    return function(*args)

  return recorded


def recorded_problem(seen):
  costs = jnp.linspace(1, 2, 6)
  canonical = recording(seen, lambda mask: mask)
  cost = recording(seen, lambda mask: (mask @ costs)[None])
  return ns.Problem([-1] * 6, cost, 4.0, canonical=canonical)


def recorded_optimizer(seen, optimizer):
  return optimizer._replace(
    **{
      name: recording(seen, function)
      for name, function in optimizer._asdict().items()
      if function is not None
    }
  )


@pytest.mark.parametrize(
  "optimizer", [greedy(lazy=True), partial_enumeration(greedy(), 1), surrogate(9, batch=2)]
)
def test_what_a_run_computes_is_of_full_precision(optimizer):
  seen = []
  problem, optimizer = recorded_problem(seen), recorded_optimizer(seen, optimizer)
  value = recording(seen, lambda mask: WEIGHTS @ mask)
  with jax.default_matmul_precision("bfloat16"):  # what a user may want for networks
    for run in (
      lambda: ns.maximize(problem, set_functions.on_host(value), optimizer),
      lambda: ns.maximize(problem, value, optimizer, traceable=True),
      lambda: ns.maximize(problem, value, optimizer, 9, traceable=True, callback=lambda *_: None),
    ):
      before = len(seen)
      run()
      assert len(seen) > before
  assert set(seen) == {"highest"}


def test_networks_are_trained_in_the_precision_that_the_user_set():
  seen = []

  def measure(masks):
    seen.append(getattr(jax.config, PRECISIONS))
    return np.zeros(len(masks))

  with jax.default_matmul_precision("bfloat16"):
    ns.maximize(ns.Problem([-1] * 3, np.ones(3), 2.0), measure, greedy())
  assert set(seen) == {"bfloat16"}


def test_gains_are_checked_in_full_precision():
  seen = []
  function = SetFunction(
    value=recording(seen, lambda mask: WEIGHTS @ mask),
    init=lambda mask: mask,
    marginals=recording(seen, lambda mask: WEIGHTS * ~mask),
    commit=lambda mask, element: mask.at[element].set(True),
    n=6,
  )
  function.check()
  assert "highest" in seen
