"""Runs ours and PyTorch's steps in turn and compares them: `train_steps.py PROGRAM OUT PAIRS`."""
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
WARM_UP, STEPS = 3, 12


def run(command):
    """What it printed, and the most memory that it held, in MiB."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{' '.join(map(str, command))} failed")
    return json.loads(text), usage.ru_maxrss / 1024


def main():
    program, out, pairs = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    results = []
    for stage, config in [("tokenizer", "vqgan-step.toml"), ("transformer", "transformer-step.toml")]:
        arguments = [str(HERE / config), stage, str(WARM_UP), str(STEPS)]
        ours, theirs = [], []
        for _ in range(pairs):
            ours.append(run([program, *arguments]))
            theirs.append(run([sys.executable, str(HERE / "peers/train_steps.py"), *arguments]))
        parameters = {runs[0][0]["parameters"] for runs in (ours, theirs)}
        if len(parameters) != 1:
            sys.exit(f"{stage}: the two networks differ: {parameters} parameters")
        median = lambda run: statistics.median(run[0]["seconds"])
        ratios = sorted(median(a) / median(b) for a, b in zip(ours, theirs))
        result = {
            "stage": stage, "parameters": parameters.pop(), "films": ours[0][0]["films"], "pairs": pairs, "threads": os.cpu_count(),
            "torch": theirs[0][0]["torch"],
            "seconds_ours": statistics.median(map(median, ours)), "seconds_pytorch": statistics.median(map(median, theirs)),
            "ratio": statistics.median(ratios), "ratio_min": ratios[0], "ratio_max": ratios[-1],
            "mib_ours": max(m for _, m in ours), "mib_pytorch": max(m for _, m in theirs),
        }
        results.append(result)
        print(
            f"{stage}: ours {result['seconds_ours']:.3f} s a step, PyTorch {result['torch']} {result['seconds_pytorch']:.3f} s; "
            f"ratio {result['ratio']:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f} over {pairs} pairs); "
            f"at most {result['mib_ours']:.0f} MiB against {result['mib_pytorch']:.0f}",
            flush=True,
        )
    out.write_text(json.dumps(results, indent=1) + "\n")


main()
