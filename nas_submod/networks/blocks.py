"""The options of a position: block types, those of the paper and a user's own."""

import dataclasses
import inspect
from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

from nas_submod.networks import layers
from nas_submod.networks.layers import Layer
from nas_submod.validation import imported


class Option(NamedTuple):
  """A block type.

  Attributes:
    name: One word, unique in a space. Architectures are written with it.
    block: `(cin, cout, stride) -> Layer`.
  """

  name: str
  block: Callable[[int, int, int], Layer]


@dataclasses.dataclass(frozen=True)
class Block:
  """A block function with its arguments, by name: it can be compared, hashed and pickled.

  Attributes:
    function: `module:function`, of a function `(cin, cout, stride, **arguments) -> Layer`.
    arguments: Names and values, sorted by name.
  """

  function: str
  arguments: tuple[tuple[str, Any], ...]

  def __call__(self, cin: int, cout: int, stride: int) -> Layer:
    """The layer.

    Raises:
      ValueError: If the function cannot be imported, or returns something else.
    """
    layer = _imported(self.function)(cin, cout, stride, **dict(self.arguments))
    if not isinstance(layer, Layer):
      raise ValueError(
        f"block {self.function!r} returned {type(layer).__name__}; allowed: a "
        "nas_submod.networks.layers.Layer(init, apply, cost)"
      )
    return layer


def _imported(function: str) -> Callable[..., Any]:
  return imported("block", function, "module:function")


def imported_option(block: str, name: str | None = None, **arguments: Any) -> Option:
  """An option of a user's block function.

  Args:
    block: `module:function`, importable from the working directory. It is called as
      `function(cin, cout, stride, **arguments)`, and returns a `Layer`.
    name: The name of the option.
    **arguments: Numbers, text, or lists of them, which become tuples.

  Raises:
    ValueError: If the function cannot be imported, an argument is wrong or missing, or the name is
      missing.
  """
  function = _imported(block)
  if not isinstance(name, str):
    raise ValueError(f"block {block!r} needs a name, one unique word; got {name!r}")
  signature = inspect.signature(function)
  try:
    signature.bind(1, 1, 1, **arguments)
  except TypeError as error:
    allowed = ", ".join(list(signature.parameters)[3:]) or "none"
    raise ValueError(
      f"block {block!r}: {error}; allowed after cin, cout, stride: {allowed}"
    ) from None
  for key, value in arguments.items():
    arguments[key] = _hashable(f"block {block!r}: {key}", value)
  return Option(name, Block(block, tuple(sorted(arguments.items()))))


def _hashable(name: str, value: Any) -> Any:
  if isinstance(value, list | tuple):
    return tuple(_hashable(name, part) for part in value)
  if not isinstance(value, Hashable):
    raise ValueError(f"{name} holds {value!r}; allowed: numbers, text, lists of them")
  return value


def conv_bn(
  cin: int, cout: int, kernel: int = 1, stride: int = 1, groups: int = 1, active: bool = True
) -> Layer:
  """Convolution, batch norm and, if active, the rectifier."""
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
  """The inverted residual (Sandler et al. 2018), grouped and with channel shuffle as in RCNet.

  Args:
    cin: Input channels.
    cout: Output channels.
    stride: Stride of the depthwise convolution, 1 or 2.
    expansion: Inner channels are `expansion * cin`.
    kernel: Side of the depthwise kernel in pixels, odd.
    expand_groups: Groups of the first 1x1 convolution.
    project_groups: Groups of the last 1x1 convolution.
    shuffle: Shuffle channels in `project_groups` groups before the last convolution.
    squeeze_excite: Gate the inner channels.
    project_skip: Add a 1x1 convolution of the input if the stride is 1 and `cin != cout`.
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
  """An option of the inverted residual, from its keyword arguments.

  The default name looks like `e6k5g2p2se`: expansion, kernel unless 3, groups of the first (g) and
  last (p) convolution unless 1, `se` for squeeze-excite.

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
  return Option(name, Block(f"{__name__}:inverted_residual", tuple(sorted(settings.items()))))


# The six types of the paper, in its order: (expansion, expand groups, project groups).
RCNET_TYPES: tuple[Mapping[str, Any], ...] = tuple(
  {"expansion": t, "expand_groups": ge, "project_groups": gp}
  for t, ge, gp in ((3, 1, 1), (3, 1, 2), (6, 2, 2), (6, 1, 2), (6, 1, 1), (12, 2, 4))
)


def rcnet_options() -> tuple[Option, ...]:
  """The six block types of the paper (its Table 1)."""
  return tuple(inverted_residual_option(**settings) for settings in RCNET_TYPES)
