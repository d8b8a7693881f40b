"""The frame of a report page: one file without scripts, light or dark, wide or narrow."""

from nas_submod.report.figure import THEME, Plot, inline
from nas_submod.report.markup import Markup, element, escape, join, table

_VARIABLES = [
  ";".join(f"--{name}:{colors[dark]}" for name, colors in THEME.items()) for dark in (False, True)
]
_CSS = f"""
:root{{color-scheme:light dark;{_VARIABLES[0]}}}
@media(prefers-color-scheme:dark){{:root{{{_VARIABLES[1]}}}}}
*{{box-sizing:border-box}}
body{{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--surface);
 max-width:70rem;margin:0 auto;padding:1rem 1rem 3rem;overflow-wrap:anywhere}}
h1{{font-size:1.6rem;margin:.5rem 0 0}}h2{{font-size:1.25rem;margin:2.5rem 0 .5rem;
 border-top:1px solid var(--rule);padding-top:1rem}}h3{{font-size:1rem;margin:1.2rem 0 .3rem}}
a{{color:var(--line0)}}
p{{margin:.4rem 0;max-width:46rem}}.soft,figcaption{{color:var(--soft);font-size:.9rem}}
.first{{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,21rem),1fr));
 gap:1rem 3rem;align-items:start}}
.value{{font-size:2rem;font-weight:600;line-height:1.2;margin:1rem 0 0}}
figure{{margin:.5rem 0}}figure svg{{display:block;max-width:100%;height:auto}}
.plots{{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,20rem),1fr));gap:1rem;
 align-items:start}}.plots svg{{width:100%;max-width:30rem}}.first svg{{width:100%;max-width:26rem}}
.wide svg{{max-width:none}}
.scroll{{overflow-x:auto;max-width:100%}}
table{{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums;
 overflow-wrap:normal}}
th,td{{text-align:left;padding:.25rem 1rem .25rem 0;border-bottom:1px solid var(--rule);
 vertical-align:top;font-weight:400;white-space:nowrap}}
.words td,.words th,.budgets td{{white-space:normal}}
.network{{display:inline-block;min-width:15rem;white-space:normal}}thead th{{color:var(--soft)}}
.budgets{{width:100%}}.bar{{background:var(--rule);height:.6rem;border-radius:.3rem;overflow:hidden;
 margin-top:.2rem;min-width:7rem}}.bar span{{display:block;height:100%;background:var(--line0)}}
.bar.binds span{{background:var(--line1)}}
.verdicts{{list-style:none;padding:0;margin:1rem 0}}.verdicts li{{margin:.4rem 0;padding-left:.7rem;
 border-left:4px solid var(--rule)}}.verdicts .good{{border-color:var(--line2)}}
.verdicts .open{{border-color:var(--line1)}}
.block{{color:#000;border-radius:.25rem;padding:0 .35rem;white-space:nowrap}}
pre{{background:var(--panel);padding:.7rem;overflow-x:auto;font-size:.85rem;white-space:pre-wrap}}
summary{{cursor:pointer;color:var(--soft);margin:.5rem 0}}
.spoken{{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}}
@media(max-width:30rem){{th,td{{padding-right:.6rem}}}}
"""


def document(title: str, body: Markup) -> str:
  """A whole page; it loads nothing and runs nothing."""
  policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
  return (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    '<meta name="viewport" content="width=device-width,initial-scale=1">'
    f"<title>{escape(title)}</title><style>{_CSS}</style></head>"
    f"<body><main>{body}</main></body></html>\n"
  )


def section(title: str, *parts: Markup) -> Markup:
  """A part of a page with its heading."""
  return element("section", join([element("h2", title), *parts]))


def figure(plot: Plot, wide: bool = False) -> Markup:
  """A figure with its caption; a wide one keeps its size and scrolls."""
  drawn = Markup(inline(plot))
  if wide:
    drawn = element(
      "div", drawn, class_="scroll wide", tabindex=0, role="region", aria_label=plot.title
    )
  return element("figure", join([drawn, element("figcaption", plot.caption)]))


def plot_table(plot: Plot) -> Markup:
  """The numbers of a figure as a folded table; nothing if the page has them elsewhere."""
  if not plot.columns:
    return Markup()
  shown = table(plot.columns, plot.rows, plot.title)
  return element("details", join([element("summary", "The numbers"), shown]))
