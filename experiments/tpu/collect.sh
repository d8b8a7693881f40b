#!/usr/bin/env bash
# Fetches a run into runs/. Usage: experiments/tpu/collect.sh [--dry_run] RUN
source "$(dirname "$0")/settings.sh"
name="${1:?name of the run}"
check_name "$name"
takes 1 "$@"
run mkdir -p runs
run gcloud compute tpus tpu-vm scp --recurse "$TPU_NAME:nas_submod/runs/$name" runs/ \
  --zone="$ZONE" --worker=0
