"""The options of a position: built-in block types and a user's own.

A config names them: `{"block": "residual"}`, `{"expansion": 6}` for an inverted residual, or
`{"block": "module:function", "name": "mine"}`.
"""

import dataclasses
import inspect
from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

from nas_submod.networks import layers
from nas_submod.networks.layer import Layer
from nas_submod.validation import at_least_one, checked, imported


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


def _imported(function: Any) -> Callable[..., Any]:
  return imported("block", function, ", ".join([*BLOCKS, "module:function"]))


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
  cin: int,
  cout: int,
  kernel: int = 1,
  stride: int = 1,
  groups: int = 1,
  active: bool = True,
  shuffle: bool = False,
) -> Layer:
  """Convolution, batch norm and, if active, the ReLU."""
  convolved = layers.conv(cin, cout, kernel, stride, groups, shuffle=shuffle)
  normed = convolved, layers.batch_norm(cout)
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
    # Keeps the layout of parameters in older checkpoints, where the shuffle was a layer.
    *((layers.identity(),) if shuffle else ()),
    conv_bn(inner, cout, groups=project_groups, active=False, shuffle=shuffle),
  )
  if stride == 1 and cin == cout:
    return layers.residual(branch)
  if stride == 1 and project_skip:
    return layers.residual(branch, conv_bn(cin, cout, active=False))
  return branch


def residual(cin: int, cout: int, stride: int, *, kernel: int = 3) -> Layer:
  """The basic residual block of ResNet (He et al. 2016): two convolutions with batch norm.

  ReLUs follow the first convolution and the addition. If the shape changes, the shortcut is a
  1x1 convolution with batch norm.

  Args:
    cin: Input channels.
    cout: Output channels.
    stride: Stride of the first convolution and of the shortcut, 1 or 2.
    kernel: Side of both kernels in pixels, odd.
  """
  branch = layers.serial(
    conv_bn(cin, cout, kernel, stride), conv_bn(cout, cout, kernel, active=False)
  )
  same = stride == 1 and cin == cout
  shortcut = None if same else conv_bn(cin, cout, stride=stride, active=False)
  return layers.serial(layers.residual(branch, shortcut), layers.relu())


def depthwise_separable(
  cin: int, cout: int, stride: int, *, kernel: int = 3, squeeze_excite: bool = False
) -> Layer:
  """An inverted residual of expansion 1 without its first convolution: depthwise, then 1x1.

  It is MobileNetV2's first block and the SepConv of MnasNet (Tan et al. 2019). Unlike MobileNetV1's
  block, it does not end with a ReLU, and it adds its input if the shapes agree.

  Args:
    cin: Input channels.
    cout: Output channels.
    stride: Stride of the depthwise convolution, 1 or 2.
    kernel: Side of the depthwise kernel in pixels, odd.
    squeeze_excite: Gate the channels between the two convolutions.
  """
  branch = layers.serial(
    conv_bn(cin, cin, kernel, stride, groups=cin),
    *((layers.squeeze_excite(cin),) if squeeze_excite else ()),
    conv_bn(cin, cout, active=False),
  )
  return layers.residual(branch) if stride == 1 and cin == cout else branch


# The built-in blocks by their name in a config, with the prefix of the option's default name.
BLOCKS: Mapping[str, tuple[Callable[..., Layer], str]] = {
  "inverted_residual": (inverted_residual, "e{expansion}"),
  "residual": (residual, "res"),
  "depthwise_separable": (depthwise_separable, "ds"),
}
# Settings that default names of options show with a letter, unless they have the usual value.
_IN_NAMES = (("kernel", "k", 3), ("expand_groups", "g", 1), ("project_groups", "p", 1))


def option(block: Any = "inverted_residual", name: str | None = None, **settings: Any) -> Option:
  """Makes an option from its entry in a config.

  The default name of a built-in block looks like `e6k5g2p2se`, `res` or `dsk5`: the block, the
  kernel unless 3, the groups of the first (g) and last (p) convolution unless 1, `se` for
  squeeze-excite.

  Args:
    block: A name in BLOCKS, or `module:function` as for `imported_option`.
    name: The name of the option; a user's own block needs one.
    **settings: Keyword arguments of the block function.

  Raises:
    ValueError: If the block is unknown, or a setting is unknown, missing or wrong.
  """
  if not isinstance(block, str) or block not in BLOCKS:
    return imported_option(block, name, **settings)
  function, prefix = BLOCKS[block]
  parameters = {
    key: parameter
    for key, parameter in inspect.signature(function).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY
  }
  for key, value in settings.items():
    if key not in parameters:
      raise ValueError(
        f"unknown setting {key!r} of a block {block}; allowed: {', '.join(sorted(parameters))}"
      )
    checked(f"block {block}: {key}", value, parameters[key].annotation)
    if parameters[key].annotation is int:
      at_least_one(**{f"block {block}: {key}": value})
    if key == "kernel" and value % 2 == 0:
      raise ValueError(f"block {block}: kernel must be odd, got {value}")
  for key, parameter in parameters.items():
    if parameter.default is parameter.empty and key not in settings:
      raise ValueError(f"a block {block} needs its {key}, e.g. dict({key}=6)")
  if name is None:
    name = prefix.format(**settings)
    for key, letter, usual in _IN_NAMES:
      if settings.get(key, usual) != usual:
        name += f"{letter}{settings[key]}"
    name += "se" if settings.get("squeeze_excite") else ""
  return Option(name, Block(f"{__name__}:{block}", tuple(sorted(settings.items()))))


# The six types of the paper, in its order: (expansion, expand groups, project groups).
RCNET_TYPES: tuple[Mapping[str, Any], ...] = tuple(
  {"expansion": t, "expand_groups": ge, "project_groups": gp}
  for t, ge, gp in ((3, 1, 1), (3, 1, 2), (6, 2, 2), (6, 1, 2), (6, 1, 1), (12, 2, 4))
)


def rcnet_options() -> tuple[Option, ...]:
  """The six block types of the paper (its Table 1)."""
  return tuple(option(**settings) for settings in RCNET_TYPES)
