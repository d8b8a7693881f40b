#!/usr/bin/env bash
# Copies prepared data sets from BUCKET/data to the folder data of every host.
# Usage: experiments/tpu/data.sh [--dry_run]
source "$(dirname "$0")/settings.sh"
takes 0 "$@"
: "${BUCKET:?set it to gs://NAME, a bucket with prepared data sets in its folder data}"
on all "cd nas_submod && mkdir -p data && gcloud storage rsync --recursive $BUCKET/data data"
