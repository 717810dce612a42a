#!/usr/bin/env python3
"""Points of lidars by `catseye-sensors` and by others' decoders, in turns, from recorded packets.

| packets | peer | what it does |
|---|---|---|
| VLP-16, dual | velodyne-decoder (C++) | the same work: azimuths within a firing, both echoes, times; a whole recording a call |
| PandarXT-32, dual | NumPy, written here | all packets at once; places and times only, no scans, no double echoes left out |
| PandarXT-32, dual | hydra4 | a loop in Python; reads only the first block of each pair |
| OS-0-32, OS-1-128 | ouster-sdk (C++) | fields into frames, then x, y, z of all pixels; no times, rings or intensities beside them |

Nobody corrects for the car's motion. Both sides get the packets in memory. The rate is in echoes that were measured, the
same number for both sides, so that the ratio is that of the times; real time is what the recording took.
"""

import argparse
import json
import sqlite3
import struct
import sys
import tempfile
from pathlib import Path

import numpy as np
import velodyne_decoder
from ouster.sdk import core, pcap
from rounds import BINARY, DATA, Ours, alternate, machine, timed

LIDAR = DATA / "lidar"
VELODYNE_BYTES = 1206
PANDAR_BYTES = 1500


class Cdr:
    """Reads what rosbag2 keeps: little-endian, aligned to what is read, counted from behind four bytes."""

    def __init__(self, message):
        self.bytes, self.at = message[4:], 0

    def numbers(self, kind, count=1):
        self.at += -self.at % 4
        values = struct.unpack_from(f"<{count}{kind}", self.bytes, self.at)
        self.at += 4 * count
        return values

    def take(self, length):
        self.at += length
        return self.bytes[self.at - length : self.at]


def bag_packets(path, is_pandar):
    """The packets of a recorded lidar, as `(stamp_ns, payload)`."""
    packets = []
    bag = sqlite3.connect(f"file:{path}?immutable=1", uri=True)
    for (message,) in bag.execute("SELECT data FROM messages ORDER BY timestamp"):
        reader = Cdr(message)
        reader.numbers("I", 2)
        (name_bytes,) = reader.numbers("I")
        reader.take(name_bytes)
        (count,) = reader.numbers("I")
        for _ in range(count):
            seconds, nanoseconds = reader.numbers("I", 2)
            payload = reader.take(PANDAR_BYTES if is_pandar else VELODYNE_BYTES)
            if is_pandar:
                payload = payload[: reader.numbers("I")[0]]
            packets.append((seconds * 1_000_000_000 + nanoseconds, payload))
    return packets


def write_packets(path, packets):
    path.write_bytes(b"".join(struct.pack("<qI", stamp_ns, len(payload)) + payload for stamp_ns, payload in packets))
    return path


def span_s(stamps_ns):
    """How long the lidar took for the packets: one more than there are gaps."""
    return (stamps_ns[-1] - stamps_ns[0]) * 1e-9 * len(stamps_ns) / (len(stamps_ns) - 1)


def velodyne(folder):
    packets = bag_packets(next((LIDAR / "packets_velodyne" / "vlp16").glob("*/*.db3")), False)
    config = velodyne_decoder.Config(
        model=velodyne_decoder.Model.VLP16, min_range=0, max_range=1000, min_angle=0, max_angle=360
    )
    decoder = velodyne_decoder.ScanDecoder(config)
    whole = velodyne_decoder.PacketVector(
        [velodyne_decoder.VelodynePacket(stamp_ns * 1e-9, list(payload)) for stamp_ns, payload in packets]
    )
    words = ["velodyne", write_packets(folder / "packets", packets)]
    # the packets' own time: microseconds past the hour
    times_ns = [struct.unpack_from("<I", payload, 1200)[0] * 1000 for _, payload in packets]
    return words, {"velodyne-decoder": timed(lambda: len(decoder.decode(whole)[1]))}, span_s(times_ns)


XT32 = np.dtype([
    ("header", "u1", 12),
    ("blocks", [("azimuth", "<u2"), ("channels", [("distance", "<u2"), ("intensity", "u1"), ("reserved", "u1")], 32)], 8),
    ("tail", "u1", 10),
    ("mode", "u1"),
    ("speed", "<u2"),
    ("date", "u1", 6),
    ("micros", "<u4"),
    ("factory", "u1"),
])  # fmt: skip


def xt32_numpy(packets):
    """All packets at once, in single precision, sines from a table of hundredths of a degree."""
    angles = np.deg2rad(np.arange(36_000) * 0.01)
    sines, cosines = np.sin(angles).astype(np.float32), np.cos(angles).astype(np.float32)
    elevations = np.deg2rad(15.0 - np.arange(32))
    flat, up = (np.cos(elevations) * 0.004).astype(np.float32), (np.sin(elevations) * 0.004).astype(np.float32)
    shots_s = ((np.arange(32) * 1.512 + 0.368) * 1e-6).astype(np.float32)
    pairs_s = ((np.arange(8) // 2 - 3) * 50e-6 + 5.632e-6).astype(np.float32)
    raw = b"".join(payload[: XT32.itemsize] for _, payload in packets)
    rings = np.broadcast_to(np.arange(31, -1, -1, dtype=np.uint16), (len(packets), 8, 32))

    def work():
        found = np.frombuffer(raw, XT32)
        blocks = found["blocks"]
        distances = blocks["channels"]["distance"]
        there = distances > 0
        level = distances * flat
        azimuths = blocks["azimuth"]
        x = (level * sines[azimuths][..., None])[there]
        y = (level * cosines[azimuths][..., None])[there]
        z = (distances * up)[there]
        seconds = found["micros"] * np.float64(1e-6)
        times = np.broadcast_to(seconds[:, None, None] + (pairs_s[:, None] + shots_s), distances.shape)[there]
        points = (x, y, z, times, blocks["channels"]["intensity"][there], rings[there])
        return len(points[0])

    return work


def xt32_hydra4(packets):
    from hydra4.decoders import PandarXT32
    from hydra4.hydra4 import Hydra

    decoder = PandarXT32(Hydra.Model.PandarXT32.calibration_path, 0.0, 1000.0)

    class Packet:
        def __init__(self, payload):
            self.data = payload

    packets = [Packet(payload) for _, payload in packets[:40]]
    return lambda: sum(len(block.points) for packet in packets for block in decoder(packet))


def hesai(folder):
    packets = bag_packets(next((LIDAR / "packets_hesai" / "xt32").glob("*/*.db3")), True)
    peers = {"NumPy": timed(xt32_numpy(packets))}
    try:
        loop = xt32_hydra4(packets)
    except ImportError as error:
        print(f"without hydra4: {error}", file=sys.stderr)
    else:
        one_pass = timed(loop)

        def scaled():
            # of 40 packets, whose first blocks are half of what they hold
            found = one_pass()
            return {**found, "ns": found["ns"] * len(packets) / 40}

        peers["hydra4"] = scaled
    words = ["hesai", write_packets(folder / "packets", packets)]
    times_ns = [int(np.frombuffer(payload[: XT32.itemsize], XT32)["micros"][0]) * 1000 for _, payload in packets]
    return words, peers, span_s([times_ns[0], *(ns + 1_000_000_000 * (ns < times_ns[0]) for ns in times_ns[1:])])


def ouster(metadata, capture):
    def prepared(folder):
        path = LIDAR / "packets_ouster" / metadata
        info = core.SensorInfo(path.read_text())
        layout = core.PacketFormat(info)
        stream = [packet for _, packet in pcap.PcapPacketSource(str(LIDAR / "packets_ouster" / capture), sensor_info=[info])]
        lidar = [packet for packet in stream if isinstance(packet, core.LidarPacket)]
        words = ["ouster", path, write_packets(folder / "packets", [(0, bytes(packet.buf)) for packet in lidar])]
        place = core.XYZLut(info, use_extrinsics=False)
        frame = core.LidarScan(info)
        has_second = "RANGE2" in frame.fields

        def work():
            batcher = core.ScanBatcher(info)
            count = 0
            for packet in lidar:
                if batcher(packet, frame):
                    count += len(place(frame))
                    if has_second:
                        count += len(place(frame.field("RANGE2")))
            return count

        stamps_ns = [int(layout.packet_header(core.ColHeader.TIMESTAMP, packet.buf)[0]) for packet in lidar]
        return words, {"ouster-sdk": timed(work)}, span_s(stamps_ns)

    return prepared


CASES = {
    "VLP-16": velodyne,
    "PandarXT-32": hesai,
    "OS-0-32 dual": ouster("OS-0-32-U1_v2.2.0_1024x10.json", "OS-0-32-U1_v2.2.0_1024x10.pcap"),
    "OS-1-128 low bandwidth": ouster("OS-1-128_v2.3.0_1024x10.json", "OS-1-128_v2.3.0_1024x10_lb_n3.pcap"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(CASES)}; without any all")
    parser.add_argument("--binary", type=Path, default=BINARY)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, help="where the results go as JSON")
    arguments = parser.parse_args()
    print(f"{machine()}, {arguments.rounds} rounds of 5 passes, velodyne-decoder {velodyne_decoder.__version__}")
    print(f"{'packets':<24}{'side':<18}{'made':>8}{'us a pass':>11}{'M points/s':>12}{'x real time':>13}{'ratio':>8}")
    results = []
    for name in arguments.cases or CASES:
        with tempfile.TemporaryDirectory() as folder:
            words, peers, seconds = CASES[name](Path(folder))
            with Ours(arguments.binary, *words) as ours:
                found = alternate({"catseye": ours, **peers}, arguments.rounds, passes=5)
        points = found["catseye"]["outputs"]
        for side, one in found.items():
            ratio = one["ns"] / found["catseye"]["ns"]
            result = {
                "packets": name,
                "side": side,
                "made": one["outputs"],
                "ns": one["ns"],
                "points_per_s": points / one["ns"] * 1e9,
                "real_time": seconds * 1e9 / one["ns"],
                "ratio": ratio,
            }
            results.append(result)
            print(
                f"{name:<24}{side:<18}{one['outputs']:>8}{one['ns'] / 1e3:>11.0f}{result['points_per_s'] / 1e6:>12.1f}"
                f"{result['real_time']:>13.0f}{ratio:>8.2f}"
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
