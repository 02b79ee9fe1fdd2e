#!/usr/bin/env bash
# Set up what is missing, then lint, type-check and test in two processes. Arguments go to pytest (try --slow).
source "$(dirname "$0")/setup.sh"
install_debian_packages libngspice0 ngspice
make_environment

.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
.venv/bin/pytest --ngspice=required --numprocesses=2 --dist=worksteal "$@"
