#!/usr/bin/env python3
"""Prints a log of CAN frames in candump's form: of a segment of comma2k19, or made up where there is none."""

import os
import sys


def of_segment(folder):
    import numpy

    raw = os.path.join(folder, "processed_log", "CAN", "raw_can")

    def column(name):
        with open(os.path.join(raw, name), "rb") as file:
            return numpy.load(file, allow_pickle=True)

    times, addresses, sources, payloads = (column(name) for name in ("t", "address", "src", "data"))
    for time, address, source, payload in zip(times, addresses, sources, payloads):
        if source == 0 and time - times[0] < 5:
            yield time - times[0], int(address), bytes(payload).hex().upper()


def made_up():
    for frame in range(2500):
        yield frame * 0.002, 0x25 + frame % 7, f"{frame:016X}"


def main():
    try:
        frames = list(of_segment(sys.argv[1]))
    except (OSError, ImportError, ValueError) as error:
        print(f"made up frames: {error}", file=sys.stderr)
        frames = list(made_up())
    for time, address, data in frames:
        print(f"({time:.6f}) can0 {address:03X}#{data}")


if __name__ == "__main__":
    main()
