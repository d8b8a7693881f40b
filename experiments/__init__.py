"""Command lines: search, train, export, sweep and others."""

import sys
import types


def _excepthook(
  kind: type[BaseException], error: BaseException, trace: types.TracebackType | None
) -> None:
  """Reports an error that ends the command; Ctrl-C is not one."""
  if issubclass(kind, KeyboardInterrupt):
    print("stopped", file=sys.stderr)
  else:
    sys.__excepthook__(kind, error, trace)


if sys.argv[:1] == ["-m"]:  # While Python imports the package of `python -m experiments.search`.
  sys.excepthook = _excepthook
