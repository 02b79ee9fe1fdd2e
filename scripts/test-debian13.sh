#!/usr/bin/env bash
# Run the tests that need ngspice under Debian 13, whose ngspice 44 has KLU, in a root of its own that is made once.
# usage: scripts/test-debian13.sh [pytest arguments]. DEBIAN13=FOLDER says where the root is (default build/debian13).
# Where no root can be made it says why and leaves with 0. Mounts end with the run; the working tree is copied in.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
base=${DEBIAN13:-build/debian13}

skip() {
    echo "test-debian13: skipped: $1"
    exit 0
}

[ "$(id -u)" -eq 0 ] || skip "making a root needs root"
for tool in debootstrap unshare chroot flock git apt-get python3; do
    command -v $tool >/dev/null || skip "no $tool"
done
unshare --mount true 2>/dev/null || skip "mounting is not allowed"
git rev-parse --is-inside-work-tree >/dev/null 2>&1 || skip "not a git checkout"

mkdir -p "$base"
base=$(realpath "$base") root=$base/root
exec 9>"$base/lock"
flock 9

# The root, from this machine's own Debian mirrors.
if [ ! -e "$base/made" ]; then
    packages=ca-certificates,python3,python3-venv,ngspice,libngspice0
    release=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    while read -r mirror suite component; do
        [ "$suite $component" = "$release main" ] || continue
        echo "test-debian13: making $root" >&2
        rm -rf --one-file-system "$root"
        if debootstrap --variant=minbase --include=$packages trixie "$root" "$mirror" >"$base/log" 2>&1; then
            touch "$base/made"
            break
        fi
    done < <(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages')
    [ -e "$base/made" ] || skip "apt's sources gave no Debian 13: $(tail -n 1 "$base/log" 2>/dev/null || echo none)"
fi

# The working tree: what git tracks, and new files it does not ignore. The venv of an earlier run stays.
mkdir -p "$root/project"
find "$root/project" -mindepth 1 -maxdepth 1 ! -name .venv -exec rm -rf {} +
git ls-files -z -co --exclude-standard | while IFS= read -r -d '' file; do
    [ -e "$file" ] && printf '%s\0' "$file"
done | tar -c --null -T - | tar -x -C "$root/project"

# pip as it is set up here: its settings as variables, the files and folders they name, and how to reach the network.
settings=(HOME=/root LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin) paths=()
while IFS='=' read -r name value; do
    name=${name//-/_}
    settings+=("PIP_${name^^}=$value")
    for word in $value; do
        word=${word#file://}
        [ "${word:0:1}" != / ] || [ ! -e "$word" ] || paths+=("$word")
    done
done < <(python3 -m pip config list | sed -nE "s/^[^.]*\.([a-z-]+)='(.*)'$/\1=\2/p")
while IFS='=' read -r name value; do
    settings+=("$name=$value")
    case $name in SSL_CERT_FILE | REQUESTS_CA_BUNDLE) paths+=("$value") ;; esac
done < <(env | grep -E '^(https?_proxy|HTTPS?_PROXY|no_proxy|NO_PROXY|SSL_CERT_FILE|REQUESTS_CA_BUNDLE)=' || true)
for file in /etc/resolv.conf /etc/hosts; do
    [ ! -e "$file" ] || cp -L "$file" "$root$file"
done

run() {
    for folder in proc sys dev; do
        mount --rbind "/$folder" "$root/$folder"
    done
    for path in "${paths[@]}"; do
        if [ -f "$path" ]; then
            mkdir -p "$root$(dirname "$path")"
            touch "$root$path"
        else
            path=$(dirname "$path") # an index links to files beside it
            [ "$path" != / ] || continue
            mkdir -p "$root$path"
        fi
        mount --bind "$path" "$root$path"
    done
    chroot "$root" env -i "${settings[@]}" bash -euo pipefail -c '
        cd /project
        # The usual Linux wheel of torch does not load without the libraries it depends on.
        bash -c "source scripts/setup.sh
            make_environment
            .venv/bin/python -c \"import torch\" 2>/dev/null ||
                .venv/bin/python -m pip install --quiet -c requirements.txt \$(grep ^torch== requirements.txt)" \
            >/install.log 2>&1 || { tail -n 5 /install.log >&2; exit 1; }
        .venv/bin/pytest -m ngspice --ngspice=required "$@"
    ' bash "$@"
}

# In a mount namespace of its own, so that no mount outlives the run.
export -f run
export root
{ declare -p settings paths; echo 'run "$@"'; } >"$base/run.sh"
unshare --mount bash -euo pipefail "$base/run.sh" "$@"
