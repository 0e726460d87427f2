#!/usr/bin/env bash
# Measures Serow beside a bare llama-server on a machine with a card, and runs the tests of devices there. Nothing is built:
#   scripts/on_gpu.sh LLAMA_SERVER MODEL.gguf
# LLAMA_SERVER was built for the card's architecture; PYTHON is one that has Serow's packages, by default .venv's.
set -euo pipefail
cd "$(dirname "$0")/.."
server=${1:?a llama-server that was built for this card}
model=${2:?a GGUF file}
python=${PYTHON:-.venv/bin/python}
command -v nvidia-smi > /dev/null && nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
"$server" --list-devices
"$python" -m bench.on_device "$server" "$model"
