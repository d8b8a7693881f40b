"""A stand-in for gcloud: refuses what the real one would, and writes down each call.

Commands, flags and the number of arguments are those of cloud.google.com/sdk/gcloud/reference, read
in November 2026. Calls go to the file of GCLOUD_LOG, one a line. The bucket gs://bucket is the
folder of GCLOUD_BUCKET; without it, nothing is kept there. A copy that ends in a folder with the
file "full" fails before its last file. Nothing can be printed from a folder with the file
"unreadable".
"""

import os
import pathlib
import shutil
import sys

_SSH = (
  "dry-run force-key-file-overwrite internal-ip plain ssh-key-file strict-host-key-checking worker "
  "zone ssh-key-expiration ssh-key-expire-after"
)
# By command: its flags, and the least and the largest number of its arguments.
COMMANDS = {
  "compute tpus tpu-vm create": (
    "accelerator-type async data-disk description internal-ips "
    "labels metadata metadata-from-file network preemptible range reserved "
    "scopes service-account shielded-secure-boot spot subnetwork tags topology type version zone",
    (1, 1),
  ),
  "compute tpus tpu-vm ssh": (_SSH + " command output-directory ssh-flag", (1, 1)),
  "compute tpus tpu-vm scp": (_SSH + " compress recurse scp-flag", (2, 100)),
  "compute tpus tpu-vm delete": ("async zone", (1, 1)),
  "storage rsync": (
    "checksums-only continue-on-error delete-unmatched-destination-objects dry-run exclude "
    "no-clobber preserve-posix recursive skip-if-dest-has-newer-mtime skip-unsupported",
    (2, 2),
  ),
  "storage cat": ("display-url range", (1, 100)),
  "storage cp": ("continue-on-error no-clobber recursive", (2, 100)),
  "storage ls": ("all-versions buckets full json long recursive readable-sizes", (0, 100)),
}
_EVERYWHERE = "account configuration format help project quiet verbosity"
_REQUIRED = {"compute tpus tpu-vm create": {"zone", "version"}}


def fault(words: list[str]) -> str | None:
  """What gcloud would say against a call; None if it would take it."""
  line = " ".join(words)
  name = next((name for name in COMMANDS if f"{line} ".startswith(f"{name} ")), None)
  if name is None:
    return f"Invalid choice: {line!r}"
  flags, (least, most) = COMMANDS[name]
  rest = words[len(name.split()) :]
  given = {word[2:].partition("=")[0] for word in rest if word.startswith("--")}
  if unknown := given - {*flags.split(), *_EVERYWHERE.split()}:
    return f"unrecognized arguments: {', '.join(sorted(unknown))}"
  if missing := _REQUIRED.get(name, set()) - given:
    return f"missing: {', '.join(sorted(missing))}"
  arguments = [word for word in rest if not word.startswith("--")]
  if not least <= len(arguments) <= most:
    return f"{len(arguments)} arguments: {' '.join(arguments)}"
  return None


def _place(path: str) -> pathlib.Path:
  return pathlib.Path(path.replace("gs://bucket", os.environ.get("GCLOUD_BUCKET", "/nonexistent")))


def copy(source: pathlib.Path, target: pathlib.Path) -> None:
  """Makes a folder equal to another one, file by file."""
  names = [path.relative_to(source) for path in sorted(source.rglob("*")) if path.is_file()]
  for number, name in enumerate(names):
    if number == len(names) - 1 and (target / "full").exists():
      sys.exit("ERROR: the host went away")
    (target / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source / name, target / name)
  for path in target.rglob("*"):
    if path.is_file() and path.relative_to(target) not in names:
      path.unlink()


def act(words: list[str]) -> None:
  """Does what a call for the bucket does."""
  what, *paths = [word for word in words if not word.startswith("--")]
  first = _place(paths[0])
  if what in ("rsync", "ls") and not first.is_dir():
    sys.exit("ERROR: matched no objects")
  if what == "rsync":
    copy(first, _place(paths[1]))
  elif what == "cp":
    content = sys.stdin.read() if paths[0] == "-" else first.read_text(encoding="utf-8")
    _place(paths[1]).write_text(content)
  elif what == "cat":
    if not first.exists() or (first.parent / "unreadable").exists():
      sys.exit("ERROR: matched no objects")
    print(first.read_text(), end="")
  elif what == "ls":
    for path in sorted(first.iterdir()):
      print(f"{paths[0].rstrip('/')}/{path.name}{'/' * path.is_dir()}")


if __name__ == "__main__":
  if found := fault(sys.argv[1:]):
    sys.exit(f"ERROR: (gcloud) {found}")
  with open(os.environ["GCLOUD_LOG"], "a", encoding="utf-8") as log:
    log.write(" ".join(["gcloud", *sys.argv[1:]]).replace("\n", " ") + "\n")
  if sys.argv[1] == "storage":
    act(sys.argv[2:])
