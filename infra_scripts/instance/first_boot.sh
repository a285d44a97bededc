#!/usr/bin/env bash
# Sets up an EC2 instance (Ubuntu) at its first boot: Docker, the AWS CLI, swap, security updates, and the systemd unit
# that fetches this repository from the source bucket and keeps Airflow running. Holds no secret: the unit reads those
# with the instance's role (write_env.sh). Safe to run again, as root:
#   bash /usr/local/sbin/moving-big-data-setup
# At the first boot the settings are variables, which apply writes before these lines. They are kept in
# /etc/moving-big-data.conf, and from then on that file counts.
set -euo pipefail
set +x
export DEBIAN_FRONTEND=noninteractive HOME=${HOME:-/root} # cloud-init sets none

CONF=/etc/moving-big-data.conf
LOG=/var/log/moving-big-data.log
ROOT=/opt/moving-big-data
SETTINGS=(MBD_FIRST_NAME MBD_LAST_NAME AWS_REGION MBD_PROFILE MBD_TOPIC_ARN MBD_SOURCE_BUCKET MBD_PARAMETERS
  MBD_TRANSPORT MBD_SCALE_TO_ZERO MBD_IDLE_MINUTES AWS_ENDPOINT_URL)
SWAP_MIB=${MBD_SWAP_MIB:-2048}
APT=(apt-get -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=5)

SETUP=/usr/local/sbin/moving-big-data-setup

main() {
  [ "$(id -u)" = 0 ] || { echo "error: run this as root: sudo bash $0" >&2; exit 2; }
  touch "$LOG" && chmod 640 "$LOG"
  exec > >(tee -a "$LOG") 2>&1
  keep_settings
  if [ "$0" -ef "$SETUP" ]; then set_up; else hand_over; fi
}

hand_over() { # user data is run once: a unit tries until everything is installed, also after a reboot
  step "this script becomes $SETUP, which the unit moving-big-data-setup runs"
  install -m 755 "$0" "$SETUP"
  cat >/etc/systemd/system/moving-big-data-setup.service <<END
[Unit]
Description=Moving Big Data: install what Airflow needs
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStart=/bin/bash $SETUP
TimeoutStartSec=30min
Restart=on-failure
RestartSec=60

[Install]
WantedBy=multi-user.target
END
  systemctl daemon-reload
  systemctl enable moving-big-data-setup.service
  systemctl restart --no-block moving-big-data-setup.service
}

set_up() {
  step "swap"
  add_swap || step "this machine has no swap; continuing without it"
  step "packages" && install_packages
  step "the AWS CLI" && install_aws_cli
  step "security updates" && update_unattended
  step "the unit moving-big-data" && install_units
  systemctl disable moving-big-data-setup.service # it has succeeded: no need of it at the next boot
  step "done. Airflow starts now: journalctl -fu moving-big-data, or tail -f $LOG"
}

step() { echo "[$(date -u +%FT%TZ)] $*"; }

keep_settings() {
  local name
  if [ -f "$CONF" ]; then # the variables before this script are those of the first boot
    unset "${SETTINGS[@]}"
    # shellcheck source=/dev/null
    . "$CONF"
    return
  fi
  for name in MBD_FIRST_NAME MBD_LAST_NAME AWS_REGION MBD_SOURCE_BUCKET MBD_TOPIC_ARN MBD_PARAMETERS; do
    [ -n "${!name:-}" ] || { echo "error: $name is not set; apply sets it in the instance's user data" >&2; exit 2; }
  done
  for name in "${SETTINGS[@]}"; do
    [ -z "${!name:-}" ] || printf '%s=%q\n' "$name" "${!name}"
  done >"$CONF.new"
  printf 'AWS_DEFAULT_REGION=%q\n' "$AWS_REGION" >>"$CONF.new" # version 1 of the AWS CLI knows this name only
  mv "$CONF.new" "$CONF"
}

add_swap() { # building the image needs more than 4 GiB for a moment
  if [ ! -f /swapfile ]; then
    fallocate -l "${SWAP_MIB}M" /swapfile.new && chmod 600 /swapfile.new && mkswap -q /swapfile.new || return
    mv /swapfile.new /swapfile
  fi
  swapon --show=NAME --noheadings | grep -qx /swapfile || swapon /swapfile || return
  grep -q '^/swapfile ' /etc/fstab || echo '/swapfile none swap sw 0 0' >>/etc/fstab
}

install_packages() {
  local docker=(docker.io docker-buildx docker-compose-v2)
  "${APT[@]}" -o APT::Update::Error-Mode=any update # else an address that is being swapped would count as success
  apt-cache show docker-compose-v2 >/dev/null 2>&1 || docker=(docker.io docker-buildx docker-compose docker-cli) # Debian
  if docker compose version >/dev/null 2>&1; then docker=(); fi # the image's own; docker.io would conflict with docker-ce
  "${APT[@]}" install -y --no-install-recommends ca-certificates curl "${docker[@]}" logrotate python3 python3-venv \
    unattended-upgrades
  systemctl enable --now docker
}

install_aws_cli() {
  command -v aws >/dev/null && return
  if command -v snap >/dev/null && snap wait system seed.loaded && snap install aws-cli --classic; then
    ln -sf /snap/bin/aws /usr/local/bin/aws
  else
    python3 -m venv /opt/aws-cli
    /opt/aws-cli/bin/pip install --quiet --disable-pip-version-check awscli
    ln -sf /opt/aws-cli/bin/aws /usr/local/bin/aws
  fi
}

update_unattended() {
  printf '%s\n' 'APT::Periodic::Update-Package-Lists "1";' 'APT::Periodic::Unattended-Upgrade "1";' \
    >/etc/apt/apt.conf.d/20auto-upgrades
  # An upgrade of Docker or a reboot would end a run: moving-big-data-maintain does both when there is none, and
  # moving-big-data-idle before it stops the instance.
  printf '%s\n' 'Unattended-Upgrade::Package-Blacklist { "docker"; "containerd"; "runc"; };' \
    'Unattended-Upgrade::Automatic-Reboot "false";' >/etc/apt/apt.conf.d/52moving-big-data
  # A look that waits for upgrades is not to be restarted by them.
  mkdir -p /etc/needrestart/conf.d
  # shellcheck disable=SC2016
  echo '$nrconf{override_rc}->{qr(^moving-big-data)} = 0;' >/etc/needrestart/conf.d/moving-big-data.conf
}

install_units() {
  cat >/usr/local/sbin/moving-big-data-fetch <<'END'
#!/usr/bin/env bash
# Fetches the repository that `upload` put into the source bucket to /opt/moving-big-data, when it has changed. The code
# runs as root here: it has to have the SHA-256 that `upload` kept in Parameter Store, where who writes files cannot write.
set -euo pipefail
set -a
. /etc/moving-big-data.conf
set +a
root=/opt/moving-big-data
key=Scripts/moving-big-data.tar.gz
parameter=${MBD_PARAMETERS%/}/archive-sha256
fail() { # continues with what is there
  [ -d "$root" ] && { echo "$1; continuing with what is in $root"; exit 0; }
  echo "$1: run python -m infra_scripts upload. This is tried again in a minute." >&2
  exit 1
}
# A crash between the two mv below has left the folder, with the operator's .env, under its old name only.
[ -d "$root" ] || [ ! -d "$root.old" ] || mv "$root.old" "$root"
version=$(aws ssm get-parameter --name "$parameter" --query Parameter.Value --output text) ||
  fail "$parameter is not there yet, or cannot be read"
[ "$version" != "$(cat "$root/.version" 2>/dev/null)" ] || exit 0
archive=$(mktemp)
trap 'rm -f "$archive"' EXIT
aws s3 cp --only-show-errors "s3://$MBD_SOURCE_BUCKET/$key" "$archive" || fail "s3://$MBD_SOURCE_BUCKET/$key cannot be read"
echo "$version  $archive" | sha256sum --check --quiet ||
  fail "s3://$MBD_SOURCE_BUCKET/$key is not what upload sent (SHA-256), so it is not used"
rm -rf "$root.new" && mkdir -p "$root.new"
tar -xz -f "$archive" -C "$root.new" --no-same-owner
[ ! -f "$root/.env" ] || cp -p "$root/.env" "$root.new/.env"
echo "$version" >"$root.new/.version"
rm -rf "$root.old"
sync # a copy that is not on the disk yet replaces nothing
[ ! -d "$root" ] || mv "$root" "$root.old"
mv "$root.new" "$root"
rm -rf "$root.old"
echo "fetched s3://$MBD_SOURCE_BUCKET/$key, version $version"
END
  chmod 755 /usr/local/sbin/moving-big-data-fetch
  cat >/etc/systemd/system/moving-big-data.service <<END
[Unit]
Description=Moving Big Data: Airflow in Docker Compose
Requires=docker.service
Wants=network-online.target
After=docker.service network-online.target
StartLimitIntervalSec=0

[Service]
Type=oneshot
RemainAfterExit=yes
Environment=HOME=/root AWS_METADATA_SERVICE_TIMEOUT=5 AWS_METADATA_SERVICE_NUM_ATTEMPTS=5
WorkingDirectory=-$ROOT
ExecStartPre=/usr/local/sbin/moving-big-data-fetch
ExecStartPre=/bin/bash $ROOT/infra_scripts/instance/write_env.sh
ExecStart=/bin/bash $ROOT/infra_scripts/instance/start_airflow.sh
ExecStop=/usr/bin/docker compose stop
TimeoutStartSec=30min
Restart=on-failure
RestartSec=60
StandardOutput=append:$LOG
StandardError=append:$LOG

[Install]
WantedBy=multi-user.target
END
  cat >/etc/systemd/system/moving-big-data-idle.service <<END
[Unit]
Description=Moving Big Data: stop this instance when no run is queued or running

[Service]
Type=oneshot
EnvironmentFile=$CONF
Environment=HOME=/root
WorkingDirectory=$ROOT
ExecStart=/usr/bin/python3 $ROOT/infra_scripts/instance/idle_stop.py
StandardOutput=append:$LOG
StandardError=append:$LOG
END
  cat >/etc/systemd/system/moving-big-data-idle.timer <<'END'
[Unit]
Description=Moving Big Data: check every two minutes whether there is something to do

[Timer]
OnBootSec=10min
OnUnitActiveSec=2min

[Install]
WantedBy=timers.target
END
  sed 's/^Description=.*/Description=Moving Big Data: upgrade Docker and reboot when that is due and no run is under way/
    s/^ExecStart=.*/& --maintain/' /etc/systemd/system/moving-big-data-idle.service \
    >/etc/systemd/system/moving-big-data-maintain.service
  cat >/etc/systemd/system/moving-big-data-maintain.timer <<'END'
[Unit]
Description=Moving Big Data: look every hour whether Docker has an upgrade or the kernel needs a reboot

[Timer]
OnBootSec=1h
OnUnitActiveSec=1h

[Install]
WantedBy=timers.target
END
  cat >/etc/logrotate.d/moving-big-data <<END
$LOG {
  weekly
  rotate 8
  compress
  missingok
  copytruncate
}
END
  systemctl daemon-reload
  systemctl enable moving-big-data.service
  systemctl enable --now moving-big-data-maintain.timer
  if [ "${MBD_SCALE_TO_ZERO:-off}" = on ]; then
    systemctl enable --now moving-big-data-idle.timer
  else
    systemctl disable --now moving-big-data-idle.timer
  fi
  systemctl restart --no-block moving-big-data.service
}

main "$@"
