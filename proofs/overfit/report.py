"""Writes what came of the run, and fails where it is not what was promised: `report.py WORK REPORT`."""
import json
import subprocess
import sys
import time
from pathlib import Path

LEAST_PSNR, LEAST_SHARE = 30.0, 1.0

work, report = Path(sys.argv[1]), Path(sys.argv[2])


def validations(stage):
    lines = (json.loads(line) for line in (work / "run" / stage / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["event"] == "validate"]


recall = json.loads((work / "recall.json").read_text())
tokenizer, transformer = validations("tokenizer"), validations("transformer")
psnr = tokenizer[-1]["psnr"]
passed = psnr > LEAST_PSNR and recall["mean_share"] >= LEAST_SHARE
commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
lines = [
    "# Sixteen films by heart", "",
    f"`proofs/overfit.sh`, {time.strftime('%Y-%m-%d', time.gmtime())}, commit {commit}, CPU: the first 16 NIH films with distinct impressions "
    "(templates made from labels), 128 px, [this run](../../proofs/overfit/run.toml). They are judged by the films that they were learnt from: "
    "that is the point, a network that does not learn is seen here.", "",
    "| tokenizer step | PSNR, dB | codes in use, of 512 |", "|---|---|---|",
    *[f"| {line['step']} | {line['psnr']:.2f} | {line['codes_used']:.0f} |" for line in tokenizer], "",
    "| transformer step | nll, nats a masked token | without the text | accuracy |", "|---|---|---|---|",
    *[f"| {line['step']} | {line['nll']:.4f} | {line['nll_without_text']:.3f} | {line['accuracy']:.4f} |" for line in transformer], "",
    f"At temperature 0 the transformer gives back {100 * recall['mean_share']:.2f} % of the tokens of each film for its impression "
    f"({recall['given_back_whole']} of {recall['films']} films whole, the worst one {100 * recall['least_share']:.1f} %).", "",
    f"Promised: above {LEAST_PSNR:.0f} dB, and every token. **{'Kept' if passed else 'NOT KEPT'}.**", "",
]
report.write_text("\n".join(lines), encoding="utf-8")
print("\n".join(lines))
sys.exit(0 if passed else 1)
