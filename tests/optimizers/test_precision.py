"""Matrix products have full float32 precision, which accelerators use only on request."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nas_submod as ns
from nas_submod import set_functions
from nas_submod.optimizers import greedy, partial_enumeration
from nas_submod.optimizers.drivers.compiled import drive
from nas_submod.set_functions.base import SetFunction

WEIGHTS = jnp.asarray(np.random.default_rng(0).random(6), jnp.float32)
PRECISIONS = "jax_default_matmul_precision"


def recording(seen, function):
  """The function; each call appends the matrix product precision of its context to `seen`."""

  def recorded(*args):
    seen.append(getattr(jax.config, PRECISIONS))
    return function(*args)

  return recorded


def recorded_problem(seen, by_values):
  """Costs that are not sums; a canonical form only by values, which it needs."""
  costs = jnp.linspace(1, 2, 6)
  canonical = recording(seen, lambda mask: mask) if by_values else None
  return ns.Problem(
    [-1] * 6, recording(seen, lambda m: (m @ costs)[None]), 4.0, canonical=canonical
  )


def recorded_function(seen):
  return SetFunction(
    value=recording(seen, lambda mask: WEIGHTS @ mask),
    init=recording(seen, lambda mask: mask),
    gains=recording(seen, lambda mask: WEIGHTS * ~mask),
    add=recording(seen, lambda mask, element: mask.at[element].set(True)),
    n=6,
  )


def recorded_optimizer(seen, optimizer):
  members = {k: f if f is None else recording(seen, f) for k, f in optimizer._asdict().items()}
  return optimizer._replace(**members)


GREEDY = greedy(lazy=True)


@pytest.mark.parametrize("optimizer", [GREEDY, partial_enumeration(GREEDY, 1)])
@pytest.mark.parametrize("by_values", [False, True])
def test_every_driver_computes_in_full_precision(optimizer, by_values):
  seen, own = [], []
  problem, optimizer = recorded_problem(seen, by_values), recorded_optimizer(seen, optimizer)
  value = recorded_function(seen)
  value = value.value if by_values else value
  with jax.default_matmul_precision("bfloat16"):  # what a user may want for networks
    for run in (
      lambda: ns.maximize(problem, set_functions.on_host(value), optimizer),
      lambda: ns.maximize(problem, value, optimizer, traceable=True),
      lambda: ns.maximize(
        problem, value, optimizer, 9, traceable=True, callback=recording(own, lambda *_: None)
      ),
    ):
      before = len(seen)
      run()
      assert len(seen) > before
  assert set(seen) == {"highest"} and set(own) == {"bfloat16"}


def test_a_run_inside_a_program_computes_in_full_precision():
  seen = []
  optimizer, problem = recorded_optimizer(seen, greedy()), recorded_problem(seen, True)
  seen.clear()
  drive(optimizer, problem, recorded_function(seen).value, jax.random.key(0))
  assert len(seen) > 5 and set(seen) == {"highest"}


def test_a_function_on_the_host_runs_in_the_precision_that_the_user_set():
  seen = []
  measure = recording(seen, lambda masks: np.zeros(len(masks)))
  with jax.default_matmul_precision("bfloat16"):
    ns.maximize(ns.Problem([-1] * 3, np.ones(3), 2.0), measure, greedy())
  assert set(seen) == {"bfloat16"}


def test_gains_are_checked_in_full_precision():
  seen = []
  recorded_function(seen).check()
  assert set(seen) == {"highest"}
