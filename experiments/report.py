"""Writes the report of finished searches again, compares searches, and draws their figures.

python -m experiments.report runs/digits
python -m experiments.report runs/rcas runs/random_search --output=runs/comparison
python -m experiments.report runs/front  # of a search with --pareto

Each folder gets its report.html, and figures/ with every figure as SVG and PNG. Several folders
also get a page that compares them, in --output, and each report.html says which others it beats.
If a folder cannot be written, its files go to a folder of the same name in --output.
"""

import os
import pathlib
from collections.abc import Sequence

from absl import flags, logging

from experiments import common
from nas_submod import files
from nas_submod.report import comparison, figure, finished, front, page, steps

OUTPUT = flags.DEFINE_string("output", "runs/comparison", "Folder of a comparison.")


def main(argv: Sequence[str]) -> None:
  """Writes pages and figures."""
  logging.set_verbosity(logging.WARNING)
  given = [*filter(None, [common.WORKDIR.value]), *argv[1:]]
  folders = list({os.path.realpath(folder): folder for folder in given}.values())
  if not folders:
    common.fail("no folder is given; allowed: the --workdir of one or more searches")
  try:
    if len(folders) == 1 and (files.local_path(folders[0]) / front.FILE).exists():
      folder = files.local_path(folders[0])
      front.write(folder)
      print(f"{folder}/: {front.PAGE}, {figure.FIGURES}/")
      return None
    output = files.local_path(OUTPUT.value)
    if len(folders) > 1 and any(os.path.realpath(f) == os.path.realpath(output) for f in folders):
      raise ValueError(f"--output={output} is the folder of a search; allowed: another folder")
    searches = [finished.read(folder) for folder in folders]
    if len(searches) > 1:
      comparison.check(searches)
    written: set[pathlib.Path] = set()
    for search in searches:
      for note in search.notes:
        print(f"{search.name}: {note}")
      folder = files.local_path(search.name)
      if not os.access(folder, os.W_OK):
        print(f"{folder} cannot be written")
        name = folder.absolute().name
        folder = output / name
        while folder in written:  # Another folder has this name.
          folder = folder.with_name(f"{folder.name}_{name}")
        folder.mkdir(parents=True, exist_ok=True)
      written.add(folder)
      others = [other for other in searches if other is not search]
      page.write_page(search, folder / page.PAGE_FILE, others)
      figure.save_all(page.all_plots(search, steps.chains(search)), folder)
      print(f"{folder}/: {page.PAGE_FILE}, {figure.FIGURES}/")
    if len(searches) > 1:
      output.mkdir(parents=True, exist_ok=True)
      files.write_bytes(output / page.PAGE_FILE, comparison.page(searches, output).encode())
      figure.save_all(comparison.all_plots(searches), output)
      print(f"{output}/: {page.PAGE_FILE}, {figure.FIGURES}/")
  except ValueError as error:
    common.fail(error)


if __name__ == "__main__":
  common.run_without_config(main)
