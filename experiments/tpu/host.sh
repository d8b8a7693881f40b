#!/usr/bin/env bash
# Runs on a host of the TPU, in the folder of the project. launch.sh calls it.
# Usage: experiments/tpu/host.sh restore RUN BUCKET
#          fetches the last complete copy of a run, unless the run is on this host, and marks this
#          host as the one that copies it
#        experiments/tpu/host.sh run RUN BUCKET COMMAND...
#          runs a command; copies the run to the bucket every COPY_EVERY seconds and at the end
#
# The host may go in the middle of a copy. So copies take turns in the folders a and b of BUCKET/RUN,
# and the object `complete` names the folder of the last complete copy.
set -u
action="$1" name="$2" bucket="$3"
shift 3
: "${COPY_EVERY:=300}"
run="runs/$name" copies="$bucket/$name"

# Prints the folder of the last complete copy, or nothing. It fails if the bucket cannot be read,
# which must not look like a bucket without the run.
complete() {
  local runs inside
  runs="$(gcloud storage ls "$bucket")" || return 1
  grep -Fqx "$copies/" <<< "$runs" || return 0
  inside="$(gcloud storage ls "$copies/")" || return 1
  grep -Fqx "$copies/complete" <<< "$inside" || return 0
  gcloud storage cat "$copies/complete"
}

restore() {
  local from
  mkdir -p runs && touch "$run.copied" || return 1
  test ! -d "$run" || return 0 # A run on the disk is newer than its copies.
  from="$(complete)" || return 1
  test -n "$from" || return 0
  rm -rf "$run.part" && mkdir -p "$run.part" \
    && gcloud storage rsync --recursive "$copies/$from" "$run.part" \
    && mv "$run.part" "$run"
}

# Only process 0 writes a run, on the host of `restore`. Others may have an old run of this name.
save() (
  test -e "$run.copied" && test -d "$run" || exit 0
  exec 9> "$run.lock" && flock 9 || exit 1 # One copy at a time.
  last="$(complete)" || exit 1
  to=a
  test "$last" != a || to=b
  gcloud storage rsync --recursive --delete-unmatched-destination-objects "$run" "$copies/$to" \
    && gcloud storage cp - "$copies/complete" <<< "$to"
)

case "$action" in
  restore) restore ;;
  run)
    test -n "$bucket" || exec "$@"
    # On SIGTERM the command writes a checkpoint and ends; the trap keeps this shell, to copy it.
    trap : TERM
    # Every host and the next TPU find compiled programs in the bucket.
    export JAX_COMPILATION_CACHE_DIR="$bucket/programs"
    while sleep "$COPY_EVERY"; do save; done &
    copying=$!
    "$@"
    code=$?
    kill "$copying" 2> /dev/null
    save || exit 1
    exit "$code"
    ;;
  *) echo "error: unknown action \"$action\"; allowed: restore, run" >&2 && exit 2 ;;
esac
