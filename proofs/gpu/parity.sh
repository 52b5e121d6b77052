#!/usr/bin/env bash
# The published model on a GPU against the golden values: logits, loss, VQ-GAN and text encoder in f32 and bf16; every gradient and greedy runs
# in f32. What greedy runs in bf16 and a row alone against the same row in a batch differ by is written too, as information (`passed` is null).
#
#   proofs/gpu/parity.sh BINARY[.xz] [OUT]
#
# BINARY is what proofs/gpu/build.sh made. Needs the repository's crates/model/tests/golden (16 MB) and the CUDA 13 libraries, which this looks for
# where PyTorch's wheels put them. Takes under a minute; writes OUT/parity.jsonl (default: the folder `gpu-proof`), one line a figure.
# A figure out of its tolerance makes the script fail after all were written.
set -euo pipefail
binary=$(realpath "${1:?the binary that proofs/gpu/build.sh made}")
out=${2:-gpu-proof}
mkdir -p "$out"
out=$(realpath "$out")
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

if [[ $binary == *.xz ]]; then
    xz --decompress --keep --stdout "$binary" >"$out/golden_parity"
    binary=$out/golden_parity
fi
chmod +x "$binary"
wheels=$(python3 -c 'import nvidia; print(list(nvidia.__path__)[0])' 2>/dev/null || true)
[[ -z $wheels ]] || export LD_LIBRARY_PATH=$wheels/cu13/lib:$wheels/cudnn/lib:${LD_LIBRARY_PATH:-}

nvidia-smi --query-gpu=name,driver_version --format=csv,noheader | tee "$out/device.txt"
failed=0
: >"$out/parity.jsonl"
for dtype in f32 bf16; do
    "$binary" crates/model/tests/golden cuda "$dtype" | tee -a "$out/parity.jsonl" || failed=1
done
rm -f "$out/golden_parity"
exit "$failed"
