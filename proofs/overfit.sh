#!/usr/bin/env bash
# 16 real films with distinct impressions, learnt by heart: the tokenizer must reconstruct them above 30 dB, and the transformer return
# each film's tokens for its impression at temperature 0. Writes docs/proofs/overfit.md; fails where they do not.
#
#   proofs/overfit.sh       needs Python 3; about half an hour on two cores; resumable
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

WORK=target/proofs/overfit
RELEASE="${CARGO_TARGET_DIR:-target}/release"
mkdir -p "$WORK"
cargo build --quiet --locked --release -p raygen-trainer --bins --examples
python3 proofs/overfit/manifest.py "$WORK/manifest.csv"
cp proofs/overfit/run.toml "$WORK/"
"$RELEASE/raygen-trainer" run "$WORK/run.toml" --out "$WORK/run" --device cpu
rm -rf "$WORK/generated"
"$RELEASE/raygen-trainer" generate "$WORK/run/bundle" --data "$WORK/manifest.csv" --split train --out "$WORK/generated" --device cpu
"$RELEASE/examples/recall" "$WORK/run/bundle" "$WORK/generated" "$WORK/manifest.csv" >"$WORK/recall.json"
python3 proofs/overfit/report.py "$WORK" docs/proofs/overfit.md
