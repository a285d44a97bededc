#!/usr/bin/env bash
# First process of every Airflow container: checks options, puts secrets into the environment, runs Airflow's entrypoint.
set -euo pipefail

refuse() {
  echo "$1" >&2
  exit 64
}

# Connections and channels come as files, so that docker inspect does not show them; they are wanted in the environment.
for file in /run/secrets/AIRFLOW_CONN_* /run/secrets/MBD_CHANNELS; do
  if [ -s "$file" ]; then export "${file##*/}=$(<"$file")"; fi
done

# These two become part of URLs.
for file in /run/secrets/metadata_password /run/secrets/redis_password; do
  if [ -e "$file" ] && ! grep -qxE '[A-Za-z0-9._~-]+' "$file"; then
    refuse "The password in ${file##*/} may hold letters, digits and . _ ~ - only. Correct it in .env."
  fi
done

case ${AIRFLOW_TLS:-} in
  '' | on) ;;
  *) refuse "AIRFLOW_TLS is '$AIRFLOW_TLS'. Set it to on, or leave it empty for plain http on this machine." ;;
esac
case ${AIRFLOW_BIND:-127.0.0.1} in
  127.* | ::1 | '[::1]' | localhost) ;;
  *)
    if [ "${AIRFLOW_TLS:-}" != on ]; then
      refuse "AIRFLOW_BIND=$AIRFLOW_BIND opens Airflow to other machines, and passwords would cross the network readable. Set AIRFLOW_TLS=on too."
    fi
    ;;
esac
if [ "${AIRFLOW_TLS:-}" = on ]; then export AIRFLOW__FAB__COOKIE_SECURE=True; fi

if [ -n "${AIRFLOW_REMOTE_LOGS:-}" ]; then
  export AIRFLOW__LOGGING__REMOTE_LOGGING=True
  export AIRFLOW__LOGGING__REMOTE_BASE_LOG_FOLDER=$AIRFLOW_REMOTE_LOGS
  export AIRFLOW__LOGGING__REMOTE_LOG_CONN_ID=aws_default
fi

if [ -n "${AIRFLOW_CONNECTION_PARAMETERS:-}" ]; then
  export AIRFLOW__SECRETS__BACKEND=airflow.providers.amazon.aws.secrets.systems_manager.SystemsManagerParameterStoreBackend
  export AIRFLOW__SECRETS__BACKEND_KWARGS='{"connections_prefix": "'$AIRFLOW_CONNECTION_PARAMETERS'", "variables_prefix": null, "config_prefix": null}'
fi

exec /entrypoint "$@"
