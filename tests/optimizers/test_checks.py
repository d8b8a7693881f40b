"""Arguments, set functions and optimizers that the drivers refuse."""

from typing import Any, NamedTuple

import chex
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import nas_submod as ns
from nas_submod import optimizers as o
from nas_submod import set_functions
from nas_submod.optimizers import Info, Optimizer

WEIGHTS = np.array([3.0, 1.0, 2.0, 4.0])
PROBLEM = ns.Problem(-np.ones(4, int), [0.5] * 4, 1.0)


def weigh(masks):
  return masks @ WEIGHTS


@pytest.mark.parametrize(
  ("value", "traceable", "words"),
  [
    (None, True, "value must be a function"),
    (set_functions.modular(WEIGHTS), False, "pass traceable=True, or set_functions.on_host"),
    (set_functions.modular(WEIGHTS[:3]), True, "takes sets of 3 elements, the problem has 4"),
    (set_functions.table(np.arange(8.0)), True, "takes sets of 3 elements, the problem has 4"),
    (lambda mask: mask * 1.0, True, "must return one real number for one set"),
    (lambda mask: (mask.sum(), 0), True, "must return one real number for one set"),
    (lambda mask: mask.sum() * 1j, True, "must return one real number for one set"),
    (lambda masks: masks.sum(axis=1), True, "cannot be traced for one set"),
    (lambda mask: float(np.sum(np.asarray(mask))), True, "needs traceable=False"),
    (lambda mask: jnp.where(mask[3], jnp.inf, 0.0), True, "NaN or infinity"),
    (lambda mask: jnp.where(mask[3], jnp.nan, 0.0), True, "NaN or infinity"),
    (lambda masks: (weigh(masks), weigh(masks), 0), False, "value returned 3 arrays"),
    (lambda masks: WEIGHTS.sum(), False, r"of shape \(\) for 1 sets"),
    (lambda masks: ["1"] * len(masks), False, "value must return real numbers"),
    (lambda masks: weigh(masks) * 1j, False, "value must return real numbers"),
    (lambda masks: [[1], [2, 3]], False, "value must return real numbers"),
    (lambda masks: weigh(masks) * 1e39, False, "returned 3e\\+39 among its values"),
  ],
)
def test_functions_that_are_refused(value, traceable, words):
  with pytest.raises(ValueError, match=words):
    ns.maximize(PROBLEM, value, o.greedy(), traceable=traceable)


@pytest.mark.parametrize(
  ("arguments", "words"),
  [
    (dict(problem=None), "problem must be a Problem"),
    (dict(optimizer=o.greedy), "optimizer must be an Optimizer"),
    (
      dict(optimizer=o.greedy()._replace(best=None)),
      "best of the optimizer must be a function, got",
    ),
    (dict(optimizer=o.greedy()._replace(solve=1)), "solve of the optimizer .* or None, got 1"),
    (dict(max_evaluations=2.5), "max_evaluations must be a whole number, got 2.5"),
    (dict(max_evaluations=0), "max_evaluations must be at least 1"),
    (dict(seed=0.5), "seed must be a whole number"),
    (dict(seed=2**32), r"seed must be from 0 to 2\*\*32 - 1, got 4294967296"),
    (dict(seed=-1), "seed must be from 0 to"),
    (dict(callback=3), "callback must be a function or None, got 3"),
  ],
)
def test_arguments_that_are_refused(arguments, words):
  whole = dict(problem=PROBLEM, value=weigh, optimizer=o.greedy()) | arguments
  with pytest.raises(ValueError, match=words):
    ns.maximize(**whole)


def test_a_limit_beyond_32_bits_is_no_limit():
  assert ns.maximize(PROBLEM, weigh, o.greedy(), max_evaluations=3_000_000_000).value == 7


def add_to_quadratic(weights, state, element):
  return state[0].at[element].set(True), state[1] + weights[element]


MEMBERS = dict(  # functions of one identity, so that other weights do not compile again
  value=lambda weights, mask: mask @ weights @ mask / 2,
  init=lambda weights, mask: (mask, mask @ weights),
  gains=lambda weights, state: state[1] * ~state[0],
  gain=lambda weights, state, element: state[1][element] * ~state[0][element],
  add=add_to_quadratic,
)


def quadratic(weights):
  """The weight of all pairs in the set: a function with gains that is not submodular."""
  weights = jnp.asarray(np.triu(weights, 1) + np.triu(weights, 1).T)
  members = {name: Partial(member, weights) for name, member in MEMBERS.items()}
  return set_functions.SetFunction(**members, n=len(weights))


@pytest.mark.parametrize("lazy", [False, True])
def test_greedy_by_gains_is_greedy_by_values_even_if_f_is_not_submodular(lazy):
  problem = ns.Problem(-np.ones(6, int), np.ones(6), 4.0)
  for seed in range(8):
    weights = np.random.default_rng(seed).integers(-1, 4, (6, 6)).astype(np.float32)
    function = quadratic(np.ones((6, 6), np.float32) if seed == 0 else weights)
    by_gains = ns.maximize(problem, function, o.greedy(lazy=lazy), traceable=True)
    by_values = ns.maximize(problem, function, o.greedy(), 1000, traceable=True)
    assert by_gains.value == by_values.value, seed


def test_an_error_of_a_function_of_one_set_on_the_host_says_how_it_was_called():
  with pytest.raises(Exception, match="shape") as error:
    ns.maximize(PROBLEM, lambda mask: jnp.asarray(WEIGHTS) @ mask, o.greedy())
  assert "needs traceable=True" in "".join(error.value.__notes__)


def scripted(ask, tell=None, answer=None):
  """An optimizer of one round; its state is the number of rounds played."""

  def told(state, values):
    return state + 1, Info(jnp.ones(1, bool), ask(state)[0][:1], values[:1])

  def best(state):
    return jnp.asarray(ask(state)[0])[0], jnp.float32(21)

  return Optimizer(
    lambda problem, rng: jnp.int32(0), ask, tell or told, lambda state: state >= 1, answer or best
  )


def once(state):
  return jnp.zeros((1, 4), bool), state[None] == 0


def stays(state, values):
  info = Info(jnp.zeros(1, bool), jnp.zeros((1, 4), bool), values[:1])
  return jnp.minimum(state + 1, 1), info


def of_all(state):
  return jnp.ones((1, 4), bool), jnp.ones(1, bool)


def of_nothing(state):
  return jnp.zeros((1, 4), bool), jnp.ones(1, bool)


@pytest.mark.parametrize("traceable", [False, True])
@pytest.mark.parametrize(
  ("optimizer", "words"),
  [
    (scripted(of_all, answer=lambda s: (jnp.zeros(4, bool), 0.0)), "asked for .* not feasible"),
    (
      scripted(of_nothing, answer=lambda s: (jnp.ones(4, bool), 0.0)),
      "answered a .* feasible, of elem",
    ),
    (
      scripted(lambda s: (jnp.ones((1, 4)), jnp.ones(1, bool))),
      r"both bool; got \[0\] float32 \(1, 4\)",
    ),
    (scripted(lambda s: (jnp.ones((1, 4), bool), jnp.bool_(True))), "both bool"),
    (scripted(lambda s: (jnp.ones((1, 4), bool), [True])), "ask must return"),
    (scripted(lambda s: (jnp.zeros((1, 4), bool), jnp.zeros(1, bool))), "asked for no set"),
    (
      scripted(once)._replace(done=lambda s: s < 0),
      "the optimizer no longer asks for sets, and is not done",
    ),
    (
      scripted(once, stays)._replace(done=lambda s: s > 1),
      "the optimizer no longer asks for sets, and is not done",
    ),
    (
      scripted(lambda s: (jnp.zeros((1, 4), bool), jnp.ones(1, bool)), lambda s, values: s + 1),
      r"tell must return `\(state, Info\)`",
    ),
    (
      scripted(of_nothing, lambda s, values: (jnp.ones(2), Info(*[jnp.zeros((1, 4), bool)] * 3))),
      r"a state of the same structure, .*: state was int32 \(\), is float32 \(2,\)",
    ),
    (
      scripted(of_nothing, lambda s, values: (s + 1, {})),
      r"tell must return `\(state, Info\)`, got \w+, dict",
    ),
    (
      scripted(
        of_nothing, lambda s, values: (s + 1, Info(s[None] < 1, of_all(s)[0][:, :3], values))
      ),
      r"Info of `R` runs: .* masks \[R, 4\] bool, .*; got .* masks bool \(1, 3\)",
    ),
    (scripted(of_nothing)._replace(done=lambda s: None), "done must return one bool; got None"),
    (scripted(of_nothing)._replace(done=lambda s: s), "done must return one bool; got int32"),
    (
      scripted(of_nothing, lambda s, values: (s + 1, Info(s < 1, s < 1, values[0]))),
      r"Info of `R` runs: .*; got accepted bool \(\), masks bool \(\), values float32 \(\)",
    ),
    (
      scripted(of_nothing, answer=lambda s: jnp.zeros(4, bool)),
      r"best must return .*; got bool \(4,\)",
    ),
    (scripted(of_nothing, answer=lambda s: None), "best must return .*; got None"),
    (
      scripted(of_nothing, answer=lambda s: (jnp.zeros(4), 0.0)),
      r"best must .*; got \[0\] float32 \(4,\), ",
    ),
  ],
)
def test_optimizers_that_break_the_protocol_are_refused(optimizer, words, traceable):
  value = set_functions.modular(WEIGHTS) if traceable else weigh
  with pytest.raises(ValueError, match=words):
    ns.maximize(PROBLEM, value, optimizer, traceable=traceable)


class Counter(NamedTuple):
  rounds: Any
  extra: Any = None


@pytest.mark.parametrize("traceable", [False, True])
def test_checks_hold_if_a_user_turned_chex_off_and_name_the_changed_fields(traceable):
  def tell(state, values):
    return Counter(1.0 * state.rounds), Info(jnp.zeros(1, bool), of_nothing(state)[0], values)

  changing = Optimizer(
    init=lambda problem, rng: Counter(jnp.int32(0), jnp.float32(0)),
    ask=of_nothing,
    tell=tell,
    done=lambda state: state.rounds > 0,
    best=lambda state: (jnp.zeros(4, bool), 0.0),
  )
  changes = r"state.rounds was int32 \(\), is float32 \(\); state.extra was float32 \(\), is absent"
  value = set_functions.modular(WEIGHTS) if traceable else weigh
  chex.disable_asserts()
  try:
    for optimizer, words in (
      (changing, changes),
      (scripted(lambda s: (jnp.ones((1, 4)), jnp.ones(1, bool))), "ask must return"),
      (scripted(of_nothing)._replace(done=lambda s: s), "done must return"),
      (scripted(of_nothing, answer=lambda s: (jnp.zeros(3, bool), 0.0)), "best must return"),
    ):
      with pytest.raises(ValueError, match=words):
        ns.maximize(PROBLEM, value, optimizer, traceable=traceable)
  finally:
    chex.enable_asserts()


@pytest.mark.parametrize("traceable", [False, True])
def test_a_cost_function_is_nonnegative_or_nan_for_a_set_that_does_not_fit(traceable):
  value = set_functions.modular(WEIGHTS) if traceable else weigh

  def solve(of_two):
    problem = ns.Problem(
      -np.ones(4, int), lambda mask: jnp.where(mask.sum() < 2, 0.5, of_two)[None], 1.0
    )
    return ns.maximize(problem, value, o.greedy(), traceable=traceable)

  assert solve(jnp.nan).value == 4
  with pytest.raises(ValueError, match=r"nonnegative, got \[-5.0\] for the set, of elements \["):
    solve(-5.0)


def test_the_value_of_the_answer_replaces_what_the_optimizer_states():
  optimizer = scripted(of_nothing, answer=lambda s: (jnp.zeros(4, bool), 9.0))
  on_device = ns.maximize(PROBLEM, set_functions.modular(WEIGHTS), optimizer, traceable=True)
  assert on_device.value == ns.maximize(PROBLEM, weigh, optimizer).value == 0


def test_an_answer_that_was_never_asked_is_refused_on_the_host_and_measured_on_the_device():
  optimizer = scripted(of_nothing, answer=lambda s: (jnp.arange(4) < 1, 9.0))
  with pytest.raises(ValueError, match="answered a set that it never asked for"):
    ns.maximize(PROBLEM, weigh, optimizer)
  on_device = ns.maximize(PROBLEM, set_functions.modular(WEIGHTS), optimizer, traceable=True)
  assert on_device.value == WEIGHTS[0]


def test_a_run_cut_by_the_limit_has_only_measured_steps():
  optimizer = o.partial_enumeration(o.greedy(), 1)
  result = ns.maximize(PROBLEM, weigh, optimizer, max_evaluations=4)
  assert result.trace and np.isfinite([step.value for step in result.trace]).all()


def test_a_set_over_budget_is_no_step_of_a_search():
  def tell(state, values):
    return state + 1, Info(jnp.ones(1, bool), jnp.ones((1, 4), bool), values[:1])

  with pytest.raises(ValueError, match=r"moved to a set that is not feasible, of elements \[0, 1"):
    ns.maximize(PROBLEM, lambda masks: masks @ WEIGHTS, scripted(of_nothing, tell))
