#!/usr/bin/env bash
# Starts Airflow, waits until it is healthy, and says where it is and how to log in. With the Celery override in COMPOSE_FILE
# (.env), WORKERS=N up.sh starts N workers.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

docker compose version >/dev/null 2>&1 || {
  echo "This needs Docker with Compose v2, and 'docker compose version' fails. Install Docker Engine and its compose plugin." >&2
  exit 1
}
docker info >/dev/null 2>&1 || {
  echo "No Docker engine answers ('docker info' fails). Start it (systemctl start docker), or set DOCKER_HOST." >&2
  exit 1
}

airflow/make_env.sh

value() { airflow/make_env.sh value "$1"; }

# Receipts and mails say which code made them. What `upload` ships has that in etl/version.txt; a git checkout is asked.
if [ ! -f etl/version.txt ] && commit=$(git rev-parse --short HEAD 2>/dev/null); then
  changed=$(git status --porcelain -- airflow etl pyproject.toml hatch_build.py requirements.lock README.md)
  MBD_VERSION=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)+$commit${changed:+.dirty}
  export MBD_VERSION
fi

docker compose up --build --detach --wait --remove-orphans ${WORKERS:+--scale worker="$WORKERS"} || {
  log=$(docker compose logs --no-color --tail 20 init 2>&1)
  printf '%s\n' "$log" >&2
  docker compose ps --all --format 'table {{.Service}}\t{{.Status}}' >&2
  echo "Airflow is not healthy. Above are the last lines of init and the state of each service; 'docker compose logs SERVICE'" >&2
  echo "shows more, and 'docker compose restart SERVICE' restarts one." >&2
  case $log in *'password authentication failed'*)
    echo "The metadata database has another AIRFLOW_METADATA_PASSWORD than .env (was .env deleted?)." \
      "Set this one: docker compose exec postgres psql -U airflow -c '\\password', then make up." \
      "Or delete the database, with its history of runs: docker compose down --volumes" >&2
    ;;
  esac
  exit 1
}

bind=$(value AIRFLOW_BIND) host=$(value AIRFLOW_HOSTNAME) port=$(value AIRFLOW_PORT) scheme=http
case $bind in # compose publishes :: to IPv6 only
  '' | 0.0.0.0) bind=127.0.0.1 ;;
  :: | '[::]') bind='[::1]' ;;
  [!'[']*:*) bind="[$bind]" ;;
esac
if [ "$(value AIRFLOW_TLS)" = on ]; then
  scheme=https
  docker compose logs --no-color --no-log-prefix init | grep '^AIRFLOW_CERTIFICATE_SHA256=' | tail -n 1
fi
echo "Airflow is up: $scheme://${host:-$bind}:${port:-8080}"
echo "Log in as admin with AIRFLOW_ADMIN_PASSWORD; the trigger logs in as trigger with AIRFLOW_TRIGGER_PASSWORD. Both are in .env."
