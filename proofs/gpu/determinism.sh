#!/usr/bin/env bash
# Same seed, same tokens: again, beside other rows, at another place, in batches of 1 to 16; the bundle that is shipped, f32 and bf16.
#
#   [DEVICE=cuda] [SEEDS=4] [BUNDLE=models/default] proofs/gpu/determinism.sh device_proof[.xz] [OUT]
#
# The binary is what proofs/gpu/build.sh made. Needs models/default of the repository (18 MB). Writes OUT/determinism.jsonl (default: the folder
# `gpu-proof`), a line a figure: the largest share of tokens that differ. Again and beside others none may, or the script fails; at another place
# and in another size is information on a GPU, and a promise on a CPU. A dtype that is in the file already is not run again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source proofs/gpu/common.sh
DEVICE=${DEVICE:-cuda}
out=${2:-gpu-proof}
mkdir -p "$out"
binary=$(unpack "${1:?the device_proof that proofs/gpu/build.sh made}" "$out")
find_cuda
note_device "$out"

failed=0
for dtype in ${DTYPES:-f32 bf16}; do
    part=$out/determinism-$dtype.jsonl
    [[ -s $part ]] && continue
    "$binary" determinism "${BUNDLE:-models/default}" "$DEVICE" "$dtype" "${SEEDS:-4}" >"$part.part" || failed=1
    mv "$part.part" "$part"
done
cat "$out"/determinism-*.jsonl | tee "$out/determinism.jsonl"
! grep -q '"passed":false' "$out/determinism.jsonl" || failed=1
exit "$failed"
