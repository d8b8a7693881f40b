"""The example runs, and so does the documentation: Python, commands, flags, names and links."""

import ast
import functools
import importlib.util
import io
import pathlib
import re
import runpy
import shlex
import tokenize

import pytest

from nas_submod.data import sources
from nas_submod.optimizers import catalog

ROOT = pathlib.Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "new_optimizer.py"
DOCUMENTS = {
  str(path.relative_to(ROOT)): re.sub("<!--.*?-->", "", path.read_text(), flags=re.S)
  for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md")))
}
FENCE = re.compile("```([a-z]*)\n(.*?)```", re.S)
WITH_PYTHON = [name for name, text in DOCUMENTS.items() if "```python\n" in text]
every_document = pytest.mark.parametrize("name", DOCUMENTS)


def blocks(name, language):
  return [body for found, body in FENCE.findall(DOCUMENTS[name]) if found == language]


def inline(name):
  """The code spans of the text, each on one line."""
  spans = re.findall("`([^`]+)`", FENCE.sub("", DOCUMENTS[name]))
  return [" ".join(span.split()) for span in spans]


def commands(name):
  """`(module, arguments)` of every `python -m module arguments`."""
  shell = "\n".join(blocks(name, "sh")).replace("\\\n", " ").splitlines()
  for line in shell + inline(name):
    for command in re.split("&&|;", line):
      words = shlex.split(command, comments=True) if "python" in command else []
      if "-m" in words and re.search(r"(^|/)python3?$", words[words.index("-m") - 1]):
        module, *arguments = words[words.index("-m") + 1 :]
        yield module, arguments


@functools.cache
def flags_of(module):
  """Names of the absl flags that a module and the modules of this checkout it imports define."""
  path = ROOT / f"{module.replace('.', '/')}.py"
  if not path.is_file() or module.split(".")[0] not in ("experiments", "benchmarks"):
    return frozenset()
  names = set()
  for node in ast.walk(ast.parse(path.read_text())):
    match node:
      case ast.Call(func=ast.Attribute(attr=kind), args=[ast.Constant(flag), *_]):
        if kind.startswith("DEFINE_"):
          names |= {flag, f"no{flag}"} if kind == "DEFINE_bool" else {flag}
      case ast.ImportFrom(module=str(package), names=imported):
        for name in (package, *(f"{package}.{alias.name}" for alias in imported)):
          names |= flags_of(name)
  return frozenset(names)


@functools.cache
def config_of(flag):
  path, _, mode = flag.partition(":")
  return runpy.run_path(str(ROOT / path))["get_config"](*[mode] * bool(mode))


def has_field(config, dotted):
  for part in dotted.split("."):
    if part not in config:
      return False
    config = config[part]
  return True


def test_the_example_is_as_short_as_the_documentation_says_and_runs_beside_others(capsys):
  """The list of tests/optimizers/conformance.py checks that it is a good optimizer."""
  assert len(EXAMPLE.read_text().splitlines()) <= 60
  runpy.run_path(str(EXAMPLE), run_name="__main__")
  rows = [line.split() for line in capsys.readouterr().out.splitlines()]
  values = {row[0]: float(row[1]) for row in rows}
  assert list(values) == ["annealing", "random", "rcas"]
  assert 0.95 * values["rcas"] < values["annealing"]


@pytest.mark.parametrize(
  "name",
  [
    # Its blocks train networks.
    pytest.param(name, marks=pytest.mark.slow if name == "docs/searching.md" else ())
    for name in WITH_PYTHON
  ],
)
def test_python_prints_what_the_comments_say(name, capsys, tmp_path, monkeypatch):
  """Runs the blocks of a document in order; the comment behind a print is what it prints."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sources, "KINDS", dict(sources.KINDS))  # A document adds one.
  namespace, checked = {}, 0
  for code in blocks(name, "python"):
    tokens = tokenize.generate_tokens(io.StringIO(code).readline)
    comments = {t.start[0]: t.string[2:] for t in tokens if t.type == tokenize.COMMENT}
    for statement in ast.parse(code).body:
      exec(compile(ast.Module([statement], []), name, "exec"), namespace)
      printed = capsys.readouterr().out
      if printed:
        assert printed == f"{comments[statement.end_lineno]}\n"
        checked += 1
  assert checked


@every_document
def test_commands_exist_and_take_their_flags(name):
  for module, arguments in commands(name):
    assert importlib.util.find_spec(module), f"there is no module {module}"
    if module.split(".")[0] not in ("experiments", "benchmarks"):
      continue
    given = [word[2:].partition("=") for word in arguments if word.startswith("--")]
    config = next((value for flag, _, value in given if flag == "config"), "configs/digits.py")
    for flag, *_ in given:
      if flag.startswith("config."):
        assert has_field(config_of(config), flag[7:]), f"{config} has no field {flag}"
      else:
        assert flag in flags_of(module), f"{module} has no flag --{flag}"


@every_document
def test_flags_and_config_fields_in_the_text_exist(name):
  files = [*ROOT.glob("experiments/*.py"), *ROOT.glob("benchmarks/*.py")]
  known = frozenset().union(*(flags_of(f"{path.parent.name}.{path.stem}") for path in files))
  fields = []
  for span in inline(name):
    words = span.split() if span.startswith("--") else []
    flags = [re.match(r"--([\w.]+)", word)[1] for word in words if word.startswith("--")]
    fields += [flag for flag in flags if flag.startswith("config.")]
    unknown = {flag for flag in flags if not flag.startswith("config.")} - known
    assert not unknown, f"no command has the flags {unknown}"
    fields += re.findall(r"^config\.[a-z_.]*[a-z_]", span)
  for field in set(fields) - {"config.json"}:
    assert has_field(config_of("configs/digits.py"), field[7:]), f"no config has {field}"


@every_document
def test_files_and_links_exist(name):
  text = DOCUMENTS[name]
  folders = "nas_submod|configs|experiments|benchmarks|examples|docs|tests"
  for path in re.findall(rf"(?<![\w/.~-])((?:{folders})/[\w./*-]*\w)", text):
    assert list(ROOT.glob(path)), f"there is no {path}"
  for link in re.findall(r"\]\(([^)]+)\)", text):
    if link.startswith("https://"):
      continue
    path, _, anchor = link.partition("#")
    target = (ROOT / name).parent / path if path else ROOT / name
    assert target.is_file(), f"the link {link} leads nowhere"
    if not anchor:
      continue
    headings = re.findall("^#+ (.*)", FENCE.sub("", target.read_text()), re.M)
    slugs = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
    assert anchor in slugs, f"{path or name} has no heading {anchor}"


@every_document
def test_dotted_names_exist(name):
  for span in inline(name):
    if match := re.match(r"@?(?:ns|nas_submod)((?:\.\w+)+)", span):
      found = importlib.import_module("nas_submod")
      for part in match[1][1:].split("."):
        if not hasattr(found, part):
          importlib.import_module(f"{found.__name__}.{part}")
        found = getattr(found, part)


def test_the_optimizers_of_a_config_are_those_of_the_catalog():
  table = DOCUMENTS["docs/searching.md"].split("| `config.search.optimizer` |")[1].split("\n\n")[0]
  first_column = "".join(row.split("|")[1] for row in table.splitlines()[2:])
  assert set(re.findall("`([a-z_]+)`", first_column)) == set(catalog.CATALOG)


def test_the_layout_names_every_package():
  packages = {f"`nas_submod/{path.parent.name}/`" for path in ROOT.glob("nas_submod/*/__init__.py")}
  assert packages <= set(re.findall("`[^`]*`", DOCUMENTS["README.md"].split("## Layout")[1]))
