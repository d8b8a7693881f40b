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
if [[ "$name" == data || "$name" == programs ]]; then
  echo "error: run \"$name\" would share a folder of the bucket; allowed: another name" >&2
  exit 2
fi
shift 2
python=".venv/bin/python -m experiments.$command --distributed --workdir=runs/$name"
for flag in "$@"; do
  python+=" $(printf '%q' "$flag")"
done
if [[ -n "$BUCKET" ]]; then
  # Compiled programs are kept in the bucket, where every host and the next TPU find them.
  python="JAX_COMPILATION_CACHE_DIR=$BUCKET/programs $python"
  # Only process 0 writes, and it runs on worker 0. A run on its disk is newer than the bucket's.
  keep="gcloud storage rsync --recursive runs/$name $BUCKET/$name"
  part="runs/$name.part"
  on 0 "cd nas_submod && (kill \$(cat $name.sync) 2> /dev/null || true) \
&& kept=\$(gcloud storage ls $BUCKET) \
&& if test ! -d runs/$name && echo \"\$kept\" | grep -qx $BUCKET/$name/; then \
rm -rf $part && mkdir -p $part && gcloud storage rsync --recursive $BUCKET/$name $part \
&& mv $part runs/$name; fi \
&& (nohup sh -c 'echo \$\$ > $name.sync; while sleep 300; do $keep; done' > sync.log 2>&1 &)"
  # The trap keeps the shell alive on SIGTERM, to copy the last checkpoint before the host goes.
  python="trap : TERM; $python; test ! -d runs/$name || $keep"
fi
on all "cd nas_submod && (nohup sh -c $(printf '%q' "$python") > $name.log 2>&1 &)"
