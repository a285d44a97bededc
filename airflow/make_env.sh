#!/usr/bin/env bash
# Creates or completes .env at the repository's root: strong random values for Airflow's secrets, and a line for each setting
# that has to be filled in. What has a value keeps it. MBD_FIRST_NAME=Ada MBD_LAST_NAME=Lovelace make_env.sh fills in the
# names too. The digest of the secrets is computed again each time.
#
# make_env.sh value NAME prints one value as docker compose reads it: the shell's, else that of .env.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
file=.env

# The pattern of a line that sets NAME.
line_of() { printf '^[[:blank:]]*(export[[:blank:]]+)?%s[[:blank:]]*=' "$1"; }

in_file() { # in_file NAME: the value in the file, read as compose does (tests/data/contracts/sample.env); the last line counts
  local line pattern value=
  [ -f "$file" ] || return 0
  pattern="$(line_of "$1")[[:blank:]]*(.*)$"
  while IFS= read -r line || [ -n "$line" ]; do
    line=${line%$'\r'}
    [[ $line =~ $pattern ]] || continue
    value=${BASH_REMATCH[2]}
    case $value in
      \'*\'*) value=${value#\'} value=${value%%\'*} ;;
      \"*\"*) value=${value#\"} value=${value%%\"*} ;;
      *) value=${value%%[[:blank:]]#*} value=${value%"${value##*[![:blank:]]}"} ;;
    esac
  done <"$file"
  printf '%s' "$value"
}

value() { printf '%s' "${!1-$(in_file "$1")}"; } # what the shell has set comes first, as for compose

if [ "${1:-}" = value ]; then
  value "$2"
  exit
fi

umask 077
touch "$file"
chmod 600 "$file"

made=() missing=()

has_line() { grep -qE "$(line_of "$1")" "$file"; }
has_value() { [ -n "$(in_file "$1")" ]; }

put() { # put NAME VALUE: into the line of that name, or as a new one
  local text=$2
  case $text in
    *[$'\n\'']*)
      echo "error: $1 has a quote or a line break, which .env cannot hold." >&2
      exit 2
      ;;
    *[!A-Za-z0-9_./:@%+,=?\&-]*) text="'$text'" ;;
  esac
  if has_line "$1"; then
    # the value goes by the environment: a command line shows in every list of processes
    LINE=$(line_of "$1") TEXT=$1=$text awk '$0 ~ ENVIRON["LINE"] { print ENVIRON["TEXT"]; next } { print }' "$file" >"$file.new"
    mv "$file.new" "$file"
  else
    if [ -s "$file" ] && [ -n "$(tail -c 1 "$file")" ]; then echo >>"$file"; fi
    printf '%s=%s\n' "$1" "$text" >>"$file"
  fi
}

random() { # random BYTES: as lower-case hexadecimal digits
  od -An -vN "$1" -tx1 /dev/urandom | tr -d ' \n'
}

secret() { # secret NAME VALUE
  has_value "$1" && return
  put "$1" "$2"
  made+=("$1")
}

# Compose copies secrets into a container when it creates the container, and does not see a later change. This digest is a
# label of each container, which it does see. Random values are part of it, so it gives none of them away.
digest_of_secrets() {
  local name
  for name in AIRFLOW_{ADMIN,TRIGGER,METADATA,REDIS}_PASSWORD AIRFLOW_{FERNET,SECRET}_KEY AIRFLOW_JWT_SECRET \
    AIRFLOW_CONN_{STOCKS_DATABASE,AWS_DEFAULT} MBD_CHANNELS; do
    # Where no channels are set, the digest is that of a version that knew none.
    if [ "$name" != MBD_CHANNELS ] || [ -n "$(value "$name")" ]; then printf '%s=%s\n' "$name" "$(value "$name")"; fi
  done | sha256sum | cut -d ' ' -f 1
}

setting() { # setting NAME PURPOSE: taken from the environment, or an empty line to fill in
  has_value "$1" && return
  if [ -n "${!1:-}" ]; then
    put "$1" "${!1}"
    made+=("$1")
  else
    has_line "$1" || put "$1" ""
    missing+=("$1 ($2)")
  fi
}

has_value COMPOSE_FILE || put COMPOSE_FILE airflow/docker-compose.yml
for name in ADMIN_PASSWORD TRIGGER_PASSWORD METADATA_PASSWORD REDIS_PASSWORD; do secret "AIRFLOW_$name" "$(random 18)"; done
for name in JWT_SECRET SECRET_KEY; do secret "AIRFLOW_$name" "$(random 32)"; done
secret AIRFLOW_FERNET_KEY "$(head -c 32 /dev/urandom | base64 | tr '+/' '-_')"
setting MBD_FIRST_NAME "your first name, part of bucket names, topic and mail subjects"
setting MBD_LAST_NAME "your last name"
setting MBD_TOPIC_ARN "the SNS topic that the mails go to"
setting AIRFLOW_CONN_STOCKS_DATABASE "the target database, postgres://user:password@host:5432/name"
put AIRFLOW_SECRETS_DIGEST "$(digest_of_secrets)"

if [ ${#made[@]} -gt 0 ]; then echo "Wrote into .env: ${made[*]}"; fi
if [ ${#missing[@]} -gt 0 ]; then
  echo "To be filled in, in .env. Airflow starts without them, but a run fails and names them:"
  printf '  %s\n' "${missing[@]}"
fi
