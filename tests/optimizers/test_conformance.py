"""The facts that hold for every optimizer of the conformance list."""

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

# Problem and set function by seed: F submodular, F real-valued, F noisy, costs that are not sums.
# These tests spend their time compiling, so other problems here have the same shapes.
SETTINGS = {
  "coverage": (instances.two_knapsacks, instances.integer_coverage),
  "facility": (instances.one_knapsack, instances.facility_location),
  "table": (instances.two_knapsacks, instances.noisy_table),
  "sequences": (instances.sequences, lambda seed: instances.sequence_function),
}
# Compiling them takes minutes, so two settings are slow tests, and the surrogate with the table.
SLOW, SURROGATE = ("coverage", "facility"), ("surrogate", "table")
EVERY_PAIR = pytest.mark.parametrize(
  ("entry", "setting"),
  [
    pytest.param(
      entry,
      setting,
      id=f"{setting}-{entry.name}",
      marks=pytest.mark.slow if setting in SLOW or (entry.name, setting) == SURROGATE else (),
    )
    for setting in SETTINGS
    for entry in ENTRIES
  ],
)
ROWS = 2**8  # batches are padded to all sets of eight elements, so that every size is one program


def padded(function, masks):
  return np.asarray(function(np.resize(masks, (ROWS, masks.shape[1]))))[: len(masks)]


def is_feasible(problem, masks):
  return padded(lambda rows: instances.every_feasible(problem, rows), masks)


def watched(problem, function, entry):
  """The function on the host, and the list of sets asked; asserts that each may be asked."""
  on_host, asked = set_functions.on_host(function), []

  def value(masks):
    assert masks.dtype == bool and is_feasible(problem, masks).all(), "infeasible"
    keys = masks if problem.canonical is None else padded(every_canonical, masks)
    asked.extend(tuple(np.flatnonzero(key)) for key in keys)
    assert len(set(asked)) == len(asked), "asked twice"
    if entry.starts_at_required and len(asked) == len(masks):
      assert (masks[0] == np.asarray(problem.required)).all(), "the required set comes first"
    return padded(on_host, masks), np.zeros(len(masks))  # exact: no replicates are wanted

  return value, asked


def exactly(function):
  """The function on the host with standard errors of zero, as a traceable one has."""
  on_host = set_functions.on_host(function)
  return lambda masks: (padded(on_host, masks), np.zeros(len(masks)))


@EVERY_PAIR
def test_both_drivers_keep_the_protocol_agree_and_compile_once(entry, setting, compilations):
  make_problem, make_function = SETTINGS[setting]
  for seed in range(2 if entry.name == "surrogate" else 4):  # The surrogate is slow.
    problem, function = make_problem(seed), make_function(seed)
    value, asked = watched(problem, function, entry)
    before = compilations()
    host = ns.maximize(problem, value, entry.optimizer, seed=seed)
    device = ns.maximize(problem, function, entry.optimizer, seed=seed, traceable=True)
    assert seed == 0 or compilations() == before, "other numbers compiled again"
    np.testing.assert_array_equal(device.mask, host.mask)
    np.testing.assert_allclose(device.value, host.value, rtol=1e-6)
    # By gains one round stands for all evaluations of a step.
    assert device.rounds <= host.rounds
    assert problem.feasible(host.mask)
    # A program for one set may sum in another order than one for many.
    own = padded(set_functions.on_host(function), host.mask[None])[0]
    np.testing.assert_allclose(host.value, own, rtol=1e-6)
    assert host.evaluations == len(asked)
    if entry.starts_at_required:
      assert host.value >= function(problem.required)
    np.testing.assert_allclose(host.cost, problem.cost(host.mask), rtol=1e-6)
    assert host.trace and is_feasible(problem, np.stack([s.mask for s in host.trace])).all()
  again = ns.maximize(problem, exactly(function), entry.optimizer, seed=seed)
  np.testing.assert_array_equal(again.mask, host.mask)
  assert again.evaluations == host.evaluations


def steps_by_run(result):
  """The sets that each run reached. When it reached them may depend on what was measured first."""
  return sorted(((s.run, s.mask.tolist()) for s in result.trace), key=lambda step: step[0])


@EVERY_OPTIMIZER
def test_values_that_differ_by_rounding_alone_are_ties(entry):
  if not entry.compares:
    pytest.skip("it computes with values")
  for seed in range(6):
    problem = instances.two_knapsacks(seed)
    exact, tenths = (instances.integer_coverage(seed, unit=unit) for unit in (1, 0.1))
    expected = ns.maximize(problem, exactly(exact), entry.optimizer, seed=seed)
    for rounded in (tenths, instances.shaken(exact, seed)):
      host = ns.maximize(problem, exactly(rounded), entry.optimizer, seed=seed)
      device = ns.maximize(problem, rounded, entry.optimizer, seed=seed, traceable=True)
      why = "values that differ by rounding alone were not a tie: see `Entry.compares`"
      np.testing.assert_array_equal(host.mask, expected.mask, why)
      np.testing.assert_array_equal(device.mask, expected.mask, why)
      assert steps_by_run(host) == steps_by_run(expected), why


@EVERY_OPTIMIZER
def test_evaluations_are_limited_and_the_answer_so_far_is_good(entry):
  problem = instances.two_knapsacks(1)
  function = instances.tabulated(instances.integer_coverage(1))
  values = []
  for limit in (1, 2, 5, 9):
    value, asked = watched(problem, function, entry)
    result = ns.maximize(problem, value, entry.optimizer, max_evaluations=limit)
    assert result.evaluations == len(asked) <= limit
    assert problem.feasible(result.mask)
    device = ns.maximize(problem, function, entry.optimizer, limit, traceable=True)
    assert device.evaluations <= limit and problem.feasible(device.mask)
    values.append(result.value)
  assert values == sorted(values)

  def limited(limit):
    on_host, on_device = watched(problem, function, entry)[0], dict(traceable=True)
    host = ns.maximize(problem, on_host, entry.optimizer, limit[0])
    return host, ns.maximize(problem, function, entry.optimizer, limit[1], **on_device)

  needed = [result.evaluations for result in limited((10_000, 10_000))]
  for enough, whole in ((True, needed), (False, [n - 1 for n in needed])):
    assert [result.done for result in limited(whole)] == [enough, enough]


@EVERY_OPTIMIZER
def test_never_worse_than_the_best_singleton_where_that_is_claimed(entry):
  if not entry.beats_singletons:
    assert entry.ratio == entry.group_ratio == 0, "a ratio implies it"
    return
  for seed in range(10):
    problem, function = instances.one_knapsack(seed), instances.facility_location(seed)
    singletons = np.eye(problem.n, dtype=bool)[np.asarray(problem.additions(problem.required).fits)]
    best = padded(set_functions.on_host(function), singletons).max() if len(singletons) else 0
    result = ns.maximize(problem, function, entry.optimizer, traceable=True)
    assert result.value >= best * (1 - 1e-6), seed


@EVERY_OPTIMIZER
def test_values_that_are_nan_are_refused(entry):
  problem, function = instances.two_knapsacks(0), instances.noisy_table(0)
  function = jax.tree.map(lambda values: jnp.full_like(values, jnp.nan), function)
  with pytest.raises(ValueError, match=r"value returned nan among its values, for the set"):
    ns.maximize(problem, lambda masks: np.full(len(masks), np.nan), entry.optimizer)
  with pytest.raises(ValueError, match="value returned NaN or infinity for a feasible set"):
    ns.maximize(problem, function, entry.optimizer, traceable=True)


@EVERY_OPTIMIZER
def test_a_problem_where_nothing_can_be_added(entry):
  problem = ns.Problem(np.arange(8) // 2, np.ones((8, 2)), [0.5, 3])
  result = ns.maximize(problem, lambda masks: (masks.sum(1), 0.0 * masks.sum(1)), entry.optimizer)
  assert not result.mask.any() and result.evaluations == 1


def groups_alone(seed, n=8):
  """At most one of every two elements; the knapsacks hold everything."""
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
  for seed in range(30):  # test_ratios.py has harder problems.
    problem, function = make_problem(seed), instances.facility_location(seed)
    if make_problem is groups_alone:
      function = instances.tabulated(function)
    feasible = np.asarray(instances.every_feasible(problem, masks))
    optimum = set_functions.on_host(function)(masks)[feasible].max()
    result = ns.maximize(problem, function, optimizer, traceable=True)
    assert optimum * (share - 1e-6) <= result.value <= optimum * (1 + 1e-6), seed
