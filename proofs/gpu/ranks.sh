#!/usr/bin/env bash
# Several GPUs as ranks of one run. With one GPU: NCCL with a single rank. Then, where there are two devices or more, a small run on two ranks against
# one that accumulates two batches (losses of every step within 1e-3), and the same run stopped after its first seconds and resumed.
#
#   [DEVICES=cuda:0,cuda:1] proofs/gpu/ranks.sh device_proof[.xz] raygen-trainer[.xz] [OUT]
#
# Both are what proofs/gpu/build.sh made. DEVICES=cpu,cpu tries everything but the GPUs. Needs data/nih-256 of the repository. Writes OUT/ranks.jsonl.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source proofs/gpu/common.sh
DEVICES=${DEVICES:-$(nvidia-smi --query-gpu=index --format=csv,noheader | sed 's/^/cuda:/' | head -2 | paste -sd,)}
DEVICE=$DEVICES
out=${3:-gpu-proof}
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
proof=$(unpack "${1:?the device_proof that proofs/gpu/build.sh made}" "$work")
trainer=$(unpack "${2:?the raygen-trainer that proofs/gpu/build.sh made}" "$work")
find_cuda
note_device "$out"

failed=0
"$proof" ranks "$DEVICES" | tee "$out/ranks.jsonl" || failed=1
[[ $DEVICES == *,* ]] || { echo "one device: no run of two ranks" && exit "$failed"; }

# The quick start, cut to a few steps; the other run takes on one device what two take here.
cut() { # name, accumulate, films of the tokenizer
    sed -E -e "s|^manifest = .*|manifest = \"$PWD/data/nih-256/manifest.csv\"|" -e 's/^steps = .*/steps = 12/' \
        -e "/^\[tokenizer\]/,/^\[/ s/^batch = .*/batch = $3/" -e "/^\[transformer\]/,/^\[/ s/^batch = .*/batch = 4\naccumulate = $2/" \
        configs/quickstart.toml >"$work/$1.toml"
}
cut one 2 8
cut two 1 4
first=${DEVICES%%,*}
"$trainer" run "$work/one.toml" --out "$work/one" --devices "$first" 2>&1 | tail -2
"$trainer" run "$work/two.toml" --out "$work/two" --devices "$DEVICES" 2>&1 | tail -2
# Stopped by SIGTERM soon after it began, as often as it takes, then to its end.
for seconds in 2 4 6; do
    timeout --signal=TERM --kill-after=60 "$seconds" "$trainer" run "$work/two.toml" --out "$work/pieces" --devices "$DEVICES" >/dev/null 2>&1 || true
done
"$trainer" run "$work/two.toml" --out "$work/pieces" --devices "$DEVICES" 2>&1 | tail -2
python3 - "$work" "$DEVICES" <<'PYTHON' | tee -a "$out/ranks.jsonl" || failed=1
import json, pathlib, sys
work, failed = pathlib.Path(sys.argv[1]), False
def losses(run, stage):
    lines = map(json.loads, (work / run / stage / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if line["event"] == "train"]
for stage in ("tokenizer", "transformer"):
    one, two, pieces = (losses(run, stage) for run in ("one", "two", "pieces"))
    apart = max(abs(a - b) / abs(a) for a, b in zip(one, two))
    passed = len(one) == len(two) == 12 and apart < 1e-3
    print(json.dumps({"figure": f"{stage}: two ranks against one", "difference": apart, "passed": passed}))
    resumed = two == pieces
    # On a GPU some backward passes add in no fixed order: there the same bits are information.
    strict = sys.argv[2].startswith("cpu")
    print(json.dumps({"figure": f"{stage}: resumed is the same", "equal": resumed, "passed": resumed if strict else None}))
    failed |= not passed or (strict and not resumed)
sys.exit(failed)
PYTHON
exit "$failed"
