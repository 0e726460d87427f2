#!/usr/bin/env bash
# Measures Serow beside a bare llama-server on a machine with a card. Nothing is built:
#   scripts/on_gpu.sh LLAMA_SERVER [MODEL.gguf]
# LLAMA_SERVER was built for the card's architecture, with the libraries that it needs beside it or on the machine; PYTHON is one
# that has Serow's packages, by default .venv's. Without a model one of 1.5 billion random parameters is written (RANDOM_MODEL
# holds other sizes for it; STREAMS, NUM_PREDICT and ROUNDS others than 1, 8 and 64 streams of 128 tokens, three times). PIPELINE
# names a folder whose pictures are measured too. It ends after MINUTES at most, 8 by default; what was measured by then is told.
# Where the engine lists no device it ends at once.
set -euo pipefail
cd "$(dirname "$0")/.."
server=${1:?a llama-server that was built for this card}
python=${PYTHON:-.venv/bin/python}
[ -n "${UNDER_A_LIMIT:-}" ] || UNDER_A_LIMIT=1 exec timeout --signal INT --kill-after 20 "${MINUTES:-8}m" "$0" "$@"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
step() { printf '%4s s: %s\n' "$SECONDS" "$1"; }

stop() { echo "$1" >&2; exit 1; }
[ -x "$server" ] || stop "$server is no executable"
[ -z "${2:-}" ] || [ -r "$2" ] || stop "$2 can't be read: a GGUF is wanted, or nothing for a random one"
"$python" -c 'import aiohttp, gguf, numpy, serow.server.app' || stop "$python lacks packages: PYTHON names one that has Serow's"

step "the card"
! command -v nvidia-smi > /dev/null || nvidia-smi --query-gpu=name,driver_version,memory.total,memory.used --format=csv,noheader
missing=$(ldd "$server" | grep 'not found' || true)
[ -z "$missing" ] || stop "$server lacks libraries: $missing"
devices=$("$server" --list-devices 2> "$work/words") || { cat "$work/words"; stop "$server can't list its devices"; }
echo "$devices"
grep -q ' MiB free)' <<< "$devices" ||
    stop "$server finds no device: was it built for this card, does the driver run, does CUDA_VISIBLE_DEVICES hide it?"
model=${2:-$work/random.gguf}
if [ -z "${2:-}" ]; then
    step "writing a model"
    # shellcheck disable=SC2086  # several words
    "$python" -m bench.random_model "$model" ${RANDOM_MODEL:-}
fi
step "measuring"
"$python" -m bench.on_device "$server" "$model"
if [ -n "${PIPELINE:-}" ]; then
    step "pictures"
    "$python" -m bench.pictures "$PIPELINE" --size 512 --steps 20 --rounds 5
fi
step "done"
