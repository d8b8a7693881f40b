#!/usr/bin/env bash
# Creates the TPU. Usage: experiments/tpu/create.sh [--dry_run] [--spot and other gcloud flags]
source "$(dirname "$0")/settings.sh"
run gcloud compute tpus tpu-vm create "$TPU_NAME" --zone="$ZONE" \
  --accelerator-type="$ACCELERATOR_TYPE" --version="$RUNTIME_VERSION" "$@"
