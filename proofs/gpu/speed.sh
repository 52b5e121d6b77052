#!/usr/bin/env bash
# Seconds of a forward step of the transformer at 1, 4 and 16 rows, of a decode, of a whole picture of 8 steps, and of a training step with its films
# a second; f32 and bf16, random weights of the published sizes.
#
#   [DEVICE=cuda] [CONFIG=proofs/gpu/published-step.toml] [BATCHES="16 64"] proofs/gpu/speed.sh device_proof[.xz] [OUT]
#
# The binary is what proofs/gpu/build.sh made; it needs no data. Writes OUT/speed.jsonl (default: the folder `gpu-proof`), a line a figure with the
# median, least and most of 10 runs after 3. Wanted on an H100: 385 films a second or more of `training_step` in bf16.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source proofs/gpu/common.sh
DEVICE=${DEVICE:-cuda}
out=${2:-gpu-proof}
mkdir -p "$out"
binary=$(unpack "${1:?the device_proof that proofs/gpu/build.sh made}" "$out")
find_cuda
note_device "$out"
# Batches that do not fit the GPU end the program; what was measured before stays.
# shellcheck disable=SC2086
"$binary" speed "${CONFIG:-proofs/gpu/published-step.toml}" "$DEVICE" ${BATCHES:-16 64} | tee "$out/speed.jsonl"
