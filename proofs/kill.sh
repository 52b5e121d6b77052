#!/usr/bin/env bash
# kill -9 at ten random moments of each stage: the bundle must be byte for byte that of an undisturbed run. Writes docs/proofs/kill.md; fails where it is not.
#
#   proofs/kill.sh [SEED]     needs Python 3; about ten minutes on two cores after compiling
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo build --quiet --locked --release -p raygen-trainer
python3 proofs/kill/kill.py "${CARGO_TARGET_DIR:-target}/release/raygen-trainer" target/proofs/kill docs/proofs/kill.md "${1:-1}"
