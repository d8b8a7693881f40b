import instances
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conformance import ENTRIES

import nas_submod as ns
from nas_submod import set_functions

EVERY_OPTIMIZER = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
every_canonical = jax.jit(jax.vmap(lambda mask: instances.pushed_left(mask)))

# Problem and set function, by seed: F submodular, F real-valued, F noisy, costs no sums.
# Compiling is what these tests spend their time on: other problems have the shapes of these too.
SETTINGS = {
  "coverage": (instances.two_knapsacks, instances.integer_coverage),
  "facility": (instances.one_knapsack, instances.facility_location),
  "table": (instances.two_knapsacks, instances.noisy_table),
  "sequences": (instances.sequences, lambda seed: instances.sequence_function),
}
EVERY_SETTING = pytest.mark.parametrize("setting", SETTINGS)


def watched(problem, function):
  """The function on the host; refuses what no optimizer may ask. Also the sets asked."""
  on_host, asked = set_functions.on_host(function), []

  def value(masks):
    assert masks.dtype == bool and np.asarray(instances.every_feasible(problem, masks)).all(), (
      "infeasible"
    )
    keys = masks if problem.canonical is None else np.asarray(every_canonical(masks))
    asked.extend(tuple(np.flatnonzero(key)) for key in keys)
    assert len(set(asked)) == len(asked), "asked twice"
    if len(asked) == len(masks):
      assert (masks[0] == np.asarray(problem.required)).all(), "the required set comes first"
    return on_host(masks), np.zeros(len(masks))  # exact: no replicates are wanted

  return value, asked


def exactly(function):
  """The function on the host, which says that its values have no error, as a traceable one has."""
  on_host = set_functions.on_host(function)
  return lambda masks: (on_host(masks), np.zeros(len(masks)))


@EVERY_OPTIMIZER
@EVERY_SETTING
def test_host_driver(entry, setting):
  make_problem, make_function = SETTINGS[setting]
  for seed in range(4):
    problem, function = make_problem(seed), make_function(seed)
    value, asked = watched(problem, function)
    result = ns.maximize(problem, value, entry.optimizer, seed=seed)
    assert problem.feasible(result.mask)
    # A program for one set may sum in another order than one for many.
    own = set_functions.on_host(function)(result.mask[None])[0]
    np.testing.assert_allclose(result.value, own, rtol=1e-6)
    assert result.evaluations == len(asked)
    assert result.value >= function(problem.required)
    np.testing.assert_allclose(result.cost, problem.cost(result.mask), rtol=1e-6)
    assert result.trace and all(
      instances.every_feasible(problem, np.stack([s.mask for s in result.trace]))
    )

    again = ns.maximize(problem, watched(problem, function)[0], entry.optimizer, seed=seed)
    np.testing.assert_array_equal(again.mask, result.mask)
    assert again.evaluations == result.evaluations


@EVERY_OPTIMIZER
@EVERY_SETTING
def test_both_drivers_agree_and_nothing_recompiles(entry, setting, compilations):
  make_problem, make_function = SETTINGS[setting]
  for rows in 2 ** np.arange(9):  # The function on the host compiles for each of these sizes.
    set_functions.on_host(make_function(0))(np.zeros((rows, make_problem(0).n), bool))
  for seed in range(4):
    problem, function = make_problem(seed), make_function(seed)
    before = compilations()
    host = ns.maximize(problem, exactly(function), entry.optimizer, seed=seed)
    device = ns.maximize(problem, function, entry.optimizer, seed=seed, traceable=True)
    assert seed == 0 or compilations() == before, "compiled again for other numbers"
    np.testing.assert_array_equal(device.mask, host.mask)
    np.testing.assert_allclose(device.value, host.value, rtol=1e-6)
    # By gains one round stands for all evaluations of a step.
    assert device.rounds <= host.rounds


def steps_by_run(result):
  """Where each run went; when it did may depend on what a lazy one measured first."""
  return sorted(((s.run, s.mask.tolist()) for s in result.trace), key=lambda step: step[0])


@EVERY_OPTIMIZER
def test_ties_are_ties_though_sums_are_rounded(entry):
  if not entry.compares:
    pytest.skip("computes with values, and does more than compare them")
  for seed in range(12):
    problem = instances.two_knapsacks(seed)
    exact, tenths = (instances.integer_coverage(seed, unit=unit) for unit in (1, 0.1))
    expected = ns.maximize(problem, exactly(exact), entry.optimizer, seed=seed)
    for rounded in (tenths, instances.shaken(exact, seed)):
      host = ns.maximize(problem, exactly(rounded), entry.optimizer, seed=seed)
      device = ns.maximize(problem, rounded, entry.optimizer, seed=seed, traceable=True)
      why = "values that rounding alone tells apart were no tie: see `Entry.compares`"
      np.testing.assert_array_equal(host.mask, expected.mask, why)
      np.testing.assert_array_equal(device.mask, expected.mask, why)
      assert steps_by_run(host) == steps_by_run(expected), why


@EVERY_OPTIMIZER
def test_one_device_finds_what_eight_find(entry, monkeypatch):
  if jax.default_backend() == "cpu":
    assert jax.local_device_count() == 8
  cases = [
    (instances.two_knapsacks(0), instances.noisy_table(0)),
    (instances.one_knapsack(0), instances.facility_location(0)),
  ]
  many = [ns.maximize(*case, entry.optimizer, traceable=True) for case in cases]
  monkeypatch.setattr(jax, "local_device_count", lambda: 1)
  one = [ns.maximize(*case, entry.optimizer, traceable=True) for case in cases]
  for found, expected in zip(one, many):
    np.testing.assert_array_equal(found.mask, expected.mask)
    assert (found.value, found.evaluations) == (expected.value, expected.evaluations)
    assert found.rounds == expected.rounds


@EVERY_OPTIMIZER
def test_evaluations_are_limited_and_the_answer_so_far_is_good(entry):
  problem = instances.two_knapsacks(1)
  function = instances.integer_coverage(1)
  values = []
  for limit in (1, 2, 5, 9):
    value, asked = watched(problem, function)
    result = ns.maximize(problem, value, entry.optimizer, max_evaluations=limit)
    assert result.evaluations == len(asked) <= limit
    assert problem.feasible(result.mask)
    device = ns.maximize(problem, function, entry.optimizer, limit, traceable=True)
    assert device.evaluations <= limit and problem.feasible(device.mask)
    values.append(result.value)
  assert values == sorted(values)

  def limited(limit):
    on_host, on_device = watched(problem, function)[0], dict(traceable=True)
    host = ns.maximize(problem, on_host, entry.optimizer, limit[0])
    return host, ns.maximize(problem, function, entry.optimizer, limit[1], **on_device)

  needed = [result.evaluations for result in limited((10_000, 10_000))]
  for enough, whole in ((True, needed), (False, [n - 1 for n in needed])):
    assert [result.done for result in limited(whole)] == [enough, enough]


@EVERY_OPTIMIZER
def test_never_worse_than_the_best_singleton_where_a_ratio_is_claimed(entry):
  if not entry.beats_singletons:
    assert entry.ratio == entry.group_ratio == 0
    return
  for seed in range(10):
    problem, function = instances.one_knapsack(seed), instances.facility_location(seed)
    singletons = np.eye(problem.n, dtype=bool)[np.asarray(problem.additions(problem.required).fits)]
    best = max(set_functions.on_host(function)(singletons), default=0)
    result = ns.maximize(problem, function, entry.optimizer, traceable=True)
    assert result.value >= best * (1 - 1e-6), seed


@EVERY_OPTIMIZER
def test_values_that_are_no_numbers_are_refused(entry):
  problem = instances.two_knapsacks(0)
  with pytest.raises(ValueError, match=r"value returned nan among its values, for the set"):
    ns.maximize(problem, lambda masks: np.full(len(masks), np.nan), entry.optimizer)
  with pytest.raises(ValueError, match="value returned NaN or infinity for a feasible set"):
    ns.maximize(problem, lambda mask: jnp.nan * mask.sum(), entry.optimizer, traceable=True)


@EVERY_OPTIMIZER
def test_a_problem_where_nothing_can_be_added(entry):
  problem = ns.Problem(np.arange(8) // 2, np.ones((8, 2)), [0.5, 3])
  result = ns.maximize(problem, lambda masks: (masks.sum(1), 0.0 * masks.sum(1)), entry.optimizer)
  assert not result.mask.any() and result.evaluations == 1


def groups_alone(seed, n=8):
  """At most one of every two elements, no knapsack that matters."""
  return ns.Problem(np.arange(n) // 2, np.ones((n, 2)), [n, n])


CLAIMS = [
  pytest.param(getattr(entry, claim), make_problem, entry.optimizer, id=f"{entry.name}-{claim}")
  for entry in ENTRIES
  for claim, make_problem in (("ratio", instances.one_knapsack), ("group_ratio", groups_alone))
  if getattr(entry, claim)
]


@pytest.mark.parametrize(("share", "make_problem", "optimizer"), CLAIMS)
def test_claimed_share_of_the_optimum_by_brute_force(share, make_problem, optimizer):
  masks = instances.every_mask(8)
  for seed in range(100):
    problem, function = make_problem(seed), instances.facility_location(seed)
    if make_problem is groups_alone:
      function = instances.tabulated(function)
    feasible = np.asarray(instances.every_feasible(problem, masks))
    optimum = set_functions.on_host(function)(masks)[feasible].max()
    result = ns.maximize(problem, function, optimizer, traceable=True)
    assert optimum * (share - 1e-6) <= result.value <= optimum * (1 + 1e-6), seed
