#!/usr/bin/env bash
# Writes .env at the repository's root, on the instance, before Airflow starts. Settings come from
# /etc/moving-big-data.conf, secrets from Parameter Store with the instance's role; your own lines are kept.
# Secrets go only into the file: not into a log, an argument or another process's environment.
set -euo pipefail
set +x
umask 077

CONF=${MBD_CONF:-/etc/moving-big-data.conf}
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
ENV_FILE=$ROOT/.env
MADE_BY_APPLY=(admin-password trigger-password metadata-password fernet-key jwt-secret secret-key redis-password)

fail() {
  echo "error: $1" >&2
  exit 1
}

[ -f "$CONF" ] || fail "$CONF is missing; first_boot.sh writes it. Run: sudo bash /usr/local/sbin/moving-big-data-setup"
set -a
# shellcheck source=/dev/null
. "$CONF"
set +a

declare -A value
for name in MBD_FIRST_NAME MBD_LAST_NAME AWS_REGION MBD_PROFILE MBD_TOPIC_ARN MBD_SOURCE_BUCKET; do
  [ -z "${!name:-}" ] || value[$name]=${!name}
done
if [ "${MBD_PROFILE:-}" = course ]; then value[AIRFLOW_REMOTE_LOGS]=s3://$MBD_SOURCE_BUCKET/Output/logs; fi
# The API answers only this machine (the trigger comes by SSM), unless the trigger comes over the network. This is set
# once for a transport; afterwards both lines are the operator's, who may have opened the API to workers.
value[MBD_TRANSPORT]=${MBD_TRANSPORT:-ssm}
if [ "${value[MBD_TRANSPORT]}" != "$(env -u MBD_TRANSPORT bash "$ROOT/airflow/make_env.sh" value MBD_TRANSPORT)" ]; then
  value[AIRFLOW_BIND]=127.0.0.1 value[AIRFLOW_TLS]=
  if [ "${value[MBD_TRANSPORT]}" = http ]; then value[AIRFLOW_BIND]=0.0.0.0 value[AIRFLOW_TLS]=on; fi
fi

answer=$(aws ssm get-parameters-by-path --path "${MBD_PARAMETERS%/}" --with-decryption \
  --query 'Parameters[].[Name,Value]' --output text) ||
  fail "the parameters under $MBD_PARAMETERS cannot be read. The instance's role needs ssm:GetParametersByPath there."
declare -A secret
name=
while IFS= read -r line; do
  case $line in
    "${MBD_PARAMETERS%/}"/*$'\t'*) name=${line%%$'\t'*} name=${name##*/} secret[$name]=${line#*$'\t'} ;;
    ?*) secret[${name:?the first line of the answer names no parameter}]+=$'\n'$line ;; # a value of several lines
  esac
done <<<"$answer"
unset answer

missing=()
for name in "${MADE_BY_APPLY[@]}"; do
  [ -n "${secret[$name]:-}" ] || missing+=("$name")
  name_in_env=AIRFLOW_${name^^}
  value[${name_in_env//-/_}]=${secret[$name]:-}
done
((${#missing[@]} == 0)) ||
  fail "missing under $MBD_PARAMETERS: ${missing[*]}. Run: python -m infra_scripts apply. This is tried again in a minute."
[ -n "${secret[stocks-database]:-}" ] ||
  fail "missing: $MBD_PARAMETERS/stocks-database. Run: python -m infra_scripts init-db. This is tried again in a minute."
value[AIRFLOW_CONN_STOCKS_DATABASE]=${secret[stocks-database]}
IFS=$' \t\r\n' read -r -d '' -a channels <<<"${secret[channels]:-}" || true # the operator's, perhaps one a line
if ((${#channels[@]})); then value[MBD_CHANNELS]=${channels[*]}; fi

# All other lines belong to the operator and are kept.
[ -f "$ENV_FILE" ] || printf 'COMPOSE_FILE=airflow/docker-compose.yml\n' >"$ENV_FILE"
fresh=$ENV_FILE.new
rm -f "$fresh"
{
  while IFS= read -r line || [ -n "$line" ]; do
    if [[ $line =~ ^[[:blank:]]*(export[[:blank:]]+)?([A-Za-z_][A-Za-z0-9_]*)[[:blank:]]*= && -v value[${BASH_REMATCH[2]}] ]]; then continue; fi
    printf '%s\n' "$line"
  done <"$ENV_FILE"
  for name in "${!value[@]}"; do
    case ${value[$name]} in *[$'\n\r\t\'']*) fail "$name has a quote, a tab or a line break, which .env cannot hold." ;; esac
    printf "%s='%s'\n" "$name" "${value[$name]}"
  done | sort
} >"$fresh"
chmod 600 "$fresh"
mv "$fresh" "$ENV_FILE"
bash "$ROOT/airflow/make_env.sh" # the digest by which compose sees a new secret
echo "wrote $ENV_FILE: ${#value[@]} values"
