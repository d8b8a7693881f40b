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
  # The host may go in the middle of a copy. So copies take turns in the folders a and b, and the
  # object `whole` names the one that is whole.
  kept="$BUCKET/$name"
  keep="to=a; test \"\$(gcloud storage cat $kept/whole 2> /dev/null)\" != a || to=b; \
gcloud storage rsync --recursive --delete-unmatched-destination-objects runs/$name $kept/\$to \
&& echo \$to | gcloud storage cp - $kept/whole"
  part="runs/$name.part"
  # A failure to list ends the launch: it must not look like a bucket without the run.
  on 0 "cd nas_submod && (kill \$(cat $name.sync) 2> /dev/null || true) \
&& runs=\$(gcloud storage ls $BUCKET) \
&& if test ! -d runs/$name && echo \"\$runs\" | grep -qx $kept/; then \
inner=\$(gcloud storage ls $kept/) \
&& if echo \"\$inner\" | grep -qx $kept/whole; then \
from=\$(gcloud storage cat $kept/whole) && rm -rf $part && mkdir -p $part \
&& gcloud storage rsync --recursive $kept/\$from $part && mv $part runs/$name; fi; fi \
&& (nohup sh -c 'echo \$\$ > $name.sync; while sleep 300; do $keep; done' > sync.log 2>&1 &)"
  # The trap keeps the shell alive on SIGTERM, to copy the last checkpoint before the host goes.
  python="trap : TERM; $python; test ! -d runs/$name || { $keep; }"
fi
on all "cd nas_submod && (nohup sh -c $(printf '%q' "$python") > $name.log 2>&1 &)"
