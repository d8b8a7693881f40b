#!/usr/bin/env bash
# Copies the committed files to every host and installs them. Usage: experiments/tpu/install.sh [--dry_run]
source "$(dirname "$0")/settings.sh"
takes 0 "$@"
archive="$(mktemp -d)/nas_submod.tar.gz"
trap 'rm -rf "$(dirname "$archive")"' EXIT
run git -C "$(dirname "$0")/../.." archive --format=tar.gz --output="$archive" HEAD
run gcloud compute tpus tpu-vm scp "$archive" "$TPU_NAME:" --zone="$ZONE" --worker=all
# The images of Cloud TPU have Python 3.10; uv brings a newer one.
on all "mkdir -p nas_submod && tar xzf nas_submod.tar.gz -C nas_submod && cd nas_submod \
&& python3 -m pip install --user uv && ~/.local/bin/uv venv --allow-existing --python 3.12 .venv \
&& ~/.local/bin/uv pip install --python .venv/bin/python -e '.[tpu]'"
