#!/usr/bin/env bash
# Starts the stack and waits until it is healthy; says where it is and where its login stands. With the Celery override in
# COMPOSE_FILE (.env), WORKERS=N up.sh starts N workers.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

docker compose version >/dev/null 2>&1 || {
  echo "Docker with Compose v2 is needed, and 'docker compose version' fails here. Install Docker Engine and its compose plugin." >&2
  exit 1
}
docker info >/dev/null 2>&1 || {
  echo "No Docker engine answers ('docker info' fails). Start it (systemctl start docker), or set DOCKER_HOST." >&2
  exit 1
}

airflow/make_env.sh

# What the shell has set goes before .env, as it does for compose.
value() { printf '%s' "${!1:-$(sed -n "s/^$1=//p" .env | tail -n 1 | tr -d "'\"")}"; }

docker compose up --build --detach --wait --remove-orphans ${WORKERS:+--scale worker="$WORKERS"} || {
  said=$(docker compose logs --no-color --tail 20 init 2>&1)
  printf '%s\n' "$said" >&2
  docker compose ps --all --format 'table {{.Service}}\t{{.Status}}' >&2
  echo "The stack is not healthy. Above is what init said and what each service is at; 'docker compose logs SERVICE' has more," >&2
  echo "and 'docker compose restart SERVICE' starts one anew." >&2
  case $said in *'password authentication failed'*)
    echo "The metadata database was made with another AIRFLOW_METADATA_PASSWORD than .env has now (was .env deleted?)." \
      "Give it this one: docker compose exec postgres psql -U airflow -c '\\password', then make up." \
      "Or drop it, with its history of runs: docker compose down --volumes" >&2
    ;;
  esac
  exit 1
}

bind=$(value AIRFLOW_BIND) host=$(value AIRFLOW_HOSTNAME) port=$(value AIRFLOW_PORT) scheme=http
case $bind in '' | 0.0.0.0 | ::) bind=127.0.0.1 ;; esac
if [ "$(value AIRFLOW_TLS)" = on ]; then
  scheme=https
  docker compose logs --no-color --no-log-prefix init | grep '^AIRFLOW_CERTIFICATE_SHA256=' | tail -n 1
fi
echo "Airflow is up: $scheme://${host:-$bind}:${port:-8080}"
echo "Log in as admin with AIRFLOW_ADMIN_PASSWORD; the trigger's account is trigger with AIRFLOW_TRIGGER_PASSWORD. Both stand in .env."
