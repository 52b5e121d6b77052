#!/usr/bin/env bash
# Training steps of ours and of PyTorch's in turn, pair by pair: same networks, films, threads. Prints ratios, writes target/benches/train-steps.json.
#
#   benches/train_steps.sh [PAIRS]     needs Python 3.11 with venv, and PyPI; PyTorch goes to target/benches, several GB
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

WORK=target/benches
PYTHON="${RAYGEN_BENCH_PYTHON:-$WORK/venv/bin/python}"
mkdir -p "$WORK"
[[ -x "$PYTHON" ]] || python3 -m venv "$WORK/venv"
"$PYTHON" -c "import torch" 2>/dev/null || "$PYTHON" -m pip install --quiet "torch>=2.11"
cargo build --quiet --locked --release -p raygen-trainer --example train_steps
"$PYTHON" benches/train_steps.py "${CARGO_TARGET_DIR:-target}/release/examples/train_steps" "$WORK/train-steps.json" "${1:-5}"
