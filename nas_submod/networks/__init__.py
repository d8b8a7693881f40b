"""Networks of sets: layers, blocks, search spaces, and the programs built from them."""

from nas_submod.networks.layer import Layer, Variables, for_platform
from nas_submod.networks.single import (
  build,
  opening_options,
  opening_stride,
  output_shape,
  predecessors,
  walk,
)
from nas_submod.networks.universal import build_universal

__all__ = [
  "Layer",
  "Variables",
  "build",
  "build_universal",
  "for_platform",
  "opening_options",
  "opening_stride",
  "output_shape",
  "predecessors",
  "walk",
]
