#!/usr/bin/env bash
# usage: scripts/test-platforms.sh [--demo] [ROW ...]
# The README's two commands, as a newcomer types them, on bare machines with public registries alone; prints a table.
# Long: a row makes a Debian, downloads gigabytes and runs the whole suite; --demo leaves the suite out.
# Rows, all of them where none is named: bookworm and trixie, as root; sudo: trixie, as a user with sudo; container: the
# lines of Containerfile; lowest: unit tests on bookworm with the lowest versions that pyproject.toml allows.
set -euo pipefail
unset CDPATH
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# In the bare machine, where /project is a clone of HEAD: do what the row says, print its line of the table.
measure() {
    local row=$1 demo_only=$2 demo=- tests=- status=0 as=() venv=.venv
    timed() { # sets `took` to the seconds of a command
        local log=$1 start=$SECONDS
        shift
        if "$@" >"/$log.log" 2>&1; then took=$((SECONDS - start)); else took="exit $?" status=1; fi
    }
    container() {
        local word rest entry
        while read -r word rest; do
            case $word in
                WORKDIR) mkdir -p "$rest" && cd "$rest" ;;
                COPY) cp -r /project/. . ;;
                RUN) bash -c "$rest" ;;
                ENV) export "${rest?}" ;;
                ENTRYPOINT) entry=$(tr -d '[]"' <<<"$rest") ;;
            esac || return 1
        done </project/Containerfile
        "$entry" doctor && "$entry" simulate --sentence "this child carries his clock" --model grammar
    }
    lowest() {
        apt-get update -q && apt-get install -yq python3-venv libngspice0 ngspice && python3 -m venv .venv &&
            .venv/bin/pip install -q uv && cp .venv/bin/uv /usr/bin && {
            uv pip install -q --resolution lowest-direct -e '.[dev]' --torch-backend cpu ||
                uv pip install --resolution lowest-direct -e '.[dev]'
        } && .venv/bin/pytest tests/unit --ngspice=required --numprocesses=2
    }
    case $row in
        container) timed demo container && demo=$took venv=/hvae-mnn/.venv ;;
        lowest) timed test lowest && tests=$took ;;
        *)
            if [ "$row" = sudo ]; then
                { apt-get update -q && apt-get install -yq sudo; } >/prepare.log 2>&1
                useradd --create-home newcomer
                echo "newcomer ALL=(ALL) NOPASSWD: ALL" >/etc/sudoers.d/newcomer
                chown -R newcomer /project
                as=(runuser -u newcomer -- env HOME=/home/newcomer)
            fi
            timed demo "${as[@]}" bash scripts/demo.sh && demo=$took
            [ -n "$demo_only" ] || { timed test "${as[@]}" bash scripts/test.sh && tests=$took; }
            ;;
    esac
    count() { grep -oE "[0-9]+ $1" /test.log 2>/dev/null | tail -n 1 | cut -d ' ' -f 1; }
    echo "| $row | $($venv/bin/python -c 'import importlib.metadata as m, platform
print(platform.python_version(), "|", m.version("torch"))') | $(dpkg-query -W -f '${Version}' libngspice0)" \
        "| $demo | $tests | $(du -sm $venv | cut -f 1) | $(count passed) | $(count '(failed|error)') |"
    return $status
}

demo_only= status=0
[ "${1:-}" != --demo ] || { demo_only=yes && shift; }
[ $# -gt 0 ] || set -- bookworm trixie sudo container lowest
echo "| machine | Python | torch | ngspice | demo, s | tests, s | .venv, MB | passed | failed |"
echo "|---|---|---|---|---|---|---|---|---|"
for row in "$@"; do
    suite=trixie
    case $row in bookworm | lowest) suite=bookworm ;; esac
    export DEBIANS=build/platforms/$row
    FRESH=1 bash scripts/in-debian.sh $suite bash -c "$(declare -f measure); measure $row '$demo_only'" || status=1
    mv "$DEBIANS/$suite/root/"*.log "$DEBIANS"
    rm -rf --one-file-system "$DEBIANS/$suite" # gigabytes
done
exit $status
