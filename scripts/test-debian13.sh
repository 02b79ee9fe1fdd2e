#!/usr/bin/env bash
# Run the tests that need ngspice under Debian 13, whose ngspice 44 has KLU: in a root of its own, made once.
# usage: scripts/test-debian13.sh [pytest arguments]. DEBIAN13=FOLDER says where the root is (default build/debian13).
# Where no root can be made it says why and leaves with 0. Mounts end with the run; the working tree is copied in.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
project=$PWD base=${DEBIAN13:-build/debian13}

skip() {
    echo "test-debian13: skipped: $1"
    exit 0
}

[ "$(id -u)" -eq 0 ] || skip "making a root needs root"
for tool in debootstrap unshare chroot flock git apt-get; do
    command -v $tool >/dev/null || skip "no $tool"
done
unshare --mount true 2>/dev/null || skip "mounting is not allowed"
git rev-parse --is-inside-work-tree >/dev/null 2>&1 || skip "not a git checkout"

mkdir -p "$base"
base=$(realpath "$base") && root=$base/root
exec 9>"$base/lock"
flock 9

# The root, from the first of this machine's own mirrors that has Debian 13.
if [ ! -e "$base/made" ]; then
    packages=ca-certificates,python3,python3-venv,ngspice,libngspice0
    release=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    eval "export $(apt-config shell http_proxy Acquire::http::Proxy)"
    while read -r mirror suite component; do
        [ "$suite $component" = "$release main" ] || continue
        rm -rf --one-file-system "$root"
        echo "test-debian13: making $root" >&2
        if debootstrap --variant=minbase --include=$packages trixie "$root" "$mirror" >"$base/log" 2>&1; then
            touch "$base/made"
            break
        fi
    done < <(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages')
    [ -e "$base/made" ] || skip "no mirror in apt's sources gave Debian 13 ($(tail -n 1 "$base/log" 2>/dev/null))"
fi
