"""Damaged and random inputs: taken, or refused in one line, at once; never a traceback."""

import datetime
import functools
import json

from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from nas_submod import resources
from nas_submod.evaluation import rows
from nas_submod.evaluation.evaluator import Evaluation
from nas_submod.evaluation.journal import Journal
from nas_submod.fields import check_config
from nas_submod.networks import architectures, spaces
from nas_submod.networks.parts import parts
from nas_submod.search import make_setup
from tests import tiny_config

SPACE = spaces.from_config(tiny_config.get_config().space)
AT_ONCE = datetime.timedelta(seconds=20)
few = settings(max_examples=8, deadline=AT_ONCE, derandomize=True, database=None)
many = settings(max_examples=60, deadline=AT_ONCE, derandomize=True, database=None)


def taken_or_refused(take):
  """Whether an input is taken; if not, the error must be one line."""
  try:
    take()
  except ValueError as error:
    said = str(error)
    assert said and "\n" not in said and len(said) < 1_000, said
    return False
  return True


def leaves(section, name=""):
  """The dotted names of all fields, sections too."""
  for key, value in section.items():
    yield f"{name}{key}"
    if isinstance(value, dict):
      yield from leaves(value, f"{name}{key}.")


PLAIN = tiny_config.get_config().to_dict()
FIELDS = sorted(set(leaves(PLAIN)))
NUMBERS = st.integers() | st.floats() | st.sampled_from([0, 1, -1, 2, 2**31 - 1, 2**31, 10**30])
TEXTS = st.text(max_size=8) | st.sampled_from(["", " ", "e2", ". | e2", "a:b", "npz:", "joint"])
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
VALUES = st.recursive(
  SCALARS,
  lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=2),
  max_leaves=4,
)

STAGES = st.lists(st.lists(NUMBERS | st.booleans(), min_size=1, max_size=4), max_size=3)


def changed(name, value):
  """The tiny config with another value in one field."""
  config = json.loads(json.dumps(PLAIN))
  *sections, field = name.split(".")
  functools.reduce(lambda section, part: section[part], sections, config)[field] = value
  return config


HARMLESS = [name for name in FIELDS if name != "data.data_dir"]  # It is made.
A_CHANGE = st.tuples(st.sampled_from(HARMLESS), VALUES)
A_CHANGE |= st.tuples(st.just("space.stages"), STAGES)


@many
@given(A_CHANGE)
def test_any_value_of_a_config_is_checked(change):
  taken_or_refused(lambda: check_config(changed(*change), ("seed", "space", "data")))


@few
@given(A_CHANGE)
def test_any_value_of_a_config_makes_a_search_or_none(change):
  taken_or_refused(lambda: make_setup(ConfigDict(changed(*change))))


@st.composite
def damaged(draw, content):
  """Content with a part that is lost, doubled, replaced, or written by another program."""
  begin = draw(st.integers(0, len(content)))
  end = draw(st.integers(begin, min(begin + 12, len(content))))
  part = content[begin:end]
  middle = draw(st.sampled_from([b"", part * 2, b"\0", b"\r\n", b"\n", b'"', b"1e999", b"\xff"]))
  middle = draw(st.just(middle) | st.binary(max_size=5))
  whole = content[:begin] + middle + content[end:]
  kind = draw(st.sampled_from(["", "crlf", "bom", "torn", "zeros"]))
  return {
    "": whole,
    "crlf": whole.replace(b"\n", b"\r\n"),
    "bom": b"\xef\xbb\xbf" + whole,
    "torn": whole[: -len(part) - 1],
    "zeros": whole + bytes(40),
  }[kind]


JOURNAL = b"".join(
  json.dumps(rows.content(evaluation, "a1")).encode() + b"\n"
  for evaluation in (
    Evaluation("0.0|1.0", 0, {"loss": 1.5, "accuracy": 0.5}, 0.25, 12),
    Evaluation("0.0|1.1", 1, None, 0.25, 12, cause="diverged"),
  )
)
TABLE = "\n".join(["part,milliseconds", *(f"{p.name},0.5" for p in parts(SPACE)), ""]).encode()


def test_the_journal_that_is_damaged_here_is_whole(tmp_path):
  (tmp_path / "whole.jsonl").write_bytes(JOURNAL)
  assert len(Journal(tmp_path / "whole.jsonl", "a1", lambda e: SPACE.from_key(e.key))) == 2


@many
@given(damaged(JOURNAL))
def test_a_damaged_journal(tmp_path_factory, content):
  path = tmp_path_factory.getbasetemp() / "fuzz.jsonl"
  path.write_bytes(content)
  taken_or_refused(lambda: Journal(path, "a1", lambda e: SPACE.from_key(e.key)))
  assert path.read_bytes() == content


@many
@given(damaged(TABLE))
def test_a_damaged_table_of_latencies(tmp_path_factory, content):
  path = tmp_path_factory.getbasetemp() / "fuzz.csv"
  path.write_bytes(content)
  taken_or_refused(lambda: resources.from_config({"latency": str(path)})["latency_ms"].table(SPACE))


@many
@given(damaged(b'{"architecture": [0, 1, 2, 0]}') | st.text(max_size=12).map(str.encode))
def test_a_damaged_architecture(tmp_path_factory, content):
  path = tmp_path_factory.getbasetemp() / "fuzz.json"
  path.write_bytes(content)
  taken_or_refused(lambda: architectures.read(SPACE, str(path)))
  taken_or_refused(lambda: architectures.read(SPACE, content.decode(errors="replace")))
