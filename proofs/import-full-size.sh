#!/usr/bin/env bash
# The published size: a transformer of 129.9 M parameters, a VQ-GAN of 66.9 M and a BERT-base, random weights written in
# the layouts that people have, imported and served. Writes docs/proofs/import.md; fails where a figure is missed.
#
#   proofs/import-full-size.sh        about 4 GB under target/proofs/, 3 GB of memory, two minutes after compiling
#
# Figures: import under 60 s within 6 GB; bundle loaded under 5 s; steady resident memory of the server under 1.3 times
# the weights in the type that they run in (f32 on a CPU).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

WORK=target/proofs/import
REPORT=docs/proofs/import.md
RELEASE="${CARGO_TARGET_DIR:-target}/release"
SETTLE_SECONDS=15

cargo build --quiet --locked --release --workspace --bins --example write_foreign --example load_bundle
rm -rf "$WORK"
mkdir -p "$WORK"
trap 'rm -rf "$WORK"' EXIT

# A process's own account of its memory, in KB: VmHWM is the highest that it ever was.
memory() { awk -v field="$2:" '$1 == field { print $2 }' "/proc/$1/status" 2>/dev/null || true; }

# Runs a command; sets seconds and peak (KB).
measured() {
    local begin end now
    begin=$(date +%s.%N)
    "$@" >"$WORK/out.txt" 2>&1 &
    local child=$!
    peak=0
    while kill -0 "$child" 2>/dev/null; do
        now=$(memory "$child" VmHWM)
        peak=${now:-$peak}
        sleep 0.05
    done
    wait "$child" || { cat "$WORK/out.txt" >&2; exit 1; }
    end=$(date +%s.%N)
    seconds=$(awk -v a="$begin" -v b="$end" 'BEGIN { printf "%.1f", b - a }')
}

"$RELEASE/examples/write_foreign" "$WORK/foreign"
measured "$RELEASE/raygen-trainer" import --transformer "$WORK/foreign/raygen.ckpt" \
    --vqgan "$WORK/foreign/vqgan.ckpt" --vqgan-config "$WORK/foreign/vqgan_project.yaml" \
    --text-encoder "$WORK/foreign/cxr_bert" --out "$WORK/bundle"
import_seconds=$seconds import_peak=$peak
said=$(cat "$WORK/out.txt")

"$RELEASE/examples/load_bundle" "$WORK/bundle" >"$WORK/load.json"
number() { sed -n "s/.*\"$1\":\([0-9.]*\).*/\1/p" "$WORK/load.json"; }
load_seconds=$(number load_seconds) verify_seconds=$(number verify_seconds) parameters=$(number parameters)

begin=$(date +%s.%N)
"$RELEASE/raygen-server" --listen 127.0.0.1:0 --device cpu --models "$WORK/bundle" >"$WORK/server.txt" 2>&1 &
server=$!
trap 'kill -KILL "$server" 2>/dev/null || true; rm -rf "$WORK"' EXIT
until grep -q "is ready on" "$WORK/server.txt"; do
    kill -0 "$server" 2>/dev/null || { cat "$WORK/server.txt" >&2; exit 1; }
    sleep 0.1
done
ready_seconds=$(awk -v a="$begin" -v b="$(date +%s.%N)" 'BEGIN { printf "%.1f", b - a }')
sleep "$SETTLE_SECONDS"
server_rss=$(memory "$server" VmRSS)
server_peak=$(memory "$server" VmHWM)

weights_kb=$((parameters * 4 / 1024))
ratio=$(awk -v a="$server_rss" -v b="$weights_kb" 'BEGIN { printf "%.2f", a / b }')
gb() { awk -v kb="$1" 'BEGIN { printf "%.2f GB", kb * 1024 / 1e9 }'; }
verdict() { awk -v found="$1" -v limit="$2" 'BEGIN { print (found < limit) ? "met" : "MISSED" }'; }

import_verdict=$(verdict "$import_seconds" 60)
peak_verdict=$(verdict "$import_peak" $((6000000000 / 1024)))
load_verdict=$(verdict "$load_seconds" 5)
memory_verdict=$(verdict "$ratio" 1.3)

processor=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)
cat >"$REPORT" <<REPORT_END
# Import at the published size

\`proofs/import-full-size.sh\`: random weights in the foreign layouts (\`raygen.ckpt\` with the text encoder inside, \`vqgan.ckpt\` and its
YAML, a BERT-base folder; $parameters parameters in the bundle), imported by \`raygen-trainer import\`, loaded, and served in f32 on the CPU.

Last run: $(date -u +%Y-%m-%d), commit $(git rev-parse --short HEAD)$(git diff --quiet HEAD || echo " with uncommitted changes"), $(nproc) cores of ${processor:-an unknown processor}, load average
$(cut -d' ' -f1 /proc/loadavg) at the end (anything else that ran makes these times longer).

| figure | limit | measured | |
|---|---|---|---|
| import | 60 s | $import_seconds s | $import_verdict |
| peak memory of the import | 6 GB | $(gb "$import_peak") | $peak_verdict |
| bundle loaded (checksums and values verified) | 5 s | $(printf '%.1f' "$load_seconds") s, $(printf '%.1f' "$verify_seconds") s of it checksums | $load_verdict |
| steady resident memory of the server, $SETTLE_SECONDS s after it was ready | 1.3 x the weights ($(gb "$weights_kb")) | $(gb "$server_rss"), $ratio x | $memory_verdict |

The server was ready after $ready_seconds s: it computes a step and decodes pictures before it says so. Its highest memory was $(gb "$server_peak").

What the import said:

\`\`\`
${said//"$WORK/"/}
\`\`\`
REPORT_END
cat "$REPORT"
for verdict in "$import_verdict" "$peak_verdict" "$load_verdict" "$memory_verdict"; do
    [[ "$verdict" == met ]] || exit 1
done
