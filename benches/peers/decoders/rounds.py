"""Our decoders and a peer's, in turns: how both are asked for a pass, and what is made of the times.

Times are those of the thread on a processor: the machine may have other work.
"""

import json
import statistics
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
DATA = ROOT.parent / "shared" / "data"
BINARY = ROOT / "target" / "release" / "examples" / "decode_rate"


class Ours:
    """`decode_rate` with its inputs read, waiting to be asked for a pass."""

    def __init__(self, binary, *words):
        if not Path(binary).exists():
            raise SystemExit(f"{binary}: build it with `cargo build --release -p catseye-sensors --example decode_rate`")
        words = [str(word) for word in (binary, *words)]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        self()
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        if self.process.wait() != 0:
            raise SystemExit("decode_rate failed")

    def __call__(self):
        """One pass: `ns`, `inputs`, `outputs`, `refused`."""
        print(file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"decode_rate: exit status {self.process.wait()}")
        return json.loads(answer)


def timed(work):
    """A pass of a peer: `work` returns how many things came of it."""

    def one_pass():
        start = time.thread_time_ns()
        outputs = work()
        return {"ns": time.thread_time_ns() - start, "outputs": outputs}

    return one_pass


def alternate(sides, rounds, passes=1):
    """Medians of so many rounds, in each of which every side has its turn of some passes. `sides` are named functions."""
    times = {name: [] for name in sides}
    last = {}
    for _ in range(rounds):
        for name, one_pass in sides.items():
            for _ in range(passes):
                last[name] = one_pass()
                times[name].append(last[name]["ns"])
    return {name: {**last[name], "ns": statistics.median(times[name])} for name in sides}


def machine():
    """The processor's name and how many there are."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0] if names else 'unknown'}"
