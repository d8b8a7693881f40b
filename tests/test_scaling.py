"""The scaling benchmark: the program of a search has no collectives; they would be detected."""

import functools
import types

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import scaling, speed, workload
from nas_submod import networks, parallel


def test_candidates_do_not_communicate_and_each_device_trains():
  found = scaling.measure(scaling.sized_space(1, 1, 2), steps=2, batch_size=4, repeats=2)
  assert found["devices"] == 8
  assert found["collectives"] == []
  assert found["compile"] > 0 < found["seconds"]


@pytest.mark.slow
def test_the_overhead_is_measured_for_networks_of_growing_size():
  space, budget = scaling.sized_space(1, 1, 2), {"params": 10**6, "madds": 10**9}
  found = scaling.measure_overhead(space, budget, steps=2, batch_size=4, repeats=2)
  madds = [row["madds"] for row in found["networks"]]
  assert madds == sorted(madds) and madds[0] < madds[-1]
  for row in found["networks"]:
    assert min(row[name] for name in ("seconds", "alone", "again", "compile")) > 0
    images = 4 * 8 * 8 * 4 * 3  # a float32 batch is read, written normalised and read again
    assert row["bytes"] > images


def test_a_recomputing_space_computes_the_same_and_stores_less():
  space = scaling.sized_space(1, 2, 4)
  x = jnp.ones((2, *space.image_shape))
  kept, found = [], []
  for one in (space, speed.recomputing(space)):
    network = networks.build(one, (1, 2))

    @jax.jit
    def differentiate(params, state, network=network):
      apply = functools.partial(network.apply, state=state, x=x, train=True)
      y, gradient, _ = jax.vjp(apply, params, has_aux=True)
      return gradient, y, gradient(jnp.ones_like(y))

    gradient, *values = differentiate(*jax.jit(network.init)(jax.random.key(0)))
    kept.append(sum(leaf.size for leaf in jax.tree.leaves(gradient)))
    found.append(values)
  chex.assert_trees_all_close(*found, rtol=1e-5, atol=1e-5)
  assert kept[1] < kept[0] / 2


def test_peaks_count_multiply_adds_and_bytes_read_and_written(monkeypatch):
  timed = []

  def fastest(call):
    timed.append(jax.eval_shape(call))
    return 0.5

  monkeypatch.setattr(workload, "_fastest", fastest)
  assert workload.peaks() == (2 * 2_048**3, 2 * 2 * timed[1].size * 4)
  assert timed[0].shape == (2_048, 2_048) and timed[1].dtype == np.float32


def test_a_collective_is_detected():
  total = jax.pmap(lambda x: jax.lax.psum(x, "devices"), axis_name="devices")
  program = total.lower(jnp.ones((parallel.device_count(), 3))).compile()
  assert speed.collectives(program.as_text()) == ["all-reduce"]


def test_sized_spaces_have_their_sizes():
  space = scaling.sized_space(6, 3, 16)
  assert (space.positions, len(space.options)) == (12, 3)
  assert [stage.channels for stage in space.stages] == [16, 32]
  assert np.count_nonzero(space.start) == 1


@pytest.mark.parametrize(("parts", "hosts", "shared"), [(128, 2, 8), (12, 1, 4), (12, 2, None)])
def test_the_devices_of_several_hosts_share_a_batch_equally(parts, hosts, shared):
  devices = [types.SimpleNamespace(process_index=number % hosts) for number in range(8)]
  if shared:
    assert parallel.devices_for(parts, devices) == shared
  else:
    with pytest.raises(ValueError, match="by the 8 devices of 2 processes; allowed: multiples of"):
      parallel.devices_for(parts, devices)


def test_a_process_gives_its_last_line_or_the_last_line_of_its_error(tmp_path, monkeypatch):
  monkeypatch.setenv("PYTHONPATH", str(tmp_path))
  (tmp_path / "measures.py").write_text("import os; print('first'); print(os.environ['SIZE'])")
  assert workload.in_a_process("measures", [], SIZE='{"size": 3}') == {"size": 3}
  with pytest.raises(ValueError, match=r"none\.json"):
    workload.in_a_process("json.tool", ["none.json"])
