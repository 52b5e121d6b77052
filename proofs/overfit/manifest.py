"""The first 16 training films of data/nih-256 with distinct impressions, each once to learn from and once to be judged by.

    manifest.py OUT
"""
import csv
import os
import sys
from pathlib import Path

FILMS = 16
source = Path(__file__).parents[2] / "data/nih-256"
out = Path(sys.argv[1]).resolve()

films = {}
for row in csv.DictReader((source / "manifest.csv").open(encoding="utf-8")):
    if row["split"] == "train":
        films.setdefault(row["impression"], row)
films = list(films.values())[:FILMS]

with out.open("w", encoding="utf-8", newline="") as file:
    table = csv.writer(file)
    table.writerow(["path", "split", "patient", "view", "impression", "labels"])
    for split in ["train", "val"]:
        for number, row in enumerate(films):
            path = os.path.relpath(source / row["path"], out.parent)
            # To be judged by the films that were learnt is the point here, and only here.
            table.writerow([path, split, f"{split}-{number}", row["view"], row["impression"], row["labels"]])
