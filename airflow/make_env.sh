#!/usr/bin/env bash
# Makes .env at the repository's root, or completes it: strong random values for the stack's secrets, and a line for each
# setting that is still to be filled in. What has a value keeps it. MBD_FIRST_NAME=Ada MBD_LAST_NAME=Lovelace make_env.sh
# fills in the names too. The digest of the secrets is made anew each time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
umask 077
file=.env
touch "$file"
chmod 600 "$file"

made=() missing=()

has_line() { grep -q "^$1=" "$file"; }
has_value() { grep -qE "^$1=['\"]?[^'\"[:space:]]" "$file"; }

put() { # put NAME VALUE: into the empty line of that name, or as a new one
  if has_line "$1"; then
    # the value goes by the environment: a command line shows in every list of processes
    NAME=$1 VALUE=$2 awk 'index($0, ENVIRON["NAME"] "=") == 1 { print ENVIRON["NAME"] "=" ENVIRON["VALUE"]; next } { print }' \
      "$file" >"$file.new"
    mv "$file.new" "$file"
  else
    if [ -s "$file" ] && [ -n "$(tail -c 1 "$file")" ]; then echo >>"$file"; fi
    printf '%s=%s\n' "$1" "$2" >>"$file"
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

# Compose copies secrets into a container when it makes the container, and does not see that one has changed since: this
# digest is a label of each container, which it does see. Random values are in it, so it gives none of them away.
digest_of_secrets() {
  local name
  for name in AIRFLOW_{ADMIN,TRIGGER,METADATA,REDIS}_PASSWORD AIRFLOW_{FERNET,SECRET}_KEY AIRFLOW_JWT_SECRET \
    AIRFLOW_CONN_{STOCKS_DATABASE,AWS_DEFAULT}; do
    printf '%s=%s\n' "$name" "${!name-$(sed -n "s/^$name=//p" "$file" | tail -n 1)}" # what the shell has set goes first
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
setting MBD_FIRST_NAME "your first name: buckets, topic and mail subjects are made of the names"
setting MBD_LAST_NAME "your last name"
setting MBD_TOPIC_ARN "the SNS topic that the mails go to"
setting AIRFLOW_CONN_STOCKS_DATABASE "the target database, postgres://user:password@host:5432/name"
put AIRFLOW_SECRETS_DIGEST "$(digest_of_secrets)"

if [ ${#made[@]} -gt 0 ]; then echo "Put into .env: ${made[*]}"; fi
if [ ${#missing[@]} -gt 0 ]; then
  echo "Still to be filled in, in .env; Airflow starts without, a run fails and says so:"
  printf '  %s\n' "${missing[@]}"
fi
