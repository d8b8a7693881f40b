#!/usr/bin/env bash
# Starts or continues a search or a training on every host.
# Usage: experiments/tpu/launch.sh [--dry_run] search|train RUN FLAGS_OF_THE_COMMAND...
source "$(dirname "$0")/settings.sh"
usage="search or train, name of the run, then the flags of experiments.search or experiments.train"
command="${1:?$usage}" name="${2:?$usage}"
if [[ "$command" != search && "$command" != train ]]; then
  echo "error: unknown command \"$command\"; allowed: $usage" >&2
  exit 2
fi
check_name "$name"
shift 2
host=experiments/tpu/host.sh
started=".venv/bin/python -m experiments.$command --distributed --workdir=runs/$name"
for flag in "$@"; do
  if [[ "$flag" =~ ^--?(workdir|(no)?distributed) ]]; then
    echo "error: $flag; this script sets the folder, runs/RUN, and --distributed" >&2
    exit 2
  fi
  started+=" $(printf '%q' "$flag")"
done
if [[ -n "$BUCKET" ]]; then
  on 0 "cd nas_submod && $host restore $name $BUCKET" # Process 0, which writes, is on worker 0.
fi
on all "cd nas_submod && (COPY_EVERY=$COPY_EVERY nohup $host run $name '$BUCKET' $started < /dev/null >> $name.log 2>&1 &)"
