#!/usr/bin/env bash
# A piece of a training run, under 8 minutes: call it again until it says that the run is done. A piece ends by SIGTERM, at which the trainer saves; the
# next goes on from there, on this machine or on another that OUT was copied to.
#
#   [DEVICE=cuda] [SECONDS_A_PIECE=420] proofs/gpu/train.sh raygen-trainer[.xz] CONFIG.toml OUT
#
# Exit status: 0 the run is done, 75 (try again) it is not, anything else is the trainer's own. Only OUT has to be kept between pieces: for a run that lasts
# many of them keep its films and checkpoints on a disk, not among results.
set -euo pipefail
config=$(realpath "${2:?a configuration}")
mkdir -p "${3:?the run directory}"
out=$(realpath "$3")
packed=$(realpath "${1:?the raygen-trainer that proofs/gpu/build.sh made}")
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source proofs/gpu/common.sh
DEVICE=${DEVICE:-cuda}
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
binary=$(unpack "$packed" "$tools")
find_cuda
note_device "$out"

status=0
timeout --signal=TERM --kill-after=50 "${SECONDS_A_PIECE:-420}" \
    "$binary" run "$config" --out "$out" --devices "$DEVICE" 2>&1 | tee -a "$out/pieces.log" || status=${PIPESTATUS[0]}
"$binary" status "$out"
case $status in
0) echo "the run is done: $out/bundle" ;;
# 124: ended by the time limit; 130: the trainer says that it was asked to stop.
124 | 130) echo "not done yet: the same command goes on" && exit 75 ;;
*) exit "$status" ;;
esac
