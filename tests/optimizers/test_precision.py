"""Products of matrices keep the precision of float32, which accelerators must be asked for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nas_submod as ns
from nas_submod import set_functions
from nas_submod.optimizers import greedy, partial_enumeration, stochastic_greedy, surrogate
from nas_submod.optimizers.drivers.compiled import drive
from nas_submod.set_functions.base import SetFunction

WEIGHTS = jnp.asarray(np.random.default_rng(0).random(6), jnp.float32)
PRECISIONS = "jax_default_matmul_precision"


def recording(seen, function):
  """The function; where it is called, `seen` takes the precision of products there."""

  def recorded(*args):
    seen.append(getattr(jax.config, PRECISIONS))
    return function(*args)

  return recorded


def recorded_problem(seen, by_values):
  """Its costs are no sums; by gains a `canonical` function is not allowed."""
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


RUNS = [(surrogate(9, batch=2), True)] + [
  (optimizer, by_values)
  for optimizer in (
    greedy(lazy=True),
    stochastic_greedy(3),
    partial_enumeration(greedy(lazy=True), 1),
  )
  for by_values in (False, True)
]


@pytest.mark.parametrize(("optimizer", "by_values"), RUNS)
def test_what_a_run_computes_is_of_full_precision(optimizer, by_values):
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


def test_a_run_inside_a_program_is_of_full_precision_too():
  seen = []
  optimizer, problem = recorded_optimizer(seen, greedy()), recorded_problem(seen, True)
  seen.clear()
  drive(optimizer, problem, recorded_function(seen).value, jax.random.key(0))
  assert len(seen) > 5 and set(seen) == {"highest"}


def test_networks_are_trained_in_the_precision_that_the_user_set():
  seen = []
  measure = recording(seen, lambda masks: np.zeros(len(masks)))
  with jax.default_matmul_precision("bfloat16"):
    ns.maximize(ns.Problem([-1] * 3, np.ones(3), 2.0), measure, greedy())
  assert set(seen) == {"bfloat16"}


def test_gains_are_checked_in_full_precision():
  seen = []
  recorded_function(seen).check()
  assert set(seen) == {"highest"}
