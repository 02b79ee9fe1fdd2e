#!/usr/bin/env bash
# usage: scripts/setup.sh [--tests]
# Install the Debian packages that are missing and make .venv with the versions of constraints.txt; --tests adds what
# the tests need. Where nothing changed it takes no time; what was left half-made is mended.
# HVAE_MNN_TORCH says which build of torch: `default`, the one that pip as it is set up here would take, on Linux with
# libraries for GPUs; `cpu`, a tenth of that; `auto` (the same as nothing), `cpu` where it can be had, else `default`.
set -euo pipefail
unset CDPATH
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."

say() { echo "setup: $*" >&2; }
stop() { say "$@" && exit 1; }

install_debian_packages() {
    local package missing=() as_root=() said
    for package in "$@"; do
        [[ $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) = *"ok installed" ]] || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null ||
        stop "no apt-get here, which this needs; elsewhere install ${missing[*]} by hand and use pip (README.md)"
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || stop "neither root nor sudo; have root run this: apt-get install ${missing[*]}"
        as_root=(sudo)
    fi
    say "installing ${missing[*]} with apt-get"
    said=$({ "${as_root[@]}" apt-get update -q; "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -yq --no-install-recommends "${missing[@]}"; } 2>&1) ||
        stop "apt-get cannot install ${missing[*]}; is there a network? $(grep -E '^(E|sudo):' <<<"$said" | tail -n 1)"
}

fits() {
    "$1" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null
}

find_python() {
    local python
    for python in python3.11 python3.12 python3.13 python3.14 python3; do
        ! fits $python || { command -v $python && return; }
    done
}

check_room() {
    local free
    free=$(df --output=avail -BM . | tr -dc 0-9)
    [ "$free" -ge "$1" ] || stop "the disk of $PWD has $free MB free and needs $1 MB; make room, then run this again"
}

# uv reads none of pip's settings: those that say where packages come from become uv's, unless it has its own.
take_settings_of_pip() {
    local name value word words
    while IFS='=' read -r name value; do
        words=()
        value=${value:1:-1}
        for word in ${value//'\n'/ }; do
            [ ! -e "${word#file:}" ] && [[ $word = /* || $word = file:* ]] || words+=("$word")
        done
        value=${words[*]-}
        case ${name##*.} in
            index-url) name=UV_DEFAULT_INDEX ;;
            extra-index-url) name=UV_INDEX ;;
            find-links) name=UV_FIND_LINKS value=${value// /,} ;;
            no-index) name=UV_NO_INDEX ;;
            constraint) name=UV_CONSTRAINT ;;
            trusted-host) name=UV_INSECURE_HOST ;;
            cert) name=SSL_CERT_FILE ;;
            proxy) name=ALL_PROXY ;;
            default-timeout | timeout) name=UV_HTTP_TIMEOUT ;;
            *) continue ;;
        esac
        [ -n "${!name:-}" ] || export "$name=$value"
    done < <(.venv/bin/python -m pip config list)
    export UV_INDEX_STRATEGY=${UV_INDEX_STRATEGY:-unsafe-best-match} # as pip does: whichever index has the version
    export UV_CONSTRAINT="constraints.txt ${UV_CONSTRAINT:-}" UV_BUILD_CONSTRAINT=constraints.txt
}

install() {
    .venv/bin/uv pip install --python .venv/bin/python -e "$wanted" "$@"
}

wanted=. purpose=demo packages=(libngspice0)
[ "${1:-}" != --tests ] || wanted='.[dev]' purpose=tests packages+=(ngspice)
torch=${HVAE_MNN_TORCH:-auto}
[[ $torch =~ ^(auto|cpu|default)$ ]] || stop "HVAE_MNN_TORCH is $torch; auto, cpu or default is expected"
if ! fits .venv/bin/python; then
    check_room 1600 # at least, with the CPU build of torch
    [ -n "$(find_python)" ] || packages+=(python3 python3-venv)
fi
if [[ ! -e .venv/.made-from && (-e .venv || -L .venv) && -n $(ls -A .venv 2>/dev/null || echo other) ]]; then
    stop "$PWD/.venv was made by something else and is left alone; move it away, or use pip in it (README.md)"
fi
exec 9<scripts/setup.sh # one set-up at a time: a second one would take what the first is making for half-made
flock 9
install_debian_packages "${packages[@]}"

made_from=$({ pwd && cat constraints.txt pyproject.toml scripts/setup.sh; } | sha256sum | cut -d ' ' -f 1)
read -r was_made_from was_purpose was_build was_torch 2>/dev/null <.venv/.made-from || true
[[ -z ${was_build:=} || " auto $was_build $was_torch " = *" $torch "* ]] || was_made_from=unfinished
if [ "${was_made_from:=}" = "$made_from" ] && [[ $was_purpose = tests || $was_purpose = "$purpose" ]] &&
    .venv/bin/python -I -c 'import hvae_mnn' 2>/dev/null; then
    exit
fi

# What was interrupted, or lost its Python, its pip or its folder, is made anew.
options=()
if [ "${was_made_from:-unfinished}" = unfinished ] || ! fits .venv/bin/python ||
    [[ $(PIP_CONFIG_FILE=/dev/null .venv/bin/python -I -m pip --version 2>/dev/null) != *" $PWD/.venv/"* ]]; then
    [ ! -e .venv ] || say "making .venv anew"
    rm -rf .venv
    was_build=
    python=$(find_python)
    [ -n "$python" ] || stop "Python 3.11 to 3.14 with venv is needed, found $(python3 --version 2>&1); install one"
    mkdir .venv
    echo unfinished >.venv/.made-from
    "$python" -m venv .venv
fi
echo unfinished >.venv/.made-from
take_settings_of_pip
said=$(.venv/bin/python -m pip install -q --disable-pip-version-check --retries 1 -c constraints.txt uv 2>&1) ||
    stop "pip cannot get uv; a network is needed, or an index in pip's settings:" \
        "$(grep -oE "\[Errno[^']*|ERROR: .*" <<<"$said" | head -n 1)"

# uv links packages from its cache, which takes no room, where the cache is on the same disk.
cache=$(.venv/bin/uv cache dir)
mkdir -p "$cache" 2>/dev/null && [ "$(stat -c %d "$cache")" = "$(stat -c %d .venv)" ] ||
    export UV_CACHE_DIR=$PWD/.venv/.uv-cache

plan=$(install --dry-run "${options[@]}" 2>&1) ||
    stop "uv finds no such packages; is there a network? $(tail -n 1 <<<"$plan")"
build=${was_build:-default} note=
if [[ $plan = *" + torch=="*+cpu* ]]; then
    build=cpu
elif [[ $plan = *" + torch=="* ]]; then
    build=default
    # An index that is out of reach costs seconds.
    if [ "$torch" != default ] && UV_HTTP_TIMEOUT=5 UV_HTTP_CONNECT_TIMEOUT=5 UV_HTTP_RETRIES=0 \
        install --dry-run --torch-backend cpu "${options[@]}" >/dev/null 2>&1; then
        build=cpu options+=(--torch-backend cpu)
    elif [ "$torch" = cpu ]; then
        stop "PyTorch's index of CPU wheels cannot be reached; HVAE_MNN_TORCH=default takes the one with GPU libraries"
    elif [ "$torch" = auto ]; then
        note="; the index of its CPU wheels cannot be reached"
    fi
fi
what="what is missing" download=50 disk=150
if [[ $plan = *" + torch=="* ]]; then
    what="torch ($build build$note) and the rest"
    download=350 disk=1600
    [ $build = cpu ] || download=2900 disk=5600
fi
say "installing $what into .venv: about $download MB to download, $disk MB on disk"
check_room $disk
install "${options[@]}" >&2 || stop "uv could not install the packages; what it says stands above"
echo "$made_from $purpose $build $torch" >.venv/.made-from
