"""Networks of a space, written and trained as a PyTorch user would; needs torch."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from nas_submod import networks, training
from nas_submod.data.loading import Data
from nas_submod.networks.blocks import Block, Option
from nas_submod.networks.search_space import SearchSpace

_EVAL_BATCH = 256


def conv_bn(
  cin: int, cout: int, kernel: int = 1, stride: int = 1, groups: int = 1, active: bool = True
) -> nn.Sequential:
  """Returns a convolution, batch norm and, if `active`, a ReLU."""
  conv = nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False)
  return nn.Sequential(conv, nn.BatchNorm2d(cout), *([nn.ReLU(inplace=True)] if active else []))


class Added(nn.Module):
  """A branch, and a shortcut that is added; None for no shortcut."""

  def __init__(self, branch: nn.Module, shortcut: nn.Module | None, active: bool = False):
    super().__init__()
    self.branch, self.shortcut, self.active = branch, shortcut, active

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """Maps images `[B, C, H, W]` to images."""
    y = self.branch(x)
    y = y if self.shortcut is None else y + self.shortcut(x)
    return functional.relu(y) if self.active else y


class SqueezeExcite(nn.Module):
  """Multiplies channels by a gate computed from their averages, as `layers.squeeze_excite`."""

  def __init__(self, channels: int, reduction: int = 4):
    super().__init__()
    squeezed = max(channels // reduction, 1)
    self.gate = nn.Sequential(
      nn.AdaptiveAvgPool2d(1),
      nn.Conv2d(channels, squeezed, 1),
      nn.ReLU(),
      nn.Conv2d(squeezed, channels, 1),
      nn.Hardsigmoid(),
    )

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """Maps images `[B, C, H, W]` to images."""
    return x * self.gate(x)


def inverted_residual(
  cin: int,
  cout: int,
  stride: int,
  expansion: int,
  kernel: int = 3,
  expand_groups: int = 1,
  project_groups: int = 1,
  squeeze_excite: bool = False,
) -> nn.Module:
  """The block of `nas_submod.blocks.inverted_residual`."""
  inner = expansion * cin
  branch = nn.Sequential(
    conv_bn(cin, inner, groups=expand_groups),
    conv_bn(inner, inner, kernel, stride, groups=inner),
    *([SqueezeExcite(inner)] if squeeze_excite else []),
    *([nn.ChannelShuffle(project_groups)] if project_groups > 1 else []),
    conv_bn(inner, cout, groups=project_groups, active=False),
  )
  if stride > 1:
    return branch
  return Added(branch, nn.Identity() if cin == cout else conv_bn(cin, cout, active=False))


def depthwise_separable(
  cin: int, cout: int, stride: int, kernel: int = 3, squeeze_excite: bool = False
) -> nn.Module:
  """The block of `nas_submod.blocks.depthwise_separable`."""
  branch = nn.Sequential(
    conv_bn(cin, cin, kernel, stride, groups=cin),
    *([SqueezeExcite(cin)] if squeeze_excite else []),
    conv_bn(cin, cout, active=False),
  )
  return Added(branch, nn.Identity()) if stride == 1 and cin == cout else branch


def residual(cin: int, cout: int, stride: int, kernel: int = 3) -> nn.Module:
  """The block of `nas_submod.blocks.residual`."""
  branch = nn.Sequential(
    conv_bn(cin, cout, kernel, stride), conv_bn(cout, cout, kernel, active=False)
  )
  same = stride == 1 and cin == cout
  shortcut = nn.Identity() if same else conv_bn(cin, cout, stride=stride, active=False)
  return Added(branch, shortcut, active=True)


_BLOCKS = {block.__name__: block for block in (inverted_residual, depthwise_separable, residual)}


def built(option: Option, cin: int, cout: int, stride: int) -> nn.Module:
  """The block of an option.

  Raises:
    ValueError: If it is a block of a user's own.
  """
  block = option.block
  known = isinstance(block, Block) and block.function.startswith("nas_submod.")
  if not known or (name := block.function.rpartition(":")[2]) not in _BLOCKS:
    raise ValueError(f"block {option.name} is not written in PyTorch; built: {', '.join(_BLOCKS)}")
  return _BLOCKS[name](cin, cout, stride, **dict(block.arguments))


def build(space: SearchSpace, architecture: Sequence[int]) -> nn.Sequential:
  """Builds the network of `nas_submod.networks.build`; errors as in `built`."""
  channels = space.stem_channels
  parts: list[nn.Module] = [conv_bn(space.image_shape[-1], channels, 3, space.stem_stride)]
  if space.stem_block_channels:
    parts.append(inverted_residual(channels, space.stem_block_channels, 1, expansion=1))
    channels = space.stem_block_channels
  *steps, _ = networks.walk(space, np.asarray(architecture))
  for step in steps:
    stage = space.stages[step.stage]
    for position, option in enumerate([step.opening, *step.others]):
      if option:
        before = int(step.predecessor)
        stride = 1 if position else networks.opening_stride(space, step.stage, before)
        parts.append(built(space.options[option - 1], channels, stage.channels, stride))
        channels = stage.channels
  if space.head_channels:
    parts.append(conv_bn(channels, space.head_channels))
    channels = space.head_channels
  parts += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, space.classes)]
  network = nn.Sequential(*parts)
  for module in network.modules():
    if isinstance(module, nn.Conv2d):
      nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
      nn.init.normal_(module.weight, std=0.01)
      nn.init.zeros_(module.bias)
  return network


def augment(images: torch.Tensor, padding: int, flip: bool) -> torch.Tensor:
  """Crops each padded image `[B, C, H, W]` at random, and mirrors it with probability 1/2."""
  batch, _, height, width = images.shape
  shift = torch.randint(0, 2 * padding + 1, (2, batch, 1), device=images.device)
  rows = torch.arange(height, device=images.device) + shift[0]
  columns = torch.arange(width, device=images.device)[None].expand(batch, -1)
  if flip:
    mirrored = torch.rand(batch, 1, device=images.device) < 0.5
    columns = torch.where(mirrored, width - 1 - columns, columns)
  columns = columns + shift[1]
  padded = functional.pad(images, (padding,) * 4)
  each = torch.arange(batch, device=images.device)[:, None, None]
  return padded.permute(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)


def train(
  space: SearchSpace,
  data: Data,
  config: Mapping[str, Any],
  architectures: Sequence[Sequence[int]],
  channels_last: bool,
  compiled: bool,
) -> dict[str, Any]:
  """Trains and evaluates each network.

  Returns:
    `compile` and `train`, seconds; `losses`, the mean training loss of each network, nats; `peak`,
    bytes on the device, None on a CPU. The compile time of a network is the time by which its first
    step and its evaluation exceed the second step.
  """
  device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
  lower = torch.autocast(device.type, torch.bfloat16, config["dtype"] == "bfloat16")
  layout = torch.channels_last if channels_last else torch.contiguous_format
  recipe = training.recipe(config, data)
  # By JAX, so before anything is timed.
  rates = np.asarray(recipe.learning_rate(np.arange(recipe.steps))).tolist()
  mean, std = (torch.tensor(v, device=device)[None, :, None, None] for v in (data.mean, data.std))

  def on_device(split: Any) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.tensor(split.images).permute(0, 3, 1, 2).contiguous()
    return images.to(device), torch.tensor(split.labels, dtype=torch.long, device=device)

  def prepared(images: torch.Tensor) -> torch.Tensor:
    return ((images.float() - mean) / std).contiguous(memory_format=layout)

  def wait() -> float:
    if device.type == "cuda":
      torch.cuda.synchronize()
    return time.perf_counter()

  images, labels = on_device(data.train)
  validation_images, validation_labels = on_device(data.validation)
  order = training.batch_order((0, 0), len(labels), recipe.batch_size, recipe.steps)
  batches = torch.tensor(order, dtype=torch.long, device=device)
  losses, compile_seconds = [], 0.0
  began = wait()
  for architecture in architectures:
    torch.manual_seed(0)
    network = build(space, architecture).to(device, memory_format=layout)
    if compiled:
      torch._dynamo.reset()
    forward = torch.compile(network) if compiled else network
    optimizer = torch.optim.SGD(
      network.parameters(),
      lr=1.0,
      momentum=config["momentum"],
      weight_decay=config["weight_decay"],
      nesterov=True,
    )
    total = torch.zeros((), device=device)
    seconds = [wait()]
    network.train()
    for step, rows in enumerate(batches):
      optimizer.param_groups[0]["lr"] = rates[step]
      x = prepared(augment(images[rows], config["crop_padding"], config["flip"]))
      with lower:
        logits = forward(x)
      loss = functional.cross_entropy(
        logits.float(), labels[rows], label_smoothing=recipe.label_smoothing
      )
      optimizer.zero_grad(set_to_none=True)
      loss.backward()
      optimizer.step()
      total += loss.detach()
      if step < 2:
        seconds.append(wait())
    network.eval()
    before = wait()
    with torch.inference_mode(), lower:
      for first in range(0, len(validation_labels), _EVAL_BATCH):
        x = prepared(validation_images[first : first + _EVAL_BATCH])
        (forward(x).argmax(1) == validation_labels[first : first + _EVAL_BATCH]).sum().item()
    if compiled:
      typical = seconds[2] - seconds[1] if recipe.steps > 1 else 0.0
      compile_seconds += max(seconds[1] - seconds[0] + wait() - before - 2 * typical, 0.0)
    losses.append(float(total) / recipe.steps)
  peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else None
  seconds_in_all = wait() - began
  return {
    "compile": compile_seconds,
    "train": seconds_in_all - compile_seconds,
    "losses": losses,
    "peak": peak,
  }


def parameters(space: SearchSpace, architecture: Sequence[int]) -> int:
  """Counts the parameters of the PyTorch network."""
  return sum(p.numel() for p in build(space, architecture).parameters())
