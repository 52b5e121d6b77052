#!/usr/bin/env bash
# A server under 64 clients for a time, while some are killed, some stop reading, one dies after 0.3 s and some ask for nonsense: memory stays
# flat, every place comes back, no result is lost, and it ends well.
#
#   proofs/soak.sh [MINUTES]        default 30; state in target/proofs/soak; needs release builds of raygen-server and raygen
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
minutes=${1:-30}
out=target/proofs/soak
rm -rf "$out" && mkdir -p "$out"
cargo build --locked --release -p raygen-server -p raygen-client
bin=${CARGO_TARGET_DIR:-target}/release

http=127.0.0.1:$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
RAYGEN_READER_TIMEOUT_SECONDS=5 "$bin/raygen-server" --listen 127.0.0.1:0 --http "$http" >"$out/server.out" 2>"$out/server.log" &
server=$!
trap 'kill -9 $server 2>/dev/null || true' EXIT
for _ in $(seq 100); do grep -q 'is ready on' "$out/server.out" && break; sleep 0.1; done
endpoint=$(grep -o 'http://[^ ]*' "$out/server.out" | head -1)
metric() { curl -sf "http://$http/metrics" | awk -v name="$1" '$1 == name { print $2 }'; }

end=$((SECONDS + minutes * 60))
echo '{"second":0}' >"$out/memory.jsonl"
round=0
while ((SECONDS < end)); do
    round=$((round + 1))
    # Sixty-four at once, of mixed lengths; one bench in three is killed in the middle.
    "$bin/raygen" --endpoint "$endpoint" bench --concurrency 64 --duration 20 --steps 2,4,8 --warm-up 0 --json-out "$out/bench-$round.json" \
        >/dev/null 2>"$out/bench.err" &
    bench=$!
    # A client that stops reading: a stopped process takes nothing from its socket.
    "$bin/raygen" --endpoint "$endpoint" generate "Edema" --count 8 --steps 16 --steps-dir "$out/steps" --out "$out/stalled.png" >/dev/null 2>&1 &
    stalled=$!
    sleep 1 && kill -STOP "$stalled" 2>/dev/null || true
    # Nonsense, and one that dies at once.
    "$bin/raygen" --endpoint "$endpoint" generate " " --out "$out/none.png" >/dev/null 2>&1 || true
    "$bin/raygen" --endpoint "$endpoint" generate "Edema" --steps 9999 --out "$out/none.png" >/dev/null 2>&1 || true
    timeout -s KILL 0.3 "$bin/raygen" --endpoint "$endpoint" generate "Edema" --out "$out/none.png" >/dev/null 2>&1 || true
    if ((round % 3 == 0)); then
        sleep 7
        kill -9 "$bench"
    fi
    wait "$bench" 2>/dev/null || true
    kill -9 "$stalled" 2>/dev/null || true
    wait "$stalled" 2>/dev/null || true
    echo "{\"second\":$SECONDS,\"resident_bytes\":$(metric process_resident_memory_bytes),\"pictures\":$(metric raygen_pictures_total)}" >>"$out/memory.jsonl"
done
sleep 8
for name in raygen_slots_in_use raygen_requests_waiting raygen_calls_in_flight; do
    [[ $(metric $name) == 0 ]] || { echo "$name is $(metric $name) with nobody there" >&2; exit 1; }
done
curl -sf "http://$http/metrics" >"$out/metrics.txt"
kill -TERM "$server"
wait "$server" && trap - EXIT || { echo "the server did not end well: $?" >&2; exit 1; }

python3 - "$out" <<'PY'
import glob, json, sys
out = sys.argv[1]
memory = [json.loads(line) for line in open(f"{out}/memory.jsonl")][1:]
results = [json.load(open(path))["result"] for path in glob.glob(f"{out}/bench-*.json")]
total = {key: sum(result[key] for result in results) for key in ("requests", "done", "pictures", "previews", "dropped_previews")}
failures = {}
for result in results:
    for kind, count in result["failures"].items():
        failures[kind] = failures.get(kind, 0) + count
# The first third is warm-up: allocator pools and patches fill.
steady = memory[len(memory) // 3:]
first, last = (sorted(m["resident_bytes"] for m in part)[len(part) // 2] for part in (steady[: len(steady) // 2 or 1], steady[len(steady) // 2:]))
summary = {"minutes": memory[-1]["second"] / 60, "rounds": len(memory), **total, "failures": failures, "pictures_of_server": memory[-1]["pictures"],
           "resident_median_middle": first, "resident_median_end": last, "growth": last / first - 1}
print(json.dumps(summary, indent=1))
json.dump(summary, open(f"{out}/summary.json", "w"))
assert total["pictures"] == total["done"], "a request that ended well lacks its picture"
assert set(failures) <= {"QUEUE_FULL"}, failures
assert summary["growth"] < 0.05, "memory grows"
PY
