#!/usr/bin/env bash
# Set-up shared by demo.sh and test.sh (sourced): Debian packages that are missing, then .venv with
# the pinned versions of requirements.txt. Doing it again when nothing changed takes no time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

install_debian_packages() {
    local missing=()
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q "ok installed" || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    if ! command -v apt-get >/dev/null; then
        echo "setup: no apt-get here; install these by hand, then run this again: ${missing[*]}" >&2
        exit 1
    fi
    local as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(sudo)
    echo "setup: installing ${missing[*]}" >&2
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/dev/null
}

find_python() {
    for python in python3.11 python3.12 python3.13 python3; do
        if "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$python"
            return
        fi
    done
}

make_environment() {
    local wanted
    wanted=$(cat requirements.txt pyproject.toml | sha256sum)
    [ "$(cat .venv/.made-from 2>/dev/null)" = "$wanted" ] && return
    if [ ! -x .venv/bin/python ]; then
        local python
        python=$(find_python)
        if [ -z "$python" ]; then
            install_debian_packages python3 python3-venv
            python=$(find_python)
        fi
        if [ -z "$python" ]; then
            echo "setup: Python 3.11 or newer with venv is needed, found $(python3 --version 2>&1)" >&2
            exit 1
        fi
        "$python" -m venv .venv
    fi
    echo "setup: installing Python packages into .venv" >&2
    # requirements.txt is complete; --no-deps leaves out pycairo, which badcrossbar needs for its own plots only.
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.txt
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
    echo "$wanted" >.venv/.made-from
}
