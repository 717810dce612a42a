#!/usr/bin/env python3
"""Sentences of a satellite receiver by `catseye-sensors` and by pynmea2, in turns, from gpsd's logs.

catseye takes the bytes in pieces of 64, looks for frames, checks their sums, reads what it knows and joins epochs into
fixes. pynmea2 gets the lines, cut beforehand, checks their sums and splits the fields; latitudes, longitudes and times
become numbers only when they are asked for, which is done here for the sentences with a position (GGA, RMC, GLL).
"""

import argparse
import json
from pathlib import Path

import pynmea2
from rounds import BINARY, DATA, Ours, alternate, machine, timed

PLACES = ("GGA", "RMC", "GLL")


def parse_all(lines):
    def work():
        sentences = 0
        for line in lines:
            try:
                sentence = pynmea2.parse(line, check=True)
            except pynmea2.ParseError:
                continue
            sentences += 1
            if sentence.sentence_type in PLACES:
                sentence.latitude, sentence.longitude, sentence.timestamp
        return sentences

    return work


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", type=Path, default=BINARY)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, help="where the results go as JSON")
    arguments = parser.parse_args()
    print(f"{machine()}, {arguments.rounds} rounds, pynmea2 {pynmea2.__version__}")
    results = []
    for log in sorted((DATA / "can" / "nmea").glob("*.log")):
        lines = [line for line in log.read_bytes().decode("ascii", "replace").splitlines() if line.startswith("$")]
        with Ours(arguments.binary, "nmea", log) as ours:
            found = alternate({"catseye": ours, "pynmea2": timed(parse_all(lines))}, arguments.rounds)
        ours_ns, theirs_ns = found["catseye"]["ns"], found["pynmea2"]["ns"]
        result = {
            "log": log.name,
            "sentences": found["catseye"]["inputs"],
            "sentences_of_peer": found["pynmea2"]["outputs"],
            "catseye_ns_per_sentence": ours_ns / found["catseye"]["inputs"],
            "pynmea2_ns_per_sentence": theirs_ns / found["pynmea2"]["outputs"],
        }
        result["ratio"] = result["pynmea2_ns_per_sentence"] / result["catseye_ns_per_sentence"]
        results.append(result)
        print(
            f"{log.name}: {result['sentences']} sentences ({result['sentences_of_peer']} by pynmea2), ns a sentence: catseye "
            f"{result['catseye_ns_per_sentence']:.0f}, pynmea2 {result['pynmea2_ns_per_sentence']:.0f}: {result['ratio']:.0f}"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
