#!/usr/bin/env bash
# Prepares what the other containers need, and ends: certificate, metadata database, accounts. Safe to run again.
set -euo pipefail

if [ "${AIRFLOW_TLS:-}" = on ]; then
  certificate=/opt/airflow/tls/certificate.pem key=/opt/airflow/tls/key.pem
  if [ ! -e "$certificate" ]; then
    names=DNS:localhost,IP:127.0.0.1,DNS:api-server
    case ${AIRFLOW_HOSTNAME:-} in
      '') ;;
      *[!0-9.]*) names+=,DNS:$AIRFLOW_HOSTNAME ;;
      *) names+=,IP:$AIRFLOW_HOSTNAME ;;
    esac
    install -m 600 /dev/null "$key"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -keyout "$key" -out "$certificate.new" \
      -subj "/CN=${AIRFLOW_HOSTNAME:-api-server}" -addext "subjectAltName=$names" 2>/dev/null
    chmod 644 "$certificate.new" # copied to other hosts, where its owner is somebody else
    mv "$certificate.new" "$certificate"
  fi
  digest=$(openssl x509 -in "$certificate" -outform DER | sha256sum)
  echo "AIRFLOW_CERTIFICATE_SHA256=${digest%% *}"
fi

airflow db migrate
exec python /opt/airflow/image/accounts.py
