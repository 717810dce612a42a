#!/usr/bin/env python3
"""Pictures per second of `catseye replay` and of the Python peer, in turns.

Every round runs catseye with ONNX Runtime, catseye with rten and the peer, each in a process of its own, on a video and
on a folder of stills; medians and ratios are printed. The eight stills are too few to measure with, so a temporary folder
is filled with links to them, over and over in the same order, 200 in all: both sides read, unpack and scale each one anew.
Each side keeps its own time, from the first picture to the last result, without loading the model. catseye uses the same
ONNX Runtime library as the peer unless ORT_DYLIB_PATH names another.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import onnxruntime

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
DATA = ROOT.parent / "shared" / "data"
STILLS = 200
SIDES = ("catseye, ort", "catseye, rten", "peer")
PEER = SIDES[-1]


def link_stills(folder, into):
    """Fills a folder with links to the pictures of another, repeated until there are STILLS."""
    pictures = sorted(file for file in folder.iterdir() if file.suffix.lower() in {".jpg", ".jpeg", ".png"})
    if not pictures:
        sys.exit(f"{folder}: expected pictures, found none")
    for number in range(STILLS):
        picture = pictures[number % len(pictures)]
        (into / f"{number:04}{picture.suffix}").symlink_to(picture.resolve())


def library():
    """The shared library inside the onnxruntime package."""
    found = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so*"))
    return str(found[0]) if found else None


def command(side, path, arguments):
    if side == PEER:
        return [sys.executable, str(HERE / "peer.py"), str(path), "--model", str(arguments.model),
                "--threads", str(arguments.threads)]  # fmt: skip
    backend = side.split()[-1]
    return [str(arguments.catseye), "replay", str(path), "--model", str(arguments.model), "--backend", backend, "--json", "--no-report"]


def run(side, path, arguments):
    """Pictures per second of one run, and how many pictures there were. What catseye writes goes to a temporary folder."""
    environment = dict(os.environ)
    if "ORT_DYLIB_PATH" not in environment and (found := library()):
        environment["ORT_DYLIB_PATH"] = found
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            command(side, path, arguments), cwd=folder, env=environment, capture_output=True, text=True
        )
    if done.returncode != 0:
        sys.exit(f"{side}: exit status {done.returncode}\n{done.stderr}")
    report = read_report(side, done.stdout)
    return report["ticks"] / report["wall_s"], report["ticks"]


def read_report(side, text):
    """The JSON object with `ticks` and `wall_s`: all of the output, or its last line."""
    for candidate in (text, text.strip().rpartition("\n")[2]):
        try:
            report = json.loads(candidate)
        except json.JSONDecodeError:
            continue
        if isinstance(report, dict) and report.get("ticks") and report.get("wall_s"):
            return report
    sys.exit(f"{side}: expected JSON with `ticks` and `wall_s`, found:\n{text}")


def measure(name, path, arguments):
    """Medians of one input."""
    rates = {side: [] for side in SIDES}
    ticks = {}
    for number in range(arguments.rounds):
        for side in SIDES:
            rate, ticks[side] = run(side, path, arguments)
            rates[side].append(rate)
            print(f"{name}, round {number + 1}: {side:<14}{rate:8.2f} pictures/s", file=sys.stderr)
    medians = {side: statistics.median(found) for side, found in rates.items()}
    ratios = {side: medians[side] / medians[PEER] for side in SIDES if side != PEER}
    return {"input": name, "pictures": ticks, "rates": rates, "medians": medians, "ratios_to_peer": ratios}


def print_table(results):
    print(f"{'input':<22}{'side':<16}{'pictures':>10}{'pictures/s':>14}{'ratio to peer':>16}")
    for result in results:
        for side in SIDES:
            ratio = result["ratios_to_peer"].get(side)
            shown = "" if ratio is None else f"{ratio:.3f}"
            pictures, rate = result["pictures"][side], result["medians"][side]
            print(f"{result['input']:<22}{side:<16}{pictures:>10}{rate:>14.2f}{shown:>16}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--catseye", type=Path, default=ROOT / "target" / "release" / "catseye")
    parser.add_argument("--model", type=Path, default=DATA / "models" / "yolox_nano.onnx")
    parser.add_argument("--video", type=Path, default=DATA / "camera" / "carnd" / "solidWhiteRight.mp4")
    parser.add_argument("--stills", type=Path, default=DATA / "camera" / "bdd")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="threads of the peer's network")
    parser.add_argument("--json", type=Path, help="where the results go as JSON")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("--rounds: expected at least 1")
    for name in ("catseye", "model", "video", "stills"):
        path = getattr(arguments, name).resolve()
        if not path.exists():
            parser.error(f"--{name}: {path} does not exist")
        setattr(arguments, name, path)

    with tempfile.TemporaryDirectory() as folder:
        stills = Path(folder)
        link_stills(arguments.stills, stills)
        results = [
            measure(arguments.video.name, arguments.video, arguments),
            measure(f"{arguments.stills.name}, {STILLS} stills", stills, arguments),
        ]
    print_table(results)
    if arguments.json:
        report = {"bench": "replay", "rounds": arguments.rounds, "onnxruntime": onnxruntime.__version__, "results": results}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
