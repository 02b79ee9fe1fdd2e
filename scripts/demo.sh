#!/usr/bin/env bash
# Set up what is missing, run a sentence through the circuit, leave its waveforms in demo/.
source "$(dirname "$0")/setup.sh"
install_debian_packages libngspice0
make_environment

.venv/bin/hvae-mnn simulate --sentence "${1:-the company said it will sell its shares next year}" \
    --waveforms encoder1.f.r0c0 --out demo/run
.venv/bin/hvae-mnn plot demo/run --out demo/waveforms.png
