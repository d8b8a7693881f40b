"""Pieces of a page: escaped text, numbers that a screen reader reads, tables, blocks."""

import colorsys
import html
import math
import re
from collections.abc import Iterable, Sequence

import numpy as np

from nas_submod.networks.search_space import SearchSpace

_BOUND = "\N{NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"  # Screen readers say it, unlike a hyphen.


class Markup(str):
  """Text that is already HTML."""

  __slots__ = ()


def escape(text: object) -> Markup:
  """Text as HTML; `Markup` stays as it is."""
  return text if isinstance(text, Markup) else Markup(html.escape(str(text)))


def element(name: str, content: object, **attributes: object) -> Markup:
  """An element `<name attributes>content</name>`; `class_` is class, `aria_label` aria-label."""
  named = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
  given = "".join(f' {key}="{escape(value)}"' for key, value in named.items())
  return Markup(f"<{name}{given}>{escape(content)}</{name}>")


def join(parts: Iterable[object], between: str = "") -> Markup:
  """Several parts, escaped, one after the other."""
  return Markup(between.join(map(escape, parts)))


def table(
  columns: Sequence[object], rows: Iterable[Sequence[object]], caption: str = "", **attributes: str
) -> Markup:
  """A table that scrolls sideways if it is wider than the page.

  Args:
    columns: Headings.
    rows: Cells; the first one of a row is its heading.
    caption: What it holds, for a screen reader.
    **attributes: Attributes of the table.
  """
  head = join(element("th", column, scope="col") for column in columns)
  body = join(
    element("tr", join([element("th", first, scope="row"), *(element("td", c) for c in cells)]))
    for first, *cells in rows
  )
  content = join(
    [
      element("thead", element("tr", head)),
      element("tbody", body),
    ]
  )
  # A tabindex lets the keyboard scroll it.
  return element(
    "div",
    element("table", content, **({"aria_label": caption} if caption else {}), **attributes),
    class_="scroll",
    tabindex=0,
  )


def decimals(value: float, digits: int = 4, sign: bool = False) -> str:
  """A number with a minus that is read aloud, unlike a hyphen; "unknown" for NaN."""
  if math.isnan(value):
    return "unknown"
  if math.isinf(value):
    return "failed" if value < 0 else "infinite"
  return f"{value:{'+' * sign}.{digits}f}".replace("-", MINUS)


def sentence(text: str) -> str:
  """Text whose negative numbers have a minus that is read aloud."""
  return re.sub(r"(?<![\w.])-(?=\d)", MINUS, text)


def with_error(value: float, error: float, sign: bool = False) -> str:
  """A number and its standard error, if that is known."""
  known = f"{_BOUND}±{_BOUND}{decimals(error)}" if math.isfinite(error) else ""
  return decimals(value, sign=sign) + known


def block_color(option: int, options: int) -> str:
  """Colour of a block type on every page; black text is readable on it."""
  # Neighbouring hues look alike, so successive types are far apart on the circle.
  step = next(s for s in range(max(options // 3, 1), options + 1) if math.gcd(s, options) == 1)
  hue = (0.58 + (option - 1) * step / options) % 1
  red, green, blue = (round(255 * part) for part in colorsys.hls_to_rgb(hue, 0.75, 0.62))
  return f"#{red:02x}{green:02x}{blue:02x}"


def block(space: SearchSpace, option: int) -> Markup:
  """A block by its name, in its colour."""
  color = block_color(option, len(space.options))
  return element(
    "span", space.options[option - 1].name, class_="block", style=f"background:{color}"
  )


def network(space: SearchSpace, architecture: Sequence[int]) -> Markup:
  """The blocks of a network in one line, stage by stage."""
  canonical = space.canonical(np.array(space.check(architecture)))
  stages = [
    join([block(space, int(o)) for o in canonical[where] if o] or ["none"], " ")
    for where in space.stage_slices
  ]
  return element("span", join(stages, " | "), class_="network")
