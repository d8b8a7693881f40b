"""Programs for a TPU compute the same, without groups of channels."""

import functools
import types

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas_submod import networks, parallel
from nas_submod.evaluation import candidates
from nas_submod.evaluation.shared_weights import score
from nas_submod.networks import blocks, layers, normalization, spaces
from nas_submod.networks.search_space import SearchSpace, Stage
from nas_submod.training.final_programs import make_final_programs


def own_block(cin, cout, stride, activation):
  """A user's block with groups, whose trace does not show the activation."""
  return layers.serial(
    blocks.conv_bn(cin, cout, 1, stride, groups=2), layers.parameter_free(activation)
  )


def test_a_universal_network_for_a_tpu_computes_alike():
  own = [
    blocks.Option(function.__name__, functools.partial(own_block, activation=function))
    for function in (jnp.tanh, jnp.sin)
  ]
  grouped = blocks.option(expansion=2, expand_groups=2, project_groups=2)
  space = SearchSpace(
    name="grouped",
    image_shape=(5, 5, 2),
    classes=3,
    stem_channels=4,
    stages=(Stage(4, 3), Stage(6, 3, 2)),
    options=(blocks.option(expansion=2), grouped, *own),
  )
  architectures = np.array([[2, 2, 1, 2, 4, 3], [0, 0, 0, 4, 1, 2], [3, 4, 0, 3, 0, 0]], np.int32)
  x, found = jax.random.normal(jax.random.key(1), (3, 2, *space.image_shape)), []
  for platform in ("cpu", "tpu"):
    network = networks.build_universal(space, platform)
    init, apply = jax.jit(network.init), jax.jit(network.apply, static_argnums=4)
    found.append(
      [
        apply(*init(jax.random.key(0), architecture), architecture, images, True)
        for architecture, images in zip(architectures, x)
      ]
    )
  chex.assert_trees_all_close(*found, atol=1e-5)
  assert all(jnp.abs(logits).max() > 0 for logits, _ in found[0])


def test_programs_are_made_for_the_platform_of_their_devices(monkeypatch):
  space, platforms = spaces.get("digits"), []

  def record(built, platform):
    platforms.append(platform)
    return built

  monkeypatch.setattr(parallel, "platform_of", lambda devices=None: "tpu")
  monkeypatch.setattr(networks, "build_universal", record)
  monkeypatch.setattr(networks, "for_platform", record)
  candidates.make_candidate_programs(space, None)
  score.make_metrics(space, None)
  make_final_programs(None, layers.identity(), jax.random.key(0), 1)
  assert platforms == ["tpu"] * 3


def test_the_six_options_of_the_paper_have_three_branches_on_a_tpu():
  space = spaces.get("digits")
  architecture, convolutions = jnp.asarray(space.start), []
  for platform in ("cpu", "tpu"):
    network = networks.build_universal(space, platform)
    variables = jax.eval_shape(network.init, jax.random.key(0), architecture)
    images = jax.ShapeDtypeStruct((2, *space.image_shape), jnp.float32)
    program = jax.jit(lambda v, a, x, apply=network.apply: apply(*v, a, x, True))
    lowered = program.trace(variables, architecture, images).lower(lowering_platforms=("tpu",))
    convolutions.append(lowered.as_text().count("stablehlo.convolution("))
  in_stem = 2  # Each block has one; 1x1 convolutions are products.
  assert (convolutions[0] - in_stem) == 2 * (convolutions[1] - in_stem) > 0


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("shape", [(8, 4, 4, 3), (8, 1, 5, 3), (8, 3)])
def test_batch_norm_of_a_tpu_has_the_same_moments(offset, shape, monkeypatch):
  x = offset + jax.random.normal(jax.random.key(0), shape)
  scale, bias = jnp.array([1.0, 2.0, 3.0]), jnp.array([0.0, 1.0, 2.0])
  expected = normalization.normalize_batch(x, scale, bias, 1e-5, True)
  taken = []

  def on_a_tpu(x, tpu, default):
    taken.append(tpu(x))
    return taken[0]

  monkeypatch.setattr(jax.lax, "platform_dependent", on_a_tpu)
  found = normalization.normalize_batch(x, scale, bias, 1e-5, True)
  first = x[:, 0] if len(shape) == 4 else x[:1]
  np.testing.assert_allclose(taken[0], first.reshape(-1, 3).mean(0), rtol=1e-6, atol=1e-6)
  # At 10,000 a number of float32 is rounded by up to 5e-4.
  chex.assert_trees_all_close(found, expected, rtol=1e-6, atol=5e-3 if offset else 1e-5)


def test_programs_that_run_once_a_training_are_those_that_compile_with_less_effort(monkeypatch):
  given = {}
  monkeypatch.setattr(candidates, "compile_together", lambda *lower, **kept: given.update(kept))
  lowered = types.SimpleNamespace(out_info=())
  program = types.SimpleNamespace(lower=lambda *_: lowered)
  trainer = types.SimpleNamespace(_programs=types.SimpleNamespace(start=program))
  candidates.Trainer._compile(trainer, *[np.zeros(1)] * 3)
  fields = candidates.CandidatePrograms._fields
  assert [fields[place] for place in given["seldom"]] == ["start", "evaluate"]
