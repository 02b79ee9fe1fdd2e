#!/usr/bin/env bash
# usage: [FRESH=1] scripts/in-debian.sh SUITE COMMAND [ARGUMENT ...]
# Run a command in a bare Debian (bookworm, trixie) that is a folder, DEBIANS/SUITE (default build/debian/SUITE).
# The root is made once, has apt's and pip's settings of this machine, and the working tree as /project.
# FRESH=1: a new root, a clean clone of HEAD, and none of the wheels that pip finds on this machine's disk.
# Where no root can be made it says why and leaves with 77. Mounts end with the run.
set -euo pipefail
unset CDPATH
cd "$(dirname "${BASH_SOURCE[0]}")/.."
suite=$1 base=${DEBIANS:-build/debian}/$1
shift

skip() {
    echo "in-debian: skipped: $1"
    exit 77
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

# The root, from this machine's own Debian mirrors, else from where debootstrap looks.
[ -z "${FRESH:-}" ] || rm -f "$base/made"
if [ ! -e "$base/made" ]; then
    rm -rf --one-file-system "$root"
    release=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    mirrors=$(apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
        sed -n "s/^$release main //p")
    for mirror in $mirrors ""; do
        if debootstrap --variant=minbase "$suite" "$root" $mirror >"$base/log" 2>&1; then
            touch "$base/made"
            break
        fi
        rm -rf --one-file-system "$root"
    done
    [ -e "$base/made" ] || skip "debootstrap made no $suite: $(tail -n 1 "$base/log")"
    apt-config dump | grep '^Acquire::' >"$root/etc/apt/apt.conf.d/99here" || true
fi

# The working tree: what git tracks, and new files it does not ignore. The venv of an earlier run stays.
if [ -n "${FRESH:-}" ]; then
    git clone -q . "$root/project"
else
    mkdir -p "$root/project"
    find "$root/project" -mindepth 1 -maxdepth 1 ! -name .venv -exec rm -rf {} +
    git ls-files -z -co --exclude-standard | while IFS= read -r -d '' file; do
        [ -e "$file" ] && printf '%s\0' "$file"
    done | tar -c --null -T - | tar -x -C "$root/project"
fi

# pip as it is set up here, as variables; the folders that it names; how to reach the network.
settings=(HOME=/root LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin) folders=() certificate=
while IFS='=' read -r name value; do
    name=${name//-/_}
    case ${FRESH:+fresh}-$name in
        *-cert) certificate=$value && continue ;;
        fresh-find_links | fresh-extra_index_url | fresh-constraint) continue ;;
    esac
    settings+=("PIP_${name^^}=$value")
    for word in $value; do
        word=${word#file://}
        # An index links to files beside it.
        [ "${word:0:1}" != / ] || [ ! -e "$word" ] || folders+=("$(dirname "$word")")
    done
done < <(python3 -m pip config list | sed -nE "s/^[^.]*\.([a-z-]+)='(.*)'$/\1=\2/p")
while IFS= read -r setting; do
    settings+=("$setting")
done < <(env | grep -E '^(https?_proxy|HTTPS?_PROXY|no_proxy|NO_PROXY|HVAE_MNN_TORCH)=' || true)
certificate=${certificate:-${SSL_CERT_FILE:-}}
if [ -n "$certificate" ]; then # a file of its own: the root's package of certificates writes the usual one
    cp -L "$certificate" "$root/certificate"
    settings+=(PIP_CERT=/certificate SSL_CERT_FILE=/certificate REQUESTS_CA_BUNDLE=/certificate)
fi
for file in /etc/resolv.conf /etc/hosts; do
    [ ! -e "$file" ] || cp -L "$file" "$root$file"
done

run() {
    for folder in /proc /sys /dev "${folders[@]}"; do
        [ "$folder" != / ] || continue
        mkdir -p "$root$folder"
        mount --rbind "$folder" "$root$folder"
    done
    chroot "$root" env -i "${settings[@]}" bash -euo pipefail -c 'cd /project && "$@"' bash "$@"
}

# In a mount namespace of its own, so that no mount outlives the run.
export -f run
export root
{ declare -p settings folders; echo 'run "$@"'; } >"$base/run.sh"
unshare --mount bash -euo pipefail "$base/run.sh" "$@"
