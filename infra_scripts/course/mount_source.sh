#!/usr/bin/env bash
# The course's way to the files: mounts the source bucket with s3fs and runs the processing script on the mount. It runs
# from Scripts/ of the bucket, downloaded or on the mount itself, where `upload` has put it next to data_processing.py.
# The pipeline itself reads S3 directly, which is faster; docs/course.md has the figures.
set -euo pipefail
export LC_ALL=C # messages are matched below

my_bucket='' my_region=eu-west-1 # upload fills in yours
bucket=${MBD_SOURCE_BUCKET:-}
mount_point=${MBD_MOUNT_POINT:-$HOME/s3-drive}
endpoint=${AWS_ENDPOINT_URL:-}
region=${AWS_REGION:-${AWS_DEFAULT_REGION:-$my_region}}
password_file=
stocks=Stocks
index=CompanyNames/top_companies.txt
output=Output
seconds=60
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
child=

usage() {
  cat <<'END'
usage: mount_source.sh [run | mount | unmount] [options]

run      mount the source bucket, run data_processing.py STOCKS INDEX OUTPUT on it, unmount what this call has
         mounted; the exit code is that of the processing script (the default)
mount    mount it and leave it mounted; safe to run again; a mount that has died is replaced
unmount  unmount it; safe to run again

--bucket NAME         the source bucket (MBD_SOURCE_BUCKET, or of MBD_FIRST_NAME and MBD_LAST_NAME; else upload's)
--mount-point DIR     an empty or new folder (MBD_MOUNT_POINT; ~/s3-drive)
--password-file FILE  KEY:SECRET, readable by you alone (chmod 600); else ~/.passwd-s3fs; else the instance's role
--region NAME         the bucket's region (AWS_REGION; else upload's)
--endpoint URL        another S3 than that of AWS (AWS_ENDPOINT_URL)
--stocks, --index, --output PATH   inside the bucket (Stocks, CompanyNames/top_companies.txt, Output)
--python FILE         Python 3.11 or newer (MBD_PYTHON; ~/moving-big-data-venv, which course_environment.sh makes;
                      .venv of the repository; python3)

exit codes: 0 done, 1 the data stops the batch, 2 usage or settings, 3 an outside service failed
END
}

fail() { # fail CODE MESSAGE
  echo "error: $2" >&2
  exit "$1"
}

main() {
  local command=run
  case ${1:-} in run | mount | unmount) command=$1; shift ;; esac
  while (($#)); do
    case $1 in
      -h | --help) usage; exit 0 ;;
      --bucket | --mount-point | --password-file | --region | --endpoint | --stocks | --index | --output | --python)
        (($# > 1)) || fail 2 "$1 needs a value (see --help)."
        local name=${1#--}
        printf -v "${name//-/_}" %s "$2"
        shift 2
        ;;
      *) fail 2 "$1 is not known (see --help)." ;;
    esac
  done
  mount_point=$(realpath -ms -- "$mount_point")
  "$command"_source
}

run_source() {
  local mounted_before=no code=0
  [ "$(state)" = mounted ] && mounted_before=yes
  check_python
  [ "$mounted_before" = yes ] || trap unmount_source EXIT
  mount_source
  # In the background, so that a signal reaches it at once and the mount is still there until it has ended.
  "${script[@]}" "$mount_point/$stocks" "$mount_point/$index" "$mount_point/$output" &
  child=$!
  trap 'kill -TERM "$child" 2>/dev/null || true' INT TERM
  while true; do
    code=0
    wait "$child" || code=$?
    kill -0 "$child" 2>/dev/null || break
  done
  exit "$code"
}

mount_source() {
  command -v s3fs >/dev/null || fail 2 "s3fs is not installed. On Ubuntu and Debian: sudo apt-get install s3fs"
  [ -e /dev/fuse ] || fail 2 "/dev/fuse is missing: this machine (or container) allows no FUSE mounts. Download the batch and run data_processing.py on it; or, in a clone, mbd process --source s3://..."
  find_bucket
  case $(state) in
    mounted)
      local source
      source=$(findmnt -n -o SOURCE --mountpoint "$mount_point" | tail -1)
      [ "$source" = "s3fs:$bucket" ] || fail 2 "$mount_point already holds $source, not $bucket. Unmount that, or name another --mount-point."
      echo "$bucket is mounted on $mount_point" >&2
      return
      ;;
    dead)
      echo "the mount on $mount_point has died; mounting it again" >&2
      detach
      ;;
  esac
  umask 077
  mkdir -p "$mount_point" || fail 2 "The folder $mount_point cannot be made. Name another --mount-point."
  [ -z "$(ls -A "$mount_point")" ] || fail 2 "$mount_point is not empty. Name an empty or new folder as --mount-point."
  start_s3fs
}

start_s3fs() {
  # s3fs reports success before it has asked S3, so only its log shows what S3 answered. No curldbg: it
  # would write signed requests into that log.
  local log=$mount_point.log options line tries=$((seconds * 5))
  options="fsname=s3fs:$bucket,endpoint=$region,url=${endpoint:-https://s3.$region.amazonaws.com},logfile=$log,connect_timeout=10,retries=3,sigv4"
  if [ "$(id -u)" = 0 ] || grep -qs '^user_allow_other' /etc/fuse.conf; then
    options+=,allow_other
  else
    echo "only you can read the mount: /etc/fuse.conf lacks user_allow_other, which course_environment.sh adds" >&2
  fi
  [ -z "$endpoint" ] || options+=,use_path_request_style
  login_option
  : >"$log"
  s3fs "$bucket" "$mount_point" -o "$options,$login" || fail 3 "s3fs did not start. Its log is $log."
  while ((tries-- > 0)); do
    if timeout 5 ls "$mount_point" >/dev/null 2>&1 && [ "$(state)" = mounted ]; then
      echo "$bucket is mounted on $mount_point" >&2
      return
    fi
    line=$(grep -E '\[(CRT|ERR)\]' "$log" | tail -1 || true)
    [ -z "$line" ] || explain "$line"
    sleep 0.2
  done
  detach
  fail 3 "S3 at ${endpoint:-$region} did not answer within $seconds s. Check --region, --endpoint and the network. The log of s3fs is $log."
}

login_option() { # sets login
  login=iam_role=auto
  if [ -z "$password_file" ] && [ -f "$HOME/.passwd-s3fs" ]; then password_file=$HOME/.passwd-s3fs; fi
  [ -n "$password_file" ] || return 0
  [ -r "$password_file" ] || fail 2 "The password file $password_file cannot be read."
  case $(stat -Lc %a "$password_file") in
    600 | 400) ;;
    *) fail 2 "Others may read the password file $password_file. Run: chmod 600 $password_file" ;;
  esac
  login=passwd_file=$(realpath -- "$password_file")
}

explain() { # explain LINE: which error s3fs had, and what to do
  detach
  case $1 in
    *"IAM role"*) fail 2 "No login: there is no password file, and the instance's role was not found. Pass --password-file, or attach the role to the instance." ;;
    *"nvalid Credentials"* | *"nvalid credentials"*) fail 2 "S3 refuses the login for the bucket $bucket. Fix the password file, or the role's permissions." ;;
    *"not found"*) fail 2 "There is no bucket $bucket at ${endpoint:-$region}. Check --bucket and --region." ;;
    *) fail 3 "s3fs could not mount $bucket: ${1##*: }. Its log is $mount_point.log." ;;
  esac
}

unmount_source() {
  case $(state) in
    dead) detach ;;
    mounted)
      if command -v fusermount >/dev/null; then fusermount -u "$mount_point"; else umount "$mount_point"; fi ||
        fail 3 "$mount_point is in use. Leave it (cd), end what reads there (lsof +D $mount_point), then try again."
      echo "$mount_point is unmounted" >&2
      ;;
  esac
}

detach() { # removes a mount that no longer answers
  is_in_kernel || return 0
  fusermount -uz "$mount_point" 2>/dev/null || umount -l "$mount_point"
}

state() { # none, mounted, or dead: the kernel still has it, but s3fs is gone or does not answer
  local answer code=0
  if ! is_in_kernel; then
    echo none
    return
  fi
  answer=$(timeout 30 stat "$mount_point" 2>&1) || code=$?
  if ((code == 124)) || [[ $answer == *"Transport endpoint is not connected"* ]]; then echo dead; else echo mounted; fi
}

is_in_kernel() { findmnt -n --mountpoint "$mount_point" >/dev/null; }

find_bucket() {
  if [ -z "$bucket" ] && [ -n "${MBD_FIRST_NAME:-}" ] && [ -n "${MBD_LAST_NAME:-}" ]; then
    bucket=de-mbd-predict-$MBD_FIRST_NAME-$MBD_LAST_NAME-s3-source
    bucket=${bucket,,}
  fi
  bucket=${bucket:-$my_bucket}
  [ -n "$bucket" ] || fail 2 "No bucket is named. Pass --bucket, or set MBD_SOURCE_BUCKET."
  [[ $bucket =~ ^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$ ]] || fail 2 "$bucket cannot be the name of a bucket."
}

check_python() { # sets script, the command that runs the processing script
  local candidate python=${python:-${MBD_PYTHON:-}}
  for candidate in "$HOME/moving-big-data-venv/bin/python" "$here/../../.venv/bin/python"; do
    if [ -z "$python" ] && [ -x "$candidate" ]; then python=$candidate; fi
  done
  python=$(command -v -- "${python:-python3}") || fail 2 "There is no Python $python. Run course_environment.sh first."
  if [ -f "$here/data_processing.py" ]; then
    script=("$python" "$here/data_processing.py")
  else
    script=(env PYTHONPATH="$here/../.." "$python" -m etl.data_processing) # a clone of the repository
  fi
  "${script[@]}" --help >/dev/null || fail 2 "$python cannot run the processing script. Run course_environment.sh, or pass --python."
}

main "$@"
