"""The options: what may stand at a position."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from nas_submod.networks import layers
from nas_submod.networks.layers import Layer


class Option(NamedTuple):
  """A block type.

  Attributes:
    name: One word, unique in a space; what an architecture is written with.
    block: `(cin, cout, stride) -> Layer`.
  """

  name: str
  block: Callable[[int, int, int], Layer]


def conv_bn(
  cin: int, cout: int, kernel: int = 1, stride: int = 1, groups: int = 1, active: bool = True
) -> Layer:
  """Convolution, batch norm and, where active, the rectifier."""
  normed = (layers.conv(cin, cout, kernel, stride, groups), layers.batch_norm(cout))
  return layers.serial(*normed, *((layers.relu(),) if active else ()))


def inverted_residual(
  cin: int,
  cout: int,
  stride: int,
  *,
  expansion: int,
  kernel: int = 3,
  expand_groups: int = 1,
  project_groups: int = 1,
  shuffle: bool = True,
  squeeze_excite: bool = False,
  project_skip: bool = True,
) -> Layer:
  """The inverted residual (Sandler et al. 2018) as RCNet has it: grouped, with channel shuffle.

  Args:
    cin: Input channels.
    cout: Output channels.
    stride: 1 or 2, of the depthwise convolution.
    expansion: Inner channels are `expansion * cin`.
    kernel: Side of the depthwise kernel.
    expand_groups: Groups of the first 1x1 convolution.
    project_groups: Groups of the last 1x1 convolution.
    shuffle: Shuffle channels in `project_groups` groups before the last convolution.
    squeeze_excite: Gate the inner channels.
    project_skip: With stride 1 and `cin != cout`, add a 1x1 convolution of the input.
  """
  inner = expansion * cin
  branch = layers.serial(
    conv_bn(cin, inner, groups=expand_groups),
    conv_bn(inner, inner, kernel, stride, groups=inner),
    *((layers.squeeze_excite(inner),) if squeeze_excite else ()),
    *((layers.channel_shuffle(project_groups),) if shuffle else ()),
    conv_bn(inner, cout, groups=project_groups, active=False),
  )
  if stride == 1 and cin == cout:
    return layers.residual(branch)
  if stride == 1 and project_skip:
    return layers.residual(branch, conv_bn(cin, cout, active=False))
  return branch


def inverted_residual_option(name: str | None = None, **settings: Any) -> Option:
  """An option from the keyword arguments of `inverted_residual`.

  Without a name it is `e6k5g2p2se`: expansion, kernel unless 3, groups of expand and project
  unless 1, `se` for squeeze-excite.

  Raises:
    ValueError: If a setting is unknown or expansion is missing.
  """
  signature = inspect.signature(inverted_residual).parameters.values()
  allowed = {p.name for p in signature if p.kind is p.KEYWORD_ONLY}
  if unknown := set(settings) - allowed:
    raise ValueError(
      f"unknown setting {sorted(unknown)[0]!r} of a block; allowed: {sorted(allowed)}"
    )
  if "expansion" not in settings:
    raise ValueError("a block needs its expansion, e.g. dict(expansion=6)")
  if name is None:
    kernel, expand, project = (
      settings.get(key, default)
      for key, default in (("kernel", 3), ("expand_groups", 1), ("project_groups", 1))
    )
    name = (
      f"e{settings['expansion']}"
      + (f"k{kernel}" if kernel != 3 else "")
      + (f"g{expand}" if expand != 1 else "")
      + (f"p{project}" if project != 1 else "")
      + ("se" if settings.get("squeeze_excite") else "")
    )
  return Option(name, functools.partial(inverted_residual, **settings))


# The six types of the paper, in its order: (expansion, expand groups, project groups).
RCNET_TYPES: tuple[Mapping[str, Any], ...] = tuple(
  {"expansion": t, "expand_groups": ge, "project_groups": gp}
  for t, ge, gp in ((3, 1, 1), (3, 1, 2), (6, 2, 2), (6, 1, 2), (6, 1, 1), (12, 2, 4))
)


def rcnet_options() -> tuple[Option, ...]:
  """The six block types of the paper (its Table 1)."""
  return tuple(inverted_residual_option(**settings) for settings in RCNET_TYPES)
