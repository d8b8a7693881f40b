# Settings and functions of the other scripts. --dry_run, at any place, only prints the commands.
set -euo pipefail
: "${TPU_NAME=nas-submod}"
: "${ZONE=us-west4-a}"
if [[ -z "$TPU_NAME" || -z "$ZONE" ]]; then
  echo "error: TPU_NAME or ZONE is empty; allowed: a name, or unset for the default" >&2
  exit 2
fi
: "${ACCELERATOR_TYPE:=v5litepod-16}" # four hosts; v5litepod-8 is one host
: "${RUNTIME_VERSION:=v2-alpha-tpuv5-lite}"
: "${COPY_EVERY:=300}" # seconds between copies to the bucket
: "${BUCKET:=}" # gs://NAME keeps runs when the TPU is preempted
BUCKET="${BUCKET%/}"
if [[ ! "$BUCKET" =~ ^(gs://[a-z0-9][a-z0-9._-]*)?$ ]]; then
  echo "error: BUCKET=$BUCKET; allowed: gs://NAME, without a folder" >&2
  exit 2
fi
if [[ ! "$COPY_EVERY" =~ ^[1-9][0-9]*$ ]]; then
  echo "error: COPY_EVERY=$COPY_EVERY; allowed: whole seconds from 1" >&2
  exit 2
fi

dry_run=false
arguments=()
for argument in "$@"; do
  case "$argument" in
    --dry_run) dry_run=true ;;
    --dry_run=*)
      echo "error: $argument; allowed: --dry_run" >&2
      exit 2
      ;;
    --help) grep "^#" "$0" | tail -n +2 && exit ;;
    *) arguments+=("$argument") ;;
  esac
done
set -- ${arguments[@]+"${arguments[@]}"}

run() {
  if "$dry_run"; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

# on WORKER COMMAND: runs a command on one worker or, as "all", on every one.
on() {
  run gcloud compute tpus tpu-vm ssh "$TPU_NAME" --zone="$ZONE" --worker="$1" --command="$2"
}

# takes COUNT ARGUMENTS...: ends the script if there are more arguments.
takes() {
  if (($# - 1 > $1)); then
    echo "error: unknown argument \"${*: -1}\"; --help shows the usage" >&2
    exit 2
  fi
}

# check_name RUN: ends the script if a run cannot have this name.
check_name() {
  if [[ ! "$1" =~ ^[A-Za-z0-9][A-Za-z0-9._-]*$ || "$1" == data || "$1" == programs ]]; then
    echo "error: a run cannot have the name \"$1\"; allowed: letters, digits, dots, dashes and" \
      "underscores, but not data or programs, which are folders of the bucket" >&2
    exit 2
  fi
}
