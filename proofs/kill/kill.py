"""Runs the trainer undisturbed, then again under kill -9, and compares the two bundles.

    kill.py TRAINER WORK REPORT SEED

The random moments lie within a stage: the trainer says on stderr where each begins.
"""
import csv
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

KILLS = 10
FILMS = 64
HERE = Path(__file__).parent


def manifest(out: Path) -> None:
    source = HERE.parents[1] / "data/nih-256"
    rows = list(csv.DictReader((source / "manifest.csv").open(encoding="utf-8")))
    val = [row for row in rows if row["split"] == "val"][: FILMS // 4]
    train = [row for row in rows if row["split"] == "train"][: FILMS - len(val)]
    with out.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "split", "patient", "view", "impression", "labels"])
        for row in train + val:
            path = os.path.relpath(source / row["path"], out.parent)
            table.writerow([path, row["split"], row["patient"], row["view"], row["impression"], row["labels"]])


class Trainer:
    """A trainer whose stderr is followed."""

    def __init__(self, program: str, config: Path, out: Path):
        self.stage, self.since, self.lines = "start", time.monotonic(), []
        self.process = subprocess.Popen(
            [program, "run", str(config), "--out", str(out), "--device", "cpu"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace",
        )
        self.follower = threading.Thread(target=self.follow, daemon=True)
        self.follower.start()

    def follow(self) -> None:
        for line in self.process.stderr:
            self.lines.append(line.rstrip())
            if line.startswith("stage ") and "up to date" not in line:
                self.stage, self.since = line.split()[1].rstrip(":"), time.monotonic()

    def finish(self) -> None:
        self.process.wait()
        self.follower.join()
        if self.process.returncode != 0:
            sys.exit("the trainer failed:\n" + "\n".join(self.lines[-20:]))


def undisturbed(program: str, config: Path, out: Path) -> dict[str, float]:
    """Seconds of each stage."""
    trainer, seconds = Trainer(program, config, out), {}
    stage, since = trainer.stage, trainer.since
    while trainer.process.poll() is None:
        if trainer.stage != stage:
            seconds[stage] = trainer.since - since
            stage, since = trainer.stage, trainer.since
        time.sleep(0.005)
    trainer.finish()
    seconds[stage] = time.monotonic() - since
    seconds.pop("start", None)
    return seconds


def disturbed(program: str, config: Path, out: Path, seconds: dict[str, float], draw: random.Random) -> dict[str, list[float]]:
    """Kills the trainer until every stage had its share; the moments, in seconds from where the stage began or resumed."""
    kills = {stage: [] for stage in seconds}
    while True:
        trainer = Trainer(program, config, out)
        planned = {stage: draw.uniform(0, seconds[stage] / 6) for stage in seconds}
        while trainer.process.poll() is None:
            stage, since = trainer.stage, trainer.since
            if stage in kills and len(kills[stage]) < KILLS and time.monotonic() - since >= planned[stage]:
                trainer.process.kill()
                trainer.process.wait()
                kills[stage].append(time.monotonic() - since)
                break
            time.sleep(0.002)
        else:
            trainer.finish()
            return kills


def sums(out: Path) -> list[str]:
    return sorted((out / "bundle/SHA256SUMS").read_text().splitlines())


def main() -> None:
    program, work, report, seed = sys.argv[1], Path(sys.argv[2]).resolve(), Path(sys.argv[3]), int(sys.argv[4])
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    manifest(work / "manifest.csv")
    config = work / "run.toml"
    shutil.copy(HERE / "run.toml", config)
    seconds = undisturbed(program, config, work / "whole")
    print({stage: round(value, 2) for stage, value in seconds.items()}, flush=True)
    kills = disturbed(program, config, work / "killed", seconds, random.Random(seed))
    # A finished run is finished: once more must change nothing.
    Trainer(program, config, work / "killed").finish()
    equal = sums(work / "whole") == sums(work / "killed")
    short = [stage for stage, moments in kills.items() if len(moments) < KILLS]
    lines = [
        "# kill -9 at random moments", "",
        f"`proofs/kill.sh {seed}`, {time.strftime('%Y-%m-%d', time.gmtime())}, commit {commit()}, CPU. "
        f"{FILMS} films of 64 px, [all stages](../../proofs/kill/run.toml); a kill at a random moment of a stage, then the same command again.", "",
        "| stage | undisturbed | kills | seconds into the stage |", "|---|---|---|---|",
    ]
    for stage, moments in kills.items():
        lines.append(f"| {stage} | {seconds[stage]:.1f} s | {len(moments)} | {', '.join(f'{moment:.2f}' for moment in moments)} |")
    lines += ["", f"The two bundles are {'equal, byte for byte' if equal else 'NOT EQUAL'} (`SHA256SUMS` of every file in them).", ""]
    if short:
        lines += [f"Too short for {KILLS} kills: {', '.join(short)}.", ""]
    report.write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))
    sys.exit(0 if equal and not short else 1)


def commit() -> str:
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=HERE)
    return head.stdout.strip() or "unknown"


main()
