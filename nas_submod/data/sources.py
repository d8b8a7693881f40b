"""The table of data sources. A new one needs a file with its opener, and a line in `KINDS`."""

from collections.abc import Callable
from typing import NamedTuple

from nas_submod.data import fake, folders, npz, tfds_sets
from nas_submod.data.source import Source
from nas_submod.files import local_path
from nas_submod.validation import did_you_mean


class Kind(NamedTuple):
  """A kind of data source.

  Attributes:
    open: Maps the path and `config.data.data_dir` to `(train, test)`. The path is "" for a kind
      without one. `test` is None if the source has no test images.
    help: How a config names it, such as "npz:PATH", for error messages. A path is required if this
      ends in ":PATH", and refused otherwise. "" keeps the kind out of the messages.
  """

  open: Callable[[str, str | None], tuple[Source, Source | None]]
  help: str


# How a path begins that is no name of a TFDS set.
_PATHS = ("/", "./", "../", "~")
# Keys are the part of `config.data.source` before ":". All other names are sets of TFDS.
KINDS = {
  "npz": Kind(npz.open_source, "npz:PATH"),
  "folder": Kind(folders.open_source, "folder:PATH"),
  "fake": Kind(fake.open_source, ""),
}


def find(source: str, data_dir: str | None) -> tuple[Source, Source | None]:
  """Opens a data source.

  Args:
    source: A name or "KIND:PATH" of `KINDS`, the path of an npz file, the path of a folder that
      begins with "/", "./", "../" or "~", or the name of a TFDS set, such as "digits".
    data_dir: Folder of TFDS sets. None: the default of TFDS.

  Returns:
    `(train, test)`. `test` is None if the source has no test images.

  Raises:
    ValueError: There is no such source, or it holds no labelled images.
  """
  if "://" in source:
    raise ValueError(f'source "{source}" is not on this machine: copy the images to its disk')
  name, _, path = source.partition(":")
  is_folder = local_path(source).is_dir()
  is_bare_path = not path or local_path(source).exists()
  is_npz = source.lower().endswith(".npz") and not is_folder
  if name not in KINDS and source.startswith(_PATHS) and not is_npz:
    name, path = "folder", source
  elif name not in KINDS and is_bare_path and is_npz:
    name, path = "npz", source
  if name not in KINDS:
    try:
      return tfds_sets.open_source(source, data_dir)
    except tfds_sets.UnknownSetError as error:
      kinds = [kind for kind in KINDS if KINDS[kind].help]
      hint = did_you_mean(name.lower(), ["digits", *kinds, *tfds_sets.names()])
      if is_folder:
        hint = f"; did you mean folder:{source}?"
      raise ValueError(f"{error}; allowed are {_allowed()}{hint}") from error
  kind = KINDS[name]
  takes_path = kind.help.endswith(":PATH")
  if bool(path) != takes_path:
    problem = "has no path" if takes_path else "takes no path"
    raise ValueError(f'source "{source}" {problem}: allowed are {_allowed()}')
  try:
    return kind.open(path, data_dir)
  except OSError as error:
    raise ValueError(f'source "{source}" cannot be read: {error}') from error


def _allowed() -> str:
  shown = [f'"{kind.help}"' for kind in KINDS.values() if kind.help]
  names = ['"digits"', 'the name of a TFDS set such as "fashion_mnist"', *shown]
  return f"{', '.join(names[:-1])} or {names[-1]}"
