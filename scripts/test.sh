#!/usr/bin/env bash
# Set up what is missing, then lint, type-check and test in two processes. Arguments go to pytest (try --slow).
set -euo pipefail
unset CDPATH
cd "$(dirname "$0")/.."
bash scripts/setup.sh --tests

.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
.venv/bin/pytest --ngspice=required --numprocesses=2 --dist=worksteal "$@"
