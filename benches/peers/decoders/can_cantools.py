#!/usr/bin/env python3
"""CAN signals by `catseye-sensors` and by cantools: the same values of random frames, and how long each takes.

Every DBC file gets random frames of all its messages, each at the length that the file declares. Where a message is
multiplexed, every other frame has a selector that the file knows. A value must be equal to the bit. What cantools
refuses, and each value that differs, is listed; the exit status is 1 if one differs that is not of a known kind (see
`explain`). Then both decode the same frames in turns.
"""

import argparse
import collections
import json
import random
import struct
import sys
import tempfile
from pathlib import Path

import cantools
from rounds import BINARY, DATA, Ours, alternate, machine, timed

FRAMES_PER_MESSAGE = 200
# beyond it a double does not hold every whole number
EXACT = 2**53
UNEXPLAINED = "UNEXPLAINED"


def bits(signal):
    """The places of a signal's bits, the most significant first; bit n of byte b is place 8 b + n."""
    if signal.byte_order == "little_endian":
        return list(range(signal.start + signal.length - 1, signal.start - 1, -1))
    places = [signal.start]
    while len(places) < signal.length:
        place = places[-1]
        places.append(place - 1 if place % 8 else place + 15)
    return places


def select(payload, signal, number):
    """Writes a selector's raw number into a payload."""
    for weight, place in enumerate(reversed(bits(signal))):
        byte, bit = divmod(place, 8)
        payload[byte] = payload[byte] & ~(1 << bit) | (number >> weight & 1) << bit


def selectors(message):
    """Each multiplexer with the raw numbers that select something."""
    known = collections.defaultdict(set)
    for signal in message.signals:
        if signal.multiplexer_signal is not None:
            known[signal.multiplexer_signal].update(signal.multiplexer_ids)
    return [(message.get_signal_by_name(name), sorted(numbers)) for name, numbers in known.items()]


def frames_of(database, generator):
    """Random frames of all messages, as `(message, payload)`."""
    frames = []
    for message in database.messages:
        multiplexers = selectors(message)
        for number in range(FRAMES_PER_MESSAGE):
            payload = bytearray(generator.randbytes(message.length))
            if number % 2:
                for signal, known in multiplexers:
                    select(payload, signal, generator.choice(known))
            frames.append((message, bytes(payload)))
    generator.shuffle(frames)
    return frames


def record(message, payload):
    """A frame as `decode_rate` reads it."""
    identifier = message.frame_id | (0x8000_0000 if message.is_extended_frame else 0)
    return struct.pack("<IBB64s", identifier, len(payload) > 8, len(payload), payload)


def load(path):
    """The file as cantools takes it, and what it refuses before that."""
    text = path.read_bytes()
    try:
        text = text.decode("utf-8")
    except UnicodeDecodeError:
        text = text.decode("latin-1")
    refused = []
    try:
        return cantools.database.load_string(text, "dbc", strict=True), refused
    except cantools.Error as error:
        refused.append(f"strict: {error}")
    try:
        return cantools.database.load_string(text, "dbc", strict=False), refused
    except cantools.Error as error:
        refused.append(str(error))
    # names of values that belong to no message say nothing of a signal's place: without them
    text = "\n".join(line for line in text.splitlines() if not line.startswith("VAL_ "))
    return cantools.database.load_string(text, "dbc", strict=False), refused


def alone(message, signal):
    """A message with that signal only."""
    return cantools.database.can.Message(
        message.frame_id, message.name, message.length, [signal], is_extended_frame=message.is_extended_frame, strict=False
    )


class Peer:
    """Values by cantools. It decodes no message in which signals overlap, nor one whose selector is unknown; of these,
    signals that nothing selects are decoded one by one."""

    def __init__(self, database):
        self.database = database
        self.alone = {
            message.name: [(signal.name, alone(message, signal)) for signal in message.signals if signal.multiplexer_ids is None]
            for message in database.messages
        }
        self.raised = collections.Counter()

    def decodes(self, message, payload):
        try:
            return self.database.decode_message(message.frame_id, payload, decode_choices=False)
        except cantools.database.errors.DecodeError as error:
            self.raised[(message.name, str(error).split(", but got")[0])] += 1
            return None

    def values(self, message, payload):
        found = self.decodes(message, payload)
        if found is not None:
            return found
        return {name: one.decode(payload, decode_choices=False)[name] for name, one in self.alone[message.name]}


def explain(ours, theirs, has_selector):
    """The known kind of a difference, or None."""
    if ours is None:
        return None
    if theirs is None:
        return "of overlapping signals, cantools leaves out those that are selected" if has_selector else None
    if isinstance(theirs, int) and abs(theirs) > EXACT:
        return "a whole number beyond 2^53, which cantools keeps and a double rounds"
    return None


def same(ours, theirs):
    return ours == float(theirs) or (ours != ours and theirs != theirs)


def compare(peer, frames, values):
    """How many values are equal, and what differs, by message, signal and kind."""
    ours = collections.defaultdict(dict)
    for line in values.read_text().splitlines():
        number, _, signal, value = line.split(",")
        ours[int(number)][signal] = float(value)
    found = {"equal": 0, "equal_multiplexed": 0, "differences": collections.Counter(), "examples": {}}
    for number, (message, payload) in enumerate(frames):
        theirs = peer.values(message, payload)
        for name in theirs.keys() | ours[number].keys():
            mine, other = ours[number].get(name), theirs.get(name)
            is_selected = message.get_signal_by_name(name).multiplexer_ids is not None
            if mine is not None and other is not None and same(mine, other):
                found["equal"] += 1
                found["equal_multiplexed"] += is_selected
                continue
            key = (message.name, name, explain(mine, other, is_selected) or UNEXPLAINED)
            found["differences"][key] += 1
            found["examples"].setdefault(key, (payload.hex(), mine, other))
    return found


def kinds(database):
    """How many of the signals are what might be read wrongly."""
    signals = [signal for message in database.messages for signal in message.signals]
    return {
        "signals": len(signals),
        "big_endian": sum(signal.byte_order == "big_endian" for signal in signals),
        "signed": sum(signal.is_signed for signal in signals),
        "multiplexed": sum(signal.multiplexer_ids is not None for signal in signals),
    }


def run(path, arguments, folder):
    database, refused = load(path)
    peer = Peer(database)
    frames = frames_of(database, random.Random(path.name))
    frames_file, values_file = folder / "frames", folder / "values"
    frames_file.write_bytes(b"".join(record(*frame) for frame in frames))
    with Ours(arguments.binary, "can", path, frames_file, values_file):
        compared = compare(peer, frames, values_file)

    raised = collections.Counter(peer.raised)
    # both are timed with what both decode at once
    frames_both = [frame for frame in frames if peer.decodes(*frame) is not None]
    frames_file.write_bytes(b"".join(record(*frame) for frame in frames_both))
    decode_message = database.decode_message
    arguments_of_peer = [(message.frame_id, payload) for message, payload in frames_both]

    def peer_pass():
        return sum(len(decode_message(identifier, payload, decode_choices=False)) for identifier, payload in arguments_of_peer)

    with Ours(arguments.binary, "can", path, frames_file) as ours:
        # several: a pass of ours is a millisecond, and the first one finds the caches full of what the other left
        found = alternate({"catseye": ours, "cantools": timed(peer_pass)}, arguments.rounds, passes=5)
    if found["catseye"]["outputs"] != found["cantools"]["outputs"]:
        raise SystemExit(f"{path}: {found}: both should have decoded the same signals")
    return {
        "file": path.name,
        "cantools_refused": refused,
        "messages": len(database.messages),
        **kinds(database),
        "frames": len(frames),
        **compared,
        "raised": raised,
        "ns_per_frame": {name: side["ns"] / len(frames_both) for name, side in found.items()},
        "ratio": found["cantools"]["ns"] / found["catseye"]["ns"],
    }


def show(result):
    times = result["ns_per_frame"]
    print(
        f"{result['file']}: {result['messages']} messages, {result['signals']} signals ({result['big_endian']} big endian, "
        f"{result['signed']} signed, {result['multiplexed']} multiplexed), {result['frames']} frames: {result['equal']} values "
        f"equal ({result['equal_multiplexed']} multiplexed), {sum(result['differences'].values())} differ; "
        f"catseye {times['catseye']:.1f} ns a frame, cantools {times['cantools']:.0f}: {result['ratio']:.0f}"
    )
    for reason in result["cantools_refused"]:
        print(f"  cantools refuses the file: {' '.join(reason.split())}")
    for (message, reason), count in result["raised"].items():
        print(f"  {message}: cantools decodes {count} frames signal by signal only: {reason}")
    for key, count in result["differences"].items():
        payload, mine, other = result["examples"][key]
        print(f"  {'.'.join(key[:2])}: {count}: {key[2]}, such as {payload}: catseye {mine!r}, cantools {other!r}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="*", help="DBC files; without any those of ../shared")
    parser.add_argument("--binary", type=Path, default=BINARY)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="where the rates go as JSON")
    arguments = parser.parse_args()
    files = arguments.files or sorted((DATA / "can" / "opendbc").glob("*.dbc"))
    print(f"{machine()}, cantools {cantools.__version__}, {arguments.rounds} rounds of 5 passes")
    results, failed = [], False
    for path in files:
        with tempfile.TemporaryDirectory() as folder:
            try:
                result = run(path, arguments, Path(folder))
            except cantools.Error as error:
                print(f"{path.name}: cantools refuses it: {error}")
                failed = True
                continue
        show(result)
        failed |= any(kind == UNEXPLAINED for _, _, kind in result["differences"])
        results.append({name: value for name, value in result.items() if name not in ("differences", "raised", "examples")})
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    sys.exit(failed)


if __name__ == "__main__":
    main()
