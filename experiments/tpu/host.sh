#!/usr/bin/env bash
# Runs on a host of the TPU, in the folder of the project. launch.sh calls it.
# Usage: experiments/tpu/host.sh restore RUN BUCKET
#          fetches the last complete copy of a run, unless the run is on this host, and marks this
#          host as the one that copies it
#        experiments/tpu/host.sh run RUN BUCKET COMMAND...
#          runs a command; copies the run to the bucket every COPY_EVERY seconds and at the end
#
# The host may go in the middle of a copy. So copies take turns in the folders a and b of BUCKET/RUN,
# and the object `complete` names the folder of the last complete copy. A run and its copies hold the
# same `.copy_id`, so that no run replaces the copies of another one of its name.
set -u
action="$1" name="$2" bucket="$3"
shift 3
: "${COPY_EVERY:=300}"
run="runs/$name" marks="runs/.$name" copies="$bucket/$name"
mkdir -p "$marks" || exit 1

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

# is_own COPY: fails if the copy, if any, is not of the run on this host.
is_own() {
  local id
  test -n "$1" || return 0
  id="$(gcloud storage cat "$copies/$1/.copy_id")" || return 1
  test "$id" = "$(cat "$run/.copy_id" 2> /dev/null)" && return 0
  echo "error: $copies holds another run than $run on this host: take another name, or move one" >&2
  return 1
}

restore() {
  local from
  touch "$marks/copied" || return 1
  from="$(complete)" || return 1
  if test -d "$run"; then # It is newer than its copies.
    is_own "$from"
    return
  fi
  test -n "$from" || return 0
  rm -rf "$marks/part" && mkdir "$marks/part" \
    && gcloud storage rsync --recursive "$copies/$from" "$marks/part" \
    && mv "$marks/part" "$run"
}

# Only process 0 writes a run, on the host of `restore`. Others may have an old run of this name.
save() (
  test -e "$marks/copied" && test -d "$run" || exit 0
  exec 9> "$marks/lock" && flock 9 || exit 1 # One copy at a time.
  last="$(complete)" && is_own "$last" || exit 1
  test -e "$run/.copy_id" || echo "$(date +%s)-$(hostname)-$RANDOM" > "$run/.copy_id" || exit 1
  # Files come and go while a run is copied. Links to all of them are made at once.
  for _ in 1 2 3; do
    rm -rf "$marks/snapshot" && cp -al "$run" "$marks/snapshot" && break
    sleep 1
  done
  to=a
  test "$last" != a || to=b
  gcloud storage rsync --recursive --delete-unmatched-destination-objects \
    "$marks/snapshot" "$copies/$to" \
    && gcloud storage cp - "$copies/complete" <<< "$to" \
    && { test ! -e "$name.log" || gcloud storage cp "$name.log" "$copies/log"; }
  code=$?
  rm -rf "$marks/snapshot"
  exit "$code"
)

case "$action" in
  restore) restore ;;
  run)
    # A second run would end the first one, on all hosts.
    exec 8> runs/.running
    if ! flock -n 8; then
      echo "error: a run is active on this host; stop it first" >&2
      exit 1
    fi
    # On SIGTERM the command writes a checkpoint and ends; the trap keeps this shell, to copy it.
    trap : TERM
    if test -n "$bucket"; then
      # Process 0 writes compiled programs there, and the next TPU of this kind finds them.
      export JAX_COMPILATION_CACHE_DIR="$bucket/programs"
      while sleep "$COPY_EVERY"; do save; done 8>&- & # It may outlive the command.
      copying=$!
    fi
    "$@"
    code=$?
    echo "exit code $code, $(date)"
    if test -n "$bucket"; then
      kill "$copying" 2> /dev/null
      save || echo "error: the last copy to $copies failed; the run is on this host" >&2
    fi
    exit "$code"
    ;;
  *) echo "error: unknown action \"$action\"; allowed: restore, run" >&2 && exit 2 ;;
esac
