#!/usr/bin/env bash
# Starts a training on every host, or goes on with it.
# Usage: experiments/tpu/launch.sh [--dry_run] RUN FLAGS_OF_EXPERIMENTS_TRAIN...
source "$(dirname "$0")/settings.sh"
name="${1:?name of the run, then the flags of experiments.train}"
shift
if [[ -n "$BUCKET" ]]; then
  # Process 0 alone writes, and runs on worker 0.
  on 0 "cd nas_submod && mkdir -p runs/$name \
&& (gcloud storage rsync --recursive $BUCKET/$name runs/$name || true) \
&& (nohup sh -c 'while sleep 300; do gcloud storage rsync --recursive runs/$name $BUCKET/$name; done' \
> sync.log 2>&1 &)"
fi
on all "cd nas_submod && (nohup .venv/bin/python -m experiments.train --distributed \
--workdir=runs/$name$(printf ' %q' "$@") > $name.log 2>&1 &)"
