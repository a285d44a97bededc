#!/usr/bin/env bash
# Starts Airflow on the instance. The image is built only when the code has changed: a build asks registry and package
# index, and a marker that wakes the instance must not depend on them. Where a build fails, the image that is here starts.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

image=moving-big-data-airflow
built=$PWD.built # next to the folder, which the next upload replaces
bases=$PWD.bases # the digests of the base images at the first build; the same ones are used from then on
version=$(cat .version)
is_new= # whether this start has built the image

pin() { # pin VARIABLE IMAGE: export VARIABLE as IMAGE by the digest that it had here at first
  local digest
  grep -q "^$1=$2@" "$bases" 2>/dev/null || {
    docker image inspect "$2" >/dev/null 2>&1 || docker pull --quiet "$2" >/dev/null || return 0
    digest=$(docker image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$2" | grep -m 1 @sha256:) || return 0
    { grep -v "^$1=" "$bases" 2>/dev/null || true; echo "$1=$2@${digest#*@}"; } >"$bases.new"
    mv "$bases.new" "$bases"
  }
  export "$(grep "^$1=" "$bases")"
}

base=$(sed -n 's/^ARG AIRFLOW_IMAGE=//p' airflow/Dockerfile)
pin AIRFLOW_IMAGE "${base%%@*}"
if [ "$version" != "$(cat "$built" 2>/dev/null)" ] || ! docker image inspect "$image" >/dev/null 2>&1; then
  if docker compose build --quiet; then
    echo "$version" >"$built"
    is_new=1
    echo "built $image from $version"
  elif docker image inspect "$image" >/dev/null 2>&1; then
    echo "the build of $version failed; starting the image of $(cat "$built" 2>/dev/null || echo an earlier version)"
  else
    echo "the build failed, and there is no image of an earlier one. This is tried again in a minute." >&2
    exit 1
  fi
fi
docker compose up --detach --no-build --wait
if [ -n "$is_new" ]; then # nothing runs the image before it any more; what this build took from the cache is kept
  { docker image prune --force && docker builder prune --force --filter until=24h; } >/dev/null ||
    echo "images and build cache that nothing uses could not be removed; the next build tries it again"
fi
