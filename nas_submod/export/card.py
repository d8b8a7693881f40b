"""The model card, and the table of files that it shares with the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

_COLUMNS = (
  "file",
  "bytes",
  "weights",
  "accuracy",
  "agree",
  "largest difference of logits",
  "ms",
  "arena",
  "nodes",
)


def table(content: Mapping[str, Any]) -> str:
  """One line for each exported file, as an aligned Markdown table.

  Args:
    content: Content of `export.json`.
  """
  rows = [_checkpoint(content)] if content["accuracy"] else []
  rows += [_row(facts, content["accuracy"]) for facts in content["formats"].values()]
  widths = [max(map(len, column)) for column in zip(_COLUMNS, *rows)]
  lines = [" | ".join(c.ljust(w) for c, w in zip(row, widths)) for row in (_COLUMNS, *rows)]
  rule = "|".join("-" * (width + 2) for width in widths)
  header, *others = (f"| {line} |" for line in lines)
  return "\n".join([header, f"|{rule}|", *others])


def _checkpoint(content: Mapping[str, Any]) -> Sequence[str]:
  accuracy = f"{content['accuracy']['accuracy']:.2%}"
  return ["checkpoint, by JAX", "-", "-", accuracy, *["-"] * 5]


def _row(facts: Mapping[str, Any], accuracy: Mapping[str, Any] | None) -> Sequence[str]:
  compared, nodes = facts["comparison"], facts["nodes"]
  checked = ["not checked"] * 3
  if compared and accuracy:
    images = compared["images"]
    part = f" of {images:,} images" if images < accuracy["images"] else ""
    checked = [
      f"{compared['accuracy']:.2%}{part}",
      f"{compared['agreement']:.2%}",
      f"{compared['difference']:.2g}, relative {compared['relative_difference']:.1e}",
    ]
  return [
    facts["file"],
    f"{facts['bytes']:,}",
    f"{facts['weight_bytes']:,}",
    *checked,
    "-" if facts["latency_ms"] is None else f"{facts['latency_ms']:.3g}",
    "-" if facts["arena_bytes"] is None else f"{facts['arena_bytes']:,}",
    "-" if nodes is None else _nodes(nodes),
  ]


def _nodes(nodes: Mapping[str, int]) -> str:
  named = {"Conv": 0, "Transpose": 0, "CONV_2D": 0, "DEPTHWISE_CONV_2D": 0, "TRANSPOSE": 0}
  shown = [f"{count} {kind}" for kind, count in nodes.items() if kind in named]
  return f"{sum(nodes.values())} ({', '.join(shown)})"


def faults(content: Mapping[str, Any]) -> list[str]:
  """What is wrong with the files, one line each."""
  return [f"{f['file']}: {fault}" for f in content["formats"].values() for fault in f["faults"]]


def notes(content: Mapping[str, Any]) -> list[str]:
  """Notes needed to read the table, one line each."""
  lines = [f"{f['file']}: {note}" for f in content["formats"].values() for note in f["notes"]]
  lines += [f"{name} was left out: {why}" for name, why in content["left_out"].items()]
  shown = [facts["file"] for facts in content["formats"].values()]
  earlier = [file for file in content["earlier"] if file not in shown]
  words = "is left from an earlier export; this card does not describe it"
  lines += [f"{file} {words}" for file in earlier]
  lines += content["over_budget"]
  if content["unchecked"]:
    lines.append(f"nothing was checked on images: {content['unchecked']}")
  return lines


def text(content: Mapping[str, Any]) -> str:
  """The model card as Markdown.

  Args:
    content: Content of `export.json`.
  """
  network = content["network"]
  parts = [
    f"# Model card: {network['space']}",
    _what(content),
    f"## Data\n\n{_data(content)}",
    f"## Budgets\n\n{_budgets(content)}",
    f"## Files\n\n{table(content)}\n\n{_protocol(content)}",
    f"## Use\n\n{_use(content)}",
    f"## How it was made\n\n{_made(content)}",
    "## Licence\n\nThe code of nas_submod: Apache-2.0. The weights are yours, within the licence "
    "of the data.",
  ]
  if found := faults(content):
    parts.insert(1, "**Faults: do not deploy these files.**\n\n" + _list(found))
  return "\n\n".join(parts) + "\n"


def _list(lines: Sequence[str]) -> str:
  return "\n".join(f"- {line}" for line in lines)


def _what(content: Mapping[str, Any]) -> str:
  network, accuracy = content["network"], content["accuracy"]
  height, width, channels = network["image_shape"]
  lines = [
    f"Classifies images of {height} x {width} pixels and {channels} "
    f"{'channel' if channels == 1 else 'channels'} into {len(network['classes'])} classes. "
    + ("Found by architecture search within budgets." if content["budget"] else ""),
    f"Architecture: `{network['architecture']}`",
  ]
  if not network["steps"]:
    lines.append("**Not trained: random weights, for timing alone.**")
  elif accuracy:
    lines.append(
      f"Accuracy {accuracy['accuracy']:.2%} on {accuracy['images']:,} test images by JAX, after "
      f"{network['steps']:,} training steps, seed {network['seed']}."
    )
  return "\n\n".join(lines)


def _data(content: Mapping[str, Any]) -> str:
  data, network = content["data"], content["network"]
  sizes = ", ".join(f"{count:,} {name}" for name, count in data["images"].items())
  lines = [
    f"Source: `{data['source']}`." + (f" Images: {sizes}." if sizes else ""),
    f"Classes: {', '.join(network['classes'])}.",
  ]
  if data["trained_on"]:
    lines.append(f"Trained on: {data['trained_on']}.")
  return "\n\n".join(lines)


def budget_table(content: Mapping[str, Any]) -> str:
  """One line for each resource: the cost, the limit, and the values in the files, as Markdown.

  Args:
    content: Content of `export.json`.
  """
  used, budget, found = content["resources"], content["budget"], content["measured"]
  lines = ["| resource | unit | cost | limit | share | in the files |", "|---|---|---|---|---|---|"]
  for name in dict.fromkeys([*budget, *used]):
    of, limit = used.get(name), budget.get(name)
    share = "" if of is None or not limit else f"{of / limit:.1%}"
    shown = ["" if value is None else _number(value) for value in (of, limit)]
    files = ", ".join(f"{_number(value)} ({where})" for where, value in found.get(name, {}).items())
    lines.append(
      f"| {name} | {content['units'].get(name, '')} | {shown[0]} | {shown[1]} | {share} | {files} |"
    )
  return "\n".join(lines)


def _number(value: int | float) -> str:
  return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def _budgets(content: Mapping[str, Any]) -> str:
  lines = [budget_table(content)]
  if not content["budget"]:
    lines.append("\nNo search made this network, so nothing limited it.")
  return "\n".join(lines)


def _protocol(content: Mapping[str, Any]) -> str:
  lines = [
    "bytes: of the file. weights: kernels and biases, 1 byte a kernel number and 4 a bias in int8, "
    "4 bytes each in float32.",
    "accuracy, agree (same prediction as JAX) and largest difference of logits (also relative to "
    "the largest logit; in int8 it may be large although predictions agree): on all test images, "
    "or the number given, evenly spaced among them, by the runtime of the file.",
    f"ms: one image, one thread, on {content['versions']['machine']}; the files run in turn, "
    f"{content['latency']['sweeps']} sweeps, 10th percentile of the thread's time.",
    "arena: bytes of activations in TFLite Micro, with the padded copies that TFLite makes. The "
    "resource memory counts these copies if it is set to tflite_micro.",
  ]
  if content["calibration"]["images"]:
    lines.append(
      f"int8: ranges of activations from {content['calibration']['images']} training images."
    )
  return _list([*lines, *notes(content)])


def _use(content: Mapping[str, Any]) -> str:
  lines = [
    "Input: `x = (pixels 0..255 - mean) / std`, by channel, with "
    f"mean `{content['network']['mean']}` and std `{content['network']['std']}`. ONNX takes "
    "`[batch, C, H, W]`, TFLite `[1, H, W, C]`, StableHLO `[batch, H, W, C]`. Output: logits in "
    "the order of the classes. The metadata of each file has all of this."
  ]
  if "onnx" in content["formats"]:
    lines.append("With onnxruntime, numpy and pillow alone: `python classify.py IMAGE`.")
  if int8 := content["formats"].get("tflite_int8"):
    lines.append(_on_a_board(int8))
  return "\n\n".join(lines)


def _on_a_board(facts: Mapping[str, Any]) -> str:
  """How to run the int8 file with TFLite Micro."""
  scale, zero = facts["quantization"]["input"]
  of_logits, zero_of_logits = facts["quantization"]["output"]
  arena = ""
  if facts["arena_bytes"] is not None and "persistent_bytes" in facts:
    arena = (
      f" Tensor arena: {facts['arena_bytes']:,} bytes of activations, and up to "
      f"{facts['persistent_bytes']:,} of the graph."
    )
  return (
    f"With TFLite Micro: `xxd -i {facts['file']} > model.h` makes a C array; declare it "
    f"`alignas(16) const`. Operations for the resolver: {', '.join(sorted(facts['nodes']))}. "
    f"Input: int8, `round(x / {scale:.9g}){_plus(zero)}`, cut to -128..127. Logits: "
    f"`(output{_plus(-zero_of_logits)}) * {of_logits:.9g}`.{arena}"
  )


def _plus(number: int) -> str:
  return f" {'-' if number < 0 else '+'} {abs(number)}"


def _made(content: Mapping[str, Any]) -> str:
  commands = "\n".join(content["commands"])
  versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
  return f"```sh\n{commands}\n```\n\nSeed: {content['network']['seed']}.\n\nVersions: {versions}."
