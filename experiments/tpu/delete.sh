#!/usr/bin/env bash
# Deletes the TPU and its disks. Usage: experiments/tpu/delete.sh [--dry_run]
source "$(dirname "$0")/settings.sh"
takes 0 "$@"
run gcloud compute tpus tpu-vm delete "$TPU_NAME" --zone="$ZONE" --quiet
