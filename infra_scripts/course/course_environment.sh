#!/usr/bin/env bash
# The course's manual way, without conda: on Ubuntu or Debian, a Python environment with pandas, the AWS CLI and the
# pipeline's libraries, and s3fs. It runs from a clone of the repository or from Scripts/ of the source bucket, where the
# repository is the archive next to it. Safe to run again: what is there stays.
set -euo pipefail

folder=${1:-$HOME/moving-big-data-venv}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=()
[ "$(id -u)" = 0 ] || root=(sudo)

fail() {
  echo "error: $1" >&2
  exit 2
}

case $folder in
  -h | --help)
    echo "usage: course_environment.sh [FOLDER]    makes the Python environment in FOLDER (~/moving-big-data-venv)"
    exit 0
    ;;
  -*) fail "$folder is not known (see --help)." ;;
esac
command -v apt-get >/dev/null || fail "this is for Ubuntu and Debian. Elsewhere install Python 3.11 or newer and s3fs yourself."

needed=()
for package in ca-certificates python3 python3-venv s3fs; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q "ok installed" || needed+=("$package")
done
if ((${#needed[@]} > 0)); then
  echo "installing ${needed[*]}"
  "${root[@]}" apt-get -q -o DPkg::Lock::Timeout=300 update
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 install -y \
    --no-install-recommends "${needed[@]}"
fi
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  fail "Python 3.11 or newer is needed; this is $(python3 --version 2>&1). Ubuntu 24.04 has 3.12."

if ! grep -qs '^user_allow_other' /etc/fuse.conf; then # for s3fs -o allow_other, without being root
  echo user_allow_other | "${root[@]}" tee -a /etc/fuse.conf >/dev/null
fi

[ -x "$folder/bin/python" ] || python3 -m venv "$folder"
pip=("$folder/bin/python" -m pip --quiet --disable-pip-version-check --no-input)
echo "installing pandas and the processing script's libraries into $folder, in the versions that are tested"
repository=$here/../..
if [ -f "$here/moving-big-data.tar.gz" ]; then
  repository=$folder/moving-big-data
  mkdir -p "$repository" && tar -xzf "$here/moving-big-data.tar.gz" -C "$repository"
fi
# pip takes no folder as soon as it has hashes, so its constraints are the lock's versions alone.
sed 's/ \\$//; /^ /d' "$repository/requirements.lock" >"$folder/constraints.txt"
(cd "$repository" && "${pip[@]}" install --constraint "$folder/constraints.txt" --editable .)
# The AWS CLI fixes its own botocore, so it has an environment of its own; its command is linked next to Python's.
if [ ! -x "$folder/bin/aws" ]; then
  echo "installing the AWS CLI"
  python3 -m venv "$folder/aws-cli"
  "$folder/aws-cli/bin/python" -m pip --quiet --disable-pip-version-check --no-input install awscli
  ln -s ../aws-cli/bin/aws "$folder/bin/aws"
fi

"$folder/bin/python" -c 'import pandas, etl; print("pandas", pandas.__version__)'
"$folder/bin/aws" --version
s3fs --version | head -1
cat <<END
Ready. Next:
  source $folder/bin/activate
  aws configure                            # or the instance's role
  bash $here/mount_source.sh               # mounts the source bucket and runs the processing script on it
END
