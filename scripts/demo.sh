#!/usr/bin/env bash
# Set up what is missing, run a sentence through the circuit, leave its waveforms in demo/.
set -euo pipefail
unset CDPATH
cd "$(dirname "$0")/.."
bash scripts/setup.sh

.venv/bin/hvae-mnn simulate --model ptb --sentence "${1:-the company said it will sell its shares next year}" \
    --waveforms encoder1.f.r0c0 --out demo/run
.venv/bin/hvae-mnn plot demo/run --out demo/waveforms.png
