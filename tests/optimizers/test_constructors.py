"""Constructors of optimizers: they refuse bad arguments; equal arguments give one object."""

import numpy as np
import pytest

from nas_submod import optimizers as o
from nas_submod.optimizers import Optimizer


@pytest.mark.parametrize(
  ("make", "words"),
  [
    (lambda: o.local_search(10.5), "evaluations must be a whole number, got 10.5"),
    (lambda: o.random_search(0), "evaluations must be at least 1, got 0"),
    (lambda: o.random_search(stop=1.0), "stop is 0 to below 1, got 1.0"),
    (lambda: o.random_search(stop="no"), "stop must be a number"),
    (lambda: o.regularized_evolution(batch=2.0), "batch must be a whole number"),
    (lambda: o.regularized_evolution(population=1, batch=2), "population must be at least"),
    (lambda: o.stochastic_greedy(2.5), "sample must be a whole number"),
    (lambda: o.greedy(batch=2.5), "batch must be a whole number"),
    (lambda: o.greedy(rule=3), "rule must be a name"),
    (lambda: o.greedy(race="136"), "race must be whole numbers, such as"),
    (lambda: o.greedy(race=(1.5, 3)), "race must be whole numbers, such as"),
    (lambda: o.partial_enumeration(o.greedy(), 1.5), "depth must be a whole number"),
    (lambda: o.partial_enumeration(o.greedy, 1), "inner must be an Optimizer"),
    (lambda: o.exchange("rcas"), "inner must be an Optimizer"),
    (lambda: o.surrogate(batch=0), "batch must be at least 1"),
    (lambda: o.brute_force(None), "batch must be a whole number"),
  ],
)
def test_arguments_of_the_wrong_type_or_size_are_refused(make, words):
  with pytest.raises(ValueError, match=words):
    make()


def test_the_error_for_an_unknown_argument_lists_the_allowed_ones():
  with pytest.raises(TypeError, match=r"^stochastic_greedy\(sample: int, .*argument 'rules'"):
    o.stochastic_greedy(2, rules="unit")


def test_equal_arguments_give_the_same_object():
  assert o.greedy() is o.greedy("unit") is o.greedy(rule="unit", batch=np.int64(1))
  assert o.rcas() is o.rcas(lazy=True)
  assert o.greedy(race=[1, 3, 6]) is o.greedy(race=(1, 3, 6))
  assert o.exchange(o.rcas()) is o.exchange(inner=o.rcas(True), batch=1)
  assert o.greedy() is not o.greedy("joint")


def test_unknown_annotations_of_a_users_constructor_are_not_checked():
  built = []

  @o.constructor
  def mine(
    weights: tuple[float, ...] = (0.5,),
    heat: int | float = 0.5,
    how: float | str = "auto",
    *rules: str,
    flag=False,
    inner: o.Optimizer | str = "rcas",
    **others: int,
  ) -> Optimizer:
    built.append((weights, heat, how, rules, flag, inner, others))
    return o.greedy()

  mine()
  mine(flag=0)
  mine(flag=False)
  mine((0.5,), 0.5, 1.5, "unit", "joint", inner=o.rcas(), k=3)
  assert [rest for *_, rest, _, _ in built][:2] == [False, 0] and len(built) == 3
