#!/usr/bin/env bash
# Measures Serow beside a bare llama-server on a machine with a card. Nothing is built:
#   scripts/on_gpu.sh LLAMA_SERVER [MODEL.gguf]
# LLAMA_SERVER was built for the card's architecture; PYTHON is one that has Serow's packages, by default .venv's. Without a
# model one of 1.5 billion random parameters is written (RANDOM_MODEL holds other sizes for it, STREAMS and NUM_PREDICT others
# than 1, 8 and 64 streams of 128 tokens).
set -euo pipefail
cd "$(dirname "$0")/.."
server=${1:?a llama-server that was built for this card}
python=${PYTHON:-.venv/bin/python}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
model=${2:-$work/random.gguf}
# shellcheck disable=SC2086  # several words
[ -n "${2:-}" ] || "$python" -m bench.random_model "$model" ${RANDOM_MODEL:-}
! command -v nvidia-smi > /dev/null || nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
"$server" --list-devices
"$python" -m bench.on_device "$server" "$model"
