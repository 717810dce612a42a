#!/usr/bin/env python3
"""Writes the seeds of all fuzz targets to fuzz/corpus: small files of every format, all made here, none recorded.

Run it again after a format has changed; the same script always writes the same files. It needs nothing but Python.
"""

import json
import shutil
import struct
import zlib
from pathlib import Path

CORPUS = Path(__file__).resolve().parent / "corpus"
SCENARIOS = CORPUS.parent.parent / "src/sim/scenarios"


def seed(target, name, data):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


# Pictures


def jpeg_segment(marker, body):
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def jpeg(components):
    """A grey (1) or 4:2:0 colour (3) picture of one block row: one-bit codes, all differences and coefficients zero."""
    side = 8 if components == 1 else 16
    frame = struct.pack(">BHHB", 8, side, side, components)
    scan = bytes([components])
    for number in range(1, components + 1):
        sampling = 0x22 if components == 3 and number == 1 else 0x11
        frame += bytes([number, sampling, 0])
        scan += bytes([number, 0])
    blocks = 1 if components == 1 else 6
    bits = "00" * blocks
    bits += "1" * (-len(bits) % 8)
    coded = int(bits, 2).to_bytes(len(bits) // 8, "big")
    one_code = bytes([1] + [0] * 15 + [0])
    return b"".join(
        [
            b"\xff\xd8",
            jpeg_segment(0xE0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0"),
            jpeg_segment(0xDB, b"\0" + bytes([1] * 64)),
            jpeg_segment(0xC0, frame),
            jpeg_segment(0xC4, b"\x00" + one_code + b"\x10" + one_code),
            jpeg_segment(0xDA, scan + b"\0\x3f\0"),
            coded,
            b"\xff\xd9",
        ]
    )


def png_chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(colour_type, depth, rows, extra=b""):
    height = len(rows)
    channels = {0: 1, 2: 3, 3: 1, 6: 4}[colour_type]
    width = len(rows[0]) * 8 // (channels * depth)
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = png_chunk(b"IHDR", header) + extra + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def pictures():
    seed("jpeg", "grey", jpeg(1))
    seed("jpeg", "colour", jpeg(3))
    seed("jpeg", "cut", jpeg(3)[:-2])
    seed("png", "grey", png(0, 8, [b"\x00\x80", b"\xff\x40"]))
    seed("png", "rgb", png(2, 8, [b"\xff\0\0\0\xff\0", b"\0\0\xff\xff\xff\xff"]))
    seed("png", "rgba", png(6, 8, [b"\xff\0\0\x80"]))
    seed("png", "grey16", png(0, 16, [b"\x12\x34\x56\x78"]))
    seed("png", "palette", png(3, 1, [b"\xa0"], png_chunk(b"PLTE", b"\0\0\0\xff\xff\xff")))
    # format, flags (full range, own stride), width, height, stride
    sizes = {0: 12, 1: 12, 2: 4, 3: 6, 4: 6, 5: 8, 6: 8}
    for number, size in sizes.items():
        seed("raw_picture", f"format{number}", struct.pack("<BBHHI", number, 1, 2, 2, 0) + bytes(range(size)))
    seed("raw_picture", "stride", struct.pack("<BBHHI", 0, 2, 1, 2, 8) + bytes(range(11)))


# Video


class Bits:
    """Bits as H.264 writes them."""

    def __init__(self):
        self.bits = ""

    def put(self, value, count):
        self.bits += format(value, f"0{count}b")

    def ue(self, value):
        code = format(value + 1, "b")
        self.bits += "0" * (len(code) - 1) + code

    def align(self, bit="0"):
        self.bits += bit * (-len(self.bits) % 8)

    def unit(self, header, tail=b"", stop=True):
        if stop:
            self.bits += "1"
        self.align()
        payload = int(self.bits, 2).to_bytes(len(self.bits) // 8, "big") + tail
        escaped, zeros = bytearray(), 0
        for byte in payload:
            if zeros >= 2 and byte <= 3:
                escaped.append(3)
                zeros = 0
            escaped.append(byte)
            zeros = zeros + 1 if byte == 0 else 0
        return bytes([header]) + bytes(escaped)


def sequence_parameters():
    """Constrained Baseline, level 1, one macroblock of 16 by 16 pixels."""
    bits = Bits()
    for byte in (66, 0xC0, 10):
        bits.put(byte, 8)
    bits.ue(0)  # number of the set
    bits.ue(0)  # frame numbers of 4 bits
    bits.ue(2)  # pictures are shown in decoding order
    bits.ue(0)  # no reference pictures
    bits.put(0, 1)
    bits.ue(0)  # width in macroblocks, less one
    bits.ue(0)  # height
    bits.put(0b1100, 4)  # frames only, direct inference, no cropping, no VUI
    return bits.unit(0x67)


def picture_parameters():
    bits = Bits()
    bits.ue(0)
    bits.ue(0)
    bits.put(0b00, 2)  # CAVLC
    bits.ue(0)
    bits.ue(0)
    bits.ue(0)
    bits.put(0b000, 3)
    bits.ue(0)
    bits.ue(0)
    bits.ue(0)
    bits.put(0b000, 3)
    return bits.unit(0x68)


def key_picture(grey):
    """An instantaneous refresh of one macroblock whose samples stand there as they are (I_PCM)."""
    bits = Bits()
    bits.ue(0)  # first macroblock
    bits.ue(7)  # an I slice, as are all of the picture
    bits.ue(0)
    bits.put(0, 4)  # frame number
    bits.ue(0)  # number of the refresh
    bits.put(0b00, 2)
    bits.ue(0)  # quantiser unchanged (a signed zero)
    bits.ue(25)  # I_PCM
    bits.align()
    samples = bytes([grey] * 256) + bytes([128] * 128)
    return bits.unit(0x65, tail=samples + b"\x80", stop=False)


def annex_b(*units):
    return b"".join(b"\0\0\0\1" + unit for unit in units)


def stream(*access_units):
    return b"".join(struct.pack("<H", len(unit)) + unit for unit in access_units)


def box(kind, *parts):
    body = b"".join(parts)
    return struct.pack(">I", len(body) + 8) + kind + body


def words(*values):
    return struct.pack(f">{len(values)}I", *values)


def mp4(pictures, long_offsets=False, edits=b""):
    units = [struct.pack(">I", len(unit)) + unit for unit in pictures]
    file_type = box(b"ftyp", b"isom", words(512), b"isomavc1")
    media_at = len(file_type) + 8
    sps, pps = sequence_parameters(), picture_parameters()
    configuration = bytes([1, *sps[1:4], 0xFF, 0xE1]) + struct.pack(">H", len(sps)) + sps
    configuration += b"\x01" + struct.pack(">H", len(pps)) + pps
    entry = bytearray(78)
    entry[7] = 1
    entry[24:28] = struct.pack(">HH", 16, 16)
    entry[41] = 1
    entry[74:78] = b"\0\x18\xff\xff"
    offsets = box(b"co64", words(0, 1, 0, media_at)) if long_offsets else box(b"stco", words(0, 1, media_at))
    tables = box(
        b"stbl",
        box(b"stsd", words(0, 1), box(b"avc1", bytes(entry), box(b"avcC", configuration))),
        box(b"stts", words(0, 1, len(units), 40)),
        box(b"ctts", words(0, 1, len(units), 40)),
        box(b"stss", words(0, len(units), *range(1, len(units) + 1))),
        box(b"stsc", words(0, 1, 1, len(units), 1)),
        box(b"stsz", words(0, 0, len(units), *map(len, units))),
        offsets,
    )
    duration = 40 * len(units)
    matrix = words(0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    media = box(
        b"mdia",
        box(b"mdhd", words(0, 0, 0, 1000, duration, 0x55C40000)),
        box(b"hdlr", words(0, 0), b"vide", words(0, 0, 0), b"\0"),
        box(b"minf", box(b"vmhd", words(1, 0, 0)), tables),
    )
    header = box(b"tkhd", words(3, 0, 0, 1, 0, duration, 0, 0, 0, 0), matrix, words(16 << 16, 16 << 16))
    movie_header = box(b"mvhd", words(0, 0, 0, 1000, duration, 0x10000, 0x01000000, 0, 0), matrix, words(*[0] * 6, 2))
    return file_type + box(b"mdat", *units) + box(b"moov", movie_header, box(b"trak", header, edits, media))


def videos():
    parameters = (sequence_parameters(), picture_parameters())
    grey, dark = key_picture(120), key_picture(40)
    seed("h264", "one_picture", stream(annex_b(*parameters, grey)))
    seed("h264", "two_pictures", stream(annex_b(*parameters, grey), annex_b(*parameters, dark)))
    seed("h264", "parameters_apart", stream(annex_b(*parameters), annex_b(grey)))
    seed("h264", "no_parameters", stream(annex_b(grey)))
    seed("mp4", "two_pictures", mp4([grey, dark]))
    seed("mp4", "long_offsets", mp4([grey], long_offsets=True))
    seed("mp4", "edits", mp4([grey], edits=box(b"edts", box(b"elst", words(0, 1, 40, 40, 0x10000)))))


# Arrays and points


def npy(description, body, version=1):
    text = description.encode()
    text += b" " * (-(len(text) + 11) % 16) + b"\n"
    length = struct.pack("<H", len(text)) if version == 1 else struct.pack("<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + body


def arrays():
    form = "{{'descr': '{}', 'fortran_order': {}, 'shape': {}, }}"
    seed("npy", "f64", npy(form.format("<f8", False, "(2, 2)"), struct.pack("<4d", 1, 2, 3, 4)))
    seed("npy", "f32_columns", npy(form.format("<f4", True, "(2, 2)"), struct.pack("<4f", 1, 2, 3, 4)))
    seed("npy", "i64", npy(form.format("<i8", False, "(3,)"), struct.pack("<3q", -1, 0, 1)))
    seed("npy", "u8", npy(form.format("|u1", False, "(3,)"), b"\1\2\3"))
    seed("npy", "bool", npy(form.format("|b1", False, "(2,)"), b"\0\1", version=2))
    seed("npy", "strings", npy(form.format("|S4", False, "(2,)"), b"ab\0\0abcd"))


def pcd(form, body, points=2):
    lines = [
        "# .PCD v0.7",
        "VERSION 0.7",
        "FIELDS x y z intensity ring",
        "SIZE 4 4 4 4 2",
        "TYPE F F F F U",
        "COUNT 1 1 1 1 1",
        f"WIDTH {points}",
        "HEIGHT 1",
        "VIEWPOINT 0 0 0 1 0 0 0",
        f"POINTS {points}",
        f"DATA {form}",
        "",
    ]
    return "\n".join(lines).encode() + body


def clouds():
    seed("cloud", "kitti", b"\0" + struct.pack("<8f", 1, 2, 3, 0.5, 4, 5, float("nan"), 0.25))
    seed("cloud", "nuscenes", b"\1" + struct.pack("<5f", 1, 2, 3, 200, 31) + b"\0")
    seed("cloud", "pcd_ascii", b"\2" + pcd("ascii", b"1 2 3 0.5 7\nnan 2 3 0.5 8\n"))
    binary = struct.pack("<4fH", 1, 2, 3, 0.5, 7) + struct.pack("<4fH", 4, 5, 6, 0.25, 8)
    seed("cloud", "pcd_binary", b"\2" + pcd("binary", binary))


# Packets of lidars


def velodyne_packet(mode, product, number):
    blocks = b""
    for block in range(12):
        group = block // 2 if mode == 0x39 else block
        blocks += struct.pack("<HH", 0xEEFF, (35000 + 480 * number + 40 * group) % 36000)
        blocks += b"".join(struct.pack("<HB", 500 + shot * (block % 2), shot) for shot in range(32))
    return blocks + struct.pack("<IBB", 1000 + 1327 * number, mode, product)


def hesai_packet(model, mode, number):
    """Of the PandarXT-32 (0) or the Pandar40P (1)."""
    packet = b"" if model else bytes([0xEE, 0xFF, 6, 1, 0, 0, 32, 8, 1, 4, 2, 1])
    for block in range(10 if model else 8):
        group = block // 2 if mode == 0x39 else block
        packet += b"\xff\xee" if model else b""
        packet += struct.pack("<H", (35900 + 160 * number + 20 * group) % 36000)
        for channel in range(40 if model else 32):
            packet += struct.pack("<HB", 500 + channel * (block % 2), channel) + (b"" if model else b"\0")
    packet += bytes(10)
    if model:
        return packet + struct.pack("<IBB6B", 556 * number, mode, 0x42, 26, 1, 2, 3, 4, 5)
    return packet + struct.pack("<BH6BIBI", mode, 600, 126, 1, 2, 3, 4, 5, 400 * number, 0x42, number)


def lidars():
    kinds = (("vlp16", 0, 0x37, 0x22), ("vlp16_dual", 0, 0x39, 0x22), ("vlp32c", 1, 0x38, 0x28))
    for name, what, mode, product in kinds:
        packets = b"".join(velodyne_packet(mode, product, number) for number in range(4))
        seed("velodyne", name, bytes([what]) + packets)
    lasers = "".join(
        f"- {{dist_correction: 0.0, laser_id: {number},\n  rot_correction: 0.01, vert_correction: {number / 100}}}\n"
        for number in range(16)
    )
    for name, model, mode in (("xt32", 0, 0x37), ("xt32_dual", 0, 0x39), ("40p", 1, 0x38), ("40p_dual", 1, 0x39)):
        seed("hesai", name, bytes([model]) + b"".join(hesai_packet(model, mode, number) for number in range(4)))
    channels = "".join(f"{channel},{16 - channel}.05,0.01\n" for channel in range(1, 33))
    seed("hesai", "csv", b"\2Channel,Elevation,Azimuth\n" + channels.encode())
    seed("velodyne", "yaml", b"\2lasers:\n" + lasers.encode() + b"num_lasers: 16\ndistance_resolution: 0.002\n")


# CDR


class Cdr:
    """A CDR message; sizes are alignments."""

    def __init__(self, big_endian=False):
        self.order = ">" if big_endian else "<"
        self.body = b""
        self.head = bytes([0, 0 if big_endian else 1, 0, 0])

    def put(self, form, *values):
        for value in values:
            size = struct.calcsize(form)
            self.body += b"\0" * (-len(self.body) % size) + struct.pack(self.order + form, value)
        return self

    def text(self, value):
        return self.put("I", len(value) + 1).raw(value.encode() + b"\0")

    def data(self, value):
        return self.put("I", len(value)).raw(value)

    def raw(self, value):
        self.body += value
        return self

    def stamp(self, seconds=1, nanoseconds=500):
        return self.put("i", seconds).put("I", nanoseconds)

    def header(self, frame="sensor"):
        return self.stamp().text(frame)

    def bytes(self):
        return self.head + self.body


def ros2_messages():
    """By the numbers of `Ros2Type::ALL`."""
    transform = [1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 1.0]
    image = Cdr().header("camera").put("I", 1, 2).text("rgb8").put("B", 0).put("I", 6).data(bytes(range(6)))
    compressed = Cdr().header("camera").text("jpeg").data(jpeg(1))
    info = Cdr().header("camera").put("I", 480, 640).text("plumb_bob").put("I", 5).put("d", *[0.1] * 5)
    info.put("d", *[1.0] * 30).put("I", 0, 0, 0, 0, 0, 0).put("B", 0)
    cloud = Cdr().header("lidar").put("I", 1, 2, 3)
    for index, name in enumerate("xyz"):
        cloud.text(name).put("I", 4 * index).put("B", 7).put("I", 1)
    cloud.put("B", 0).put("I", 12, 24).data(struct.pack("<6f", 1, 2, 3, 4, 5, 6)).put("B", 1)
    imu = Cdr(big_endian=True).header("imu").put("d", *[0.0] * 37)
    fix = Cdr().header("gnss").put("b", 0).put("H", 1).put("d", 48.0, 11.0, 500.0, *[0.0] * 9).put("B", 0)
    single = Cdr().header("map").text("odom").put("d", *transform)
    several = Cdr().put("I", 2).header("map").text("odom").put("d", *transform)
    several.header("odom").text("base_link").put("d", *transform)
    nebula = Cdr().header("lidar").put("I", 1).stamp().data(bytes(range(16)))
    velodyne = Cdr().header("lidar").put("I", 1).stamp().raw(bytes(1206))
    pandar = Cdr().header("lidar").put("I", 1).stamp().raw(bytes(1500)).put("I", 1080)
    names = "image compressed camera_info cloud imu fix transform transforms nebula velodyne pandar".split()
    messages = [image, compressed, info, cloud, imu, fix, single, several, nebula, velodyne, pandar]
    return list(zip(names, (message.bytes() for message in messages)))


def cdr_messages():
    messages = ros2_messages()
    for number, (name, message) in enumerate(messages):
        seed("ros2", name, bytes([number]) + message)
    # what is read has to be as long as the payload
    payload = dict(messages)["image"]
    reads = bytes([4, 3, 9, 3, 3, 9, 0, 3, 8])
    seed("cdr", "image", reads + b"\0" * (len(payload) - len(reads)) + payload)
    payload = Cdr(big_endian=True).put("b", -1).put("H", 2).put("d", 1.5).put("B", 1).bytes()
    reads = bytes([1, 2, 5, 7])
    seed("cdr", "numbers", reads + b"\0" * (len(payload) - len(reads)) + payload)


def box_px(message):
    return message.put("f", 10.0, 20.0, 30.0, 40.0)


def free_space(message):
    return message.put("f", -0.5, 0.1).put("I", 2).put("f", 10.0, 12.0)


def lane(message):
    return message.put("f", 1.5, 0.0, 0.0, 0.0, 5.0, 40.0, 0.1).put("I", 20)


def detections():
    message = Cdr().put("H", 0).put("B", 1).put("q", 1_000_000_000).put("I", 1)
    box_px(message).put("f", 0.9).put("H", 2)
    return free_space(lane(message.put("I", 1))).bytes()


def tracker_state():
    """A car that was seen five times. Per coordinate: position, velocity, and their three (co)variances."""
    message = Cdr().put("I", 5).put("q", 1_000_000_000).put("I", 7, 1)
    message.put("I", 7).put("H", 2).put("B", 1).put("f", 0.9).put("I", 5, 0, 5).put("q", 0)
    box_px(message)
    for position in (20.0, 30.0, 20.0, 20.0):
        message.put("d", position, 0.0, 1.0, 0.0, 4.0)
    return message.bytes()


def fused_car(message):
    """A car 18 m ahead of where the vehicle started, at 8 m/s."""
    message.put("I", 3).put("H", 0).put("B", 1).put("d", 18.0, 0.3, 8.0, 0.0)
    message.put("d", 0.1, 0.0, 0.1, 0.0, 0.1, 0.0, 0.1, 0.5, 0.0, 0.5)
    message.put("f", 4.5, 1.8, 1.5, 0.9).put("I", 6).put("q", 1_000_000_000)
    return message.put("B", 0).put("H", 0).put("I", 7)


def filter_state(message):
    """Ego motion (value, rate, stamp, priority of speed and yaw rate), pose, and one car."""
    message.put("q", 1_000_000_000)
    for value in (10.0, 0.02):
        message.put("d", value, 0.0).put("q", 990_000_000).put("B", 2)
    return fused_car(message.put("d", 9.0, 0.1, 0.02).put("I", 3, 1))


def fuse_state():
    """One camera, one car in both states, and its last measurement between them."""
    message = filter_state(filter_state(Cdr())).put("q", 500_000_000)
    message.put("I", 1).put("q", 1_000_000_000).put("H", 0).put("I", 7).put("B", 2).put("d", 0.0).put("B", 0)
    message.put("I", 1).put("d", 9.0, 0.2, 0.1, 0.0, 0.1).put("f", 4.5, 1.8, 1.5).put("H", 0).put("f", 0.9)
    message.put("I", 7).put("B", 1, 0)
    return message.put("I", 1).put("q", 1_000_000_000).put("Q", 9).bytes()


def followed_car():
    """The car of `fuse_state`, in a picture of 64 by 48 pixels."""
    message = Cdr().put("H", 0).put("q", 1_000_000_000).put("I", 1).put("I", 7).put("H", 0).put("B", 1)
    for _ in range(2):
        message.put("f", 28.0, 22.0, 38.0, 30.0)
    return message.put("f", 0.9).put("I", 6, 0, 6).bytes()


def radar_scan():
    return Cdr().put("I", 1).put("H", 3).put("f", 20.0, 1.0, -2.0).put("B", 1).bytes()


def can_message():
    return Cdr().put("B", 0).put("I", 0x123).put("B", 0, 0).data(bytes(range(8))).bytes()


def our_messages():
    """By the numbers of the table in `record_decode.rs`."""
    world = Cdr().put("Q", 7).put("q", 1, 2).put("B", 1).put("d", 10.0, 0.1, 0.0).put("q", 5).put("d", 0.0, 0.0, 0.0)
    world = free_space(lane(world.put("I", 0).put("I", 1))).put("I", 1).put("H", 0).put("B", 1).put("q", 5).put("Q", 9)
    plan = Cdr().put("Q", 7).put("q", 1).put("B", 1).put("f", 10.0, -1.0).put("I", 3).put("f", 20.0, 2.0, 10.0)
    track = Cdr().put("H", 0).put("q", 1).put("I", 1).put("I", 7).put("H", 2).put("B", 1)
    return [
        ("tick", Cdr().put("Q", 7).put("q", 1).put("B", 0).put("I", 1).put("H", 0).put("I", 7, 1).bytes()),
        ("drop", Cdr().put("Q", 7).put("H", 0).put("I", 3).put("q", 1).put("B", 6).bytes()),
        ("fault", Cdr().put("Q", 7).text("detect").text("no output").bytes()),
        ("digest", Cdr().put("Q", 7).text("detect").put("B", 1).put("I", 1).text("front.objects").put("Q", 1).bytes()),
        ("snapshot", Cdr().put("Q", 7).text("track").put("I", 1).data(bytes(12)).bytes()),
        ("timing", Cdr().put("Q", 7).text("detect").put("H", 0).put("q", 100, 200).bytes()),
        ("detections", detections()),
        ("tracks", box_px(box_px(track)).put("f", 0.9).put("I", 5, 0, 5).bytes()),
        ("world", world.bytes()),
        ("plan", plan.put("I", 2).put("f", 1.0, 0.0).bytes()),
        ("can", can_message()),
        ("imu", Cdr().put("d", *[0.1] * 6).bytes()),
        ("radar", radar_scan()),
        ("account", Cdr().put("H", 0).text("front").put("Q", 9, 7, 1, 1).bytes()),
        ("tracker", tracker_state()),
    ]


def records():
    for number, (name, message) in enumerate(our_messages()):
        seed("record_decode", name, bytes([number]) + message)
    state = tracker_state()
    seed("tracker_state", "one_track", struct.pack("<H", len(state)) + state + detections())
    empty = Cdr().put("I", 0).put("q", 0).put("I", 0, 0).bytes()
    seed("tracker_state", "empty", struct.pack("<H", len(empty)) + empty + detections())
    state = fuse_state()
    seed("fuse_state", "one_car", struct.pack("<H", len(state)) + state + followed_car())


# Logs


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def pb(number, value):
    """A protobuf field: int as varint, float as double, (int,) as 32 fixed bits, text and bytes by length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 1) + struct.pack("<d", value)
    if isinstance(value, tuple):
        return varint(number << 3 | 5) + struct.pack("<I", *value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def sensor_messages():
    """By the numbers of the table in `log_packet.rs`."""
    stamp = pb(1, 1) + pb(2, 500)
    raw = pb(1, stamp) + pb(7, "camera") + pb(2, (2,)) + pb(3, (1,)) + pb(4, "rgb8") + pb(5, (6,)) + pb(6, bytes(6))
    cloud = pb(1, stamp) + pb(2, "lidar") + pb(4, (12,))
    for index, name in enumerate("xyz"):
        cloud += pb(5, pb(1, name) + pb(2, (4 * index,)) + pb(3, 7))
    ros2 = dict(ros2_messages())
    return [
        ("picture", pb(1, stamp) + pb(4, "camera") + pb(2, jpeg(1)) + pb(3, "jpeg")),
        ("video", pb(1, stamp) + pb(2, "camera") + pb(3, annex_b(sequence_parameters())) + pb(4, "h264")),
        ("raw", raw),
        ("cloud", cloud + pb(6, struct.pack("<3f", 1, 2, 3))),
        ("fix", pb(6, stamp) + pb(1, 48.0) + pb(2, 11.0) + pb(3, 500.0)),
        ("can", can_message()),
        ("imu", Cdr().put("d", *[0.1] * 6).bytes()),
        ("radar", radar_scan()),
        *((f"ros2_{name}", ros2[name]) for name in ("image", "compressed", "cloud", "imu", "fix")),
    ]


MCAP_MAGIC = b"\x89MCAP0\r\n"


def mcap_text(value):
    value = value.encode()
    return struct.pack("<I", len(value)) + value


def mcap_record(opcode, body):
    return struct.pack("<BQ", opcode, len(body)) + body


def mcap_messages():
    schema = struct.pack("<H", 1) + mcap_text("catseye_msgs/msg/ImuSample") + mcap_text("ros2msg")
    schema += mcap_text("float64[3] angular_velocity_radps\nfloat64[3] acceleration_mps2\n")
    metadata = mcap_text("catseye.schema_version") + mcap_text("1")
    channel = struct.pack("<HH", 1, 1) + mcap_text("/imu") + mcap_text("cdr")
    channel += struct.pack("<I", len(metadata)) + metadata
    records = mcap_record(3, schema) + mcap_record(4, channel)
    for number in range(2):
        head = struct.pack("<HIQQ", 1, number, 1000 + number, 900 + number)
        records += mcap_record(5, head + Cdr().put("d", *[0.1] * 6).bytes())
    return records


def mcap_chunk(records, crc=None):
    crc = zlib.crc32(records) if crc is None else crc
    head = struct.pack("<QQQI", 1000, 1001, len(records), crc) + mcap_text("")
    return mcap_record(6, head + struct.pack("<Q", len(records)) + records)


def mcap(data, more=b""):
    header = mcap_record(1, mcap_text("catseye") + mcap_text("make_corpus"))
    end = mcap_record(15, struct.pack("<I", 0)) + mcap_record(2, struct.pack("<QQI", 0, 0, 0))
    return MCAP_MAGIC + header + data + more + end + MCAP_MAGIC


def logs():
    for number, (name, message) in enumerate(sensor_messages()):
        seed("log_packet", name, bytes([number]) + message)
    records = mcap_messages()
    entry = mcap_text("rig") + mcap_text("none")
    more = mcap_record(12, mcap_text("catseye:run") + struct.pack("<I", len(entry)) + entry)
    attachment = struct.pack("<QQ", 0, 0) + mcap_text("rig.toml") + mcap_text("application/toml")
    attachment += struct.pack("<Q", 4) + b"a=1\n"
    more += mcap_record(9, attachment + struct.pack("<I", zlib.crc32(attachment)))
    chunked = mcap(mcap_chunk(records), more)
    seed("log_reader", "plain", mcap(records))
    seed("log_reader", "chunked", chunked)
    seed("log_reader", "cut_in_chunk", chunked[: len(MCAP_MAGIC) + 200])
    seed("log_reader", "no_index", chunked[: -len(MCAP_MAGIC) - 10])
    seed("log_reader", "wrong_crc", mcap(mcap_chunk(records, crc=1)))
    recordings()


def mcap_metadata(name, entries):
    body = b"".join(mcap_text(key) + mcap_text(value) for key, value in entries.items())
    return mcap_record(12, mcap_text(name) + struct.pack("<I", len(body)) + body)


def recordings():
    """A file of the recorder: a gap of three numbers, two of which are declared."""
    schema = struct.pack("<H", 2) + mcap_text("catseye_msgs/msg/RecorderDrop") + mcap_text("ros2msg") + mcap_text("")
    channel = struct.pack("<HH", 2, 2) + mcap_text("/catseye/recorder/drops") + mcap_text("cdr") + struct.pack("<I", 0)
    # topic, first, last, count (aligned to 8 behind the encapsulation), reason
    drop = b"\x00\x01\x00\x00" + struct.pack("<I5s3xII4xQB", 5, b"/imu\0", 2, 3, 2, 0)
    records = mcap_messages() + mcap_record(3, schema) + mcap_record(4, channel)
    records += mcap_record(5, struct.pack("<HIQQ", 2, 0, 1001, 1001) + drop)
    late = struct.pack("<HIQQ", 1, 5, 1005, 905) + Cdr().put("d", *[0.1] * 6).bytes()
    records += mcap_record(5, late)
    begin = {"name": "drive", "started_ns": "1", "file": "1", "flush_interval_ns": "500000000", "last./imu": "4294967295"}
    begin = mcap_metadata("catseye:recording", begin)
    end = mcap_metadata("catseye:recording-end", {"another_follows": "no", "ending": "was stopped on request"})
    whole = mcap(begin + mcap_chunk(records), end)
    seed("completeness", "declared", whole)
    seed("completeness", "cut", whole[: len(whole) * 2 // 3])


# Network captures and what sensors send


def udp(payload):
    return struct.pack(">4H", 7502, 7502, len(payload) + 8, 0) + payload


def ipv4(number, flags_and_offset, payload):
    header = struct.pack(">BBHHHBBH", 0x45, 0, len(payload) + 20, number, flags_and_offset, 64, 17, 0)
    return header + bytes([10, 0, 0, 1, 10, 0, 0, 2]) + payload


def ethernet(ethertype, payload):
    return bytes(12) + struct.pack(">H", ethertype) + payload


def fragments(number, datagram, step):
    starts = range(0, len(datagram), step)
    more = [0x2000 if start + step < len(datagram) else 0 for start in starts]
    pieces = [datagram[start : start + step] for start in starts]
    return [ethernet(0x0800, ipv4(number, m | s // 8, p)) for m, s, p in zip(more, starts, pieces)]


def pcap(link, frames, order="<", magic=0xA1B2C3D4):
    file = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, link)
    for second, frame in enumerate(frames):
        file += struct.pack(order + "4I", 10 + second, 5, len(frame), len(frame)) + frame
    return file


def pcapng(frames, order="<"):
    def block(kind, body):
        length = struct.pack(order + "I", len(body) + 12)
        return struct.pack(order + "I", kind) + length + body + length

    file = block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))
    resolution = struct.pack(order + "HHB3x", 9, 1, 9)
    file += block(1, struct.pack(order + "HHI", 1, 0, 65535) + resolution + bytes(4))
    for frame in frames:
        header = struct.pack(order + "5I", 0, 1, 5, len(frame), len(frame))
        file += block(6, header + frame + bytes(-len(frame) % 4))
    return file + block(3, struct.pack(order + "I", len(frames[0])) + frames[0] + bytes(-len(frames[0]) % 4))


def captures():
    whole = ipv4(1, 0, udp(b"hello"))
    frame = ethernet(0x0800, whole)
    tagged = ethernet(0x8100, b"\0\5\x08\0" + whole)
    ipv6 = struct.pack(">IHBB", 6 << 28, 13, 17, 64) + bytes(32) + udp(b"hello")
    parts = fragments(7, udp(bytes(100)), 64)
    # the first byte says in which pieces the file comes
    seed("pcap", "ethernet", b"\xff" + pcap(1, [frame, tagged, ethernet(0x86DD, ipv6), ethernet(0x0806, bytes(28))]))
    seed("pcap", "fragments", b"\x01" + pcap(1, parts[::-1]))
    seed("pcap", "lost_fragment", b"\x02" + pcap(1, parts[:1] + [frame]))
    seed("pcap", "cooked", b"\x08" + pcap(113, [bytes(14) + b"\x08\0" + whole]))
    seed("pcap", "cooked_2", b"\x08" + pcap(276, [b"\x08\0" + bytes(18) + whole], magic=0xA1B23C4D))
    seed("pcap", "raw_big_endian", b"\x08" + pcap(101, [whole, ipv6], order=">"))
    seed("pcap", "pcapng", b"\x04" + pcapng([frame] + parts))
    seed("pcap", "pcapng_big_endian", b"\x04" + pcapng([frame], order=">"))


def ouster_metadata(profile, nested):
    form = {"column_window": [0, 15], "columns_per_frame": 16, "columns_per_packet": 8, "pixels_per_column": 2}
    form |= {"pixel_shift_by_row": [1, 0], "udp_profile_lidar": profile}
    beams = {"beam_altitude_angles": [5, -5], "beam_azimuth_angles": [2.5, -2.5]}
    beams |= {"lidar_origin_to_beam_origin_mm": 27.67}
    lidar = {"lidar_to_sensor_transform": [-1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1, 36.18, 0, 0, 0, 1]}
    imu = {"imu_to_sensor_transform": [1, 0, 0, 6.25, 0, 1, 0, -11.8, 0, 0, 1, 7.6, 0, 0, 0, 1]}
    sensor = {"prod_line": "OS-0-32-U1", "prod_sn": "7"}
    if not nested:
        return json.dumps({"data_format": form, **beams, **lidar, **imu, **sensor}).encode()
    parts = {"lidar_data_format": form, "beam_intrinsics": beams, "lidar_intrinsics": lidar}
    return json.dumps({**parts, "imu_intrinsics": imu, "sensor_info": sensor}).encode()


def ouster_packet(profile, frame, first, pixel):
    legacy = profile == "LEGACY"
    packet = b"" if legacy else struct.pack("<HH", 1, frame) + bytes([9, 0, 0, 7]) + bytes(24)
    for measurement in range(first, first + 8):
        packet += struct.pack("<QHH", 10**9 + measurement * 10**6, measurement, frame if legacy else 1)
        packet += bytes(4) + pixel * 2 + b"\xff" * 4 if legacy else pixel * 2
    return packet if legacy else packet + bytes(32)


def ousters():
    pixels = {
        "LEGACY": struct.pack("<3I", 5000, 5 | 600 << 16, 70),
        "RNG19_RFL8_SIG16_NIR16": struct.pack("<3I", 5000, 5 | 600 << 16, 70),
        "RNG19_RFL8_SIG16_NIR16_DUAL": struct.pack("<4I", 5000 | 5 << 24, 6000 | 6 << 24, 600 | 601 << 16, 70),
        "RNG15_RFL8_NIR8": struct.pack("<I", 625 | 5 << 16 | 9 << 24),
    }
    imu = struct.pack("<3Q6f", 1, 2, 3, 0, 0, 1, 0, 0, 90)
    for number, (profile, pixel) in enumerate(pixels.items()):
        places = [(1, 0), (1, 8), (2, 8), (3, 0), (2, 0)]
        packets = [ouster_packet(profile, frame, first, pixel) for frame, first in places]
        stream = b"".join(struct.pack("<H", len(packet)) + packet for packet in packets + [imu])
        seed("ouster", profile.lower(), ouster_metadata(profile, number % 2) + b"\0" + stream)


def ars548(method, entry_bytes, fill):
    """The short form in which the target takes a message: the method, how many entries, and one of them."""
    return struct.pack(">HB", method, 3) + bytes([fill]) * entry_bytes


def radars():
    seed("ars548", "detections", ars548(336, 44, 0x3F))
    seed("ars548", "objects", ars548(329, 187, 0x3F))
    seed("ars548", "not_finite", ars548(329, 187, 0x7F))
    seed("ars548", "status", ars548(380, 76, 1))
    seed("ars548", "filter", ars548(396, 322, 0))


# Texts


DBC = """VERSION ""

NS_ :

BS_:

BU_: ECU

BO_ 291 SPEED: 8 ECU
 SG_ SPEED : 7|16@0+ (0.01,0) [0|250] "km/h" ECU
 SG_ MODE M : 16|4@1+ (1,0) [0|15] "" ECU
 SG_ FIRST m0 : 24|8@1- (1,-5) [0|0] "" ECU
 SG_ SECOND m1 : 24|8@1- (0.5,0) [0|0] "" ECU

BO_ 2147483939 WIDE: 64 ECU
 SG_ REAL : 0|32@1- (1,0) [0|0] "m" ECU

CM_ SG_ 291 SPEED "of the vehicle";
VAL_ 291 MODE 0 "off" 1 "on" ;
SIG_VALTYPE_ 2147483939 REAL : 1;
"""

RIG = """schema = 1
name = "seed"

[tick]
trigger = "front"

[[camera]]
name = "front"
width_px = 64
height_px = 48
format = "jpeg"
rate_hz = 10

[camera.intrinsics]
model = "brown-conrady"
fx = 50.0
fy = 50.0
cx = 31.5
cy = 23.5

[camera.mounting]
nominal = { xyz_m = [1.8, 0.0, 1.4], rpy_deg = [-90, 0, -90] }

[[lidar]]
name = "top"
rate_hz = 10

[lidar.mounting]
nominal = { xyz_m = [1.0, 0.0, 1.8], rpy_deg = [0, 0, 0] }

[[can]]
name = "body"
dbc = ["body.dbc"]

[can.signals]
speed_mps = { signal = "SPEED.SPEED", scale = 0.25 }

[[model]]
name = "boxes"
cameras = ["front"]
"""

SOURCES = """
[[radar]]
name = "front_radar"
source = "udp://224.0.2.2:42102?interface=eth1&from=10.13.1.113&list=objects"
rate_hz = 20
mounting = { nominal = { xyz_m = [3.5, 0, 0.5], rpy_deg = [0, 0, 0] } }

[[gnss]]
name = "gnss"
source = "serial:///dev/ttyACM0?baud=9600"
rate_hz = 5
mounting = { nominal = { xyz_m = [0, 0, 1.5], rpy_deg = [0, 0, 0] } }

[[imu]]
name = "imu"
source = "can:body"
rate_hz = 100
mounting = { nominal = { xyz_m = [0, 0, 0.3], rpy_deg = [0, 0, 0] } }
signals = { angular_velocity_z_radps = "YAW.RATE" }

[[ultrasonic]]
name = "rear"
source = "can:body"
rate_hz = 10
mounting = { nominal = { xyz_m = [-1, 0, 0.5], rpy_deg = [0, 0, 180] } }
signals = { range_m = "SONAR.REAR", confidence = "SONAR.SURE", no_echo_from_m = 5.1 }
"""

F_THETA = """model = "f-theta"
cx = 31.5
cy = 23.5
angle_to_pixel = [0.0, 40.0, 0.0, 0.0, 0.0, 0.0]
linear_cde = [1.0, 0.0, 0.0]
max_angle_rad = 1.2
"""


def texts():
    seed("dbc", "signals", DBC.encode())
    seed("dbc", "latin1", DBC.replace("km/h", "°").encode("latin-1"))
    seed("rig", "brown_conrady", RIG.encode())
    brown_conrady = RIG[RIG.index("model = ") : RIG.index("\n[camera.mounting]")]
    seed("rig", "f_theta", RIG.replace(brown_conrady, F_THETA).encode())
    live = RIG.replace('name = "body"', 'name = "body"\nsource = "can0"')
    live = live.replace('name = "top"', 'name = "top"\ncalibration = "top.json"\nsource = "udp://[::]:7502"')
    seed("rig", "sources", (live + SOURCES).encode())
    seed("rig", "wrong_key", RIG.replace("rate_hz", "rate").encode())
    for scenario in sorted(SCENARIOS.glob("*.toml")):
        seed("scenario", scenario.stem, scenario.read_bytes())
    truth = "1,1,10,20,30,40,1,1,1\n2,1,12,20,30,40,1,1,1\n1,2,100,20,30,40,0,1,1\n"
    tracks = "1,5,11,20,30,40,-1,-1,-1,-1\n2,6,12,21,30,40,-1,-1,-1,-1\n"
    seed("mot_files", "truth_and_tracks", (truth + "\n" + tracks).encode())
    seed("mot_files", "one_side", truth.encode())
    seed("mot_files", "short_line", b"1,1,10,20\n")


def models():
    graph = pb(7, pb(2, "graph"))
    names = pb(14, pb(1, "names") + pb(2, "{0: 'car', 1: \"driver's van\"}"))
    seed("onnx_metadata", "names", pb(1, 8) + pb(2, "maker") + graph + names)
    seed("onnx_metadata", "bare", pb(1, 8) + graph)
    seed("onnx_metadata", "no_graph", pb(1, 8))


# Satellite receivers and clocks


def nmea(body):
    checksum = 0
    for byte in body.encode():
        checksum ^= byte
    return f"${body}*{checksum:02X}\r\n".encode()


def ubx(group, number, payload):
    body = struct.pack("<BBH", group, number, len(payload)) + payload
    a = b = 0
    for byte in body:
        a = (a + byte) & 0xFF
        b = (b + a) & 0xFF
    return b"\xb5\x62" + body + bytes([a, b])


def receivers():
    sentences = b"".join(
        nmea(body)
        for body in (
            "GPRMC,235959.50,A,4800.0,N,01100.0,E,10.0,90.0,311224,,",
            "GPGGA,235959.50,4800.0,N,01100.0,E,4,12,0.9,500.0,M,47.0,M,1.5,0001",
            "GPGLL,4800.0,N,01100.0,E,235959.50,A,D",
            "GNGSA,A,3,01,02,,,,,,,,,,,1.5,1.0,1.1",
            "GPGSV,1,1,09",
            "GPVTG,90.0,T,,M,10.0,N,18.5,K,D",
            "GPGST,235959.50,,,,,0.5,0.25,1.5",
            "GPHDT,45.0,T",
            "GPZDA,000000.50,01,01,2025,00,00",
        )
    )
    seed("gnss", "nmea", b"\x40" + sentences)
    time = struct.pack("<HBBBBBBIi", 2024, 3, 10, 12, 0, 0, 7, 20, -5)
    place = struct.pack("<iiiiII", 110000000, 480000000, 547000, 500000, 14, 20)
    motion = struct.pack("<iiiiiII", 3000, -4000, 0, 5000, 18000000, 50, 100000)
    pvt = struct.pack("<I", 1000) + time + bytes([3, 0x83, 0, 17]) + place + motion + bytes(8) + bytes(8)
    fine = struct.pack("<II", 0, 1000) + place[:16] + bytes([1, 2, 3, 4]) + place[16:]
    messages = ubx(1, 0x07, pvt) + ubx(1, 0x14, fine) + ubx(1, 0x61, struct.pack("<I", 1000))
    messages += ubx(0x0D, 0x01, struct.pack("<IIiHBB", 2000, 1 << 31, -7, 2305, 1, 0))
    seed("gnss", "ubx", b"\x07" + messages)
    older = ubx(1, 0x02, struct.pack("<I", 3000) + place)
    older += ubx(1, 0x06, struct.pack("<IihBB", 3000, 0, 2305, 3, 15) + bytes(35) + bytes([9]) + bytes(4))
    older += ubx(1, 0x12, struct.pack("<IiiiIIiII", 3000, 150, 0, 0, 150, 150, 0, 5, 100000))
    older += ubx(1, 0x21, struct.pack("<Ii", 3000, 20)[:8] + struct.pack("<iHBBBBBB", 0, 2024, 3, 10, 0, 0, 3, 7))
    seed("gnss", "older_ubx", b"\xff" + older)
    rates, forces = ((14, 4096), (13, -4096), (5, 1)), ((16, 1024), (17, -10035), (18, 0))
    word = lambda kind, value: struct.pack("<I", kind << 24 | value & 0xFFFFFF)
    inertial = b""
    for axes in (rates, ((10, 5), (12, 2500)), forces):
        words = b"".join(word(kind, value) for kind, value in axes)
        inertial += ubx(0x10, 0x02, struct.pack("<IHH", 77, len(axes) << 11, 0) + words)
    tags = (0xFFFF00, 0, 0x100)
    blocks = b"".join(word(kind, value) + struct.pack("<I", tag) for tag in tags for kind, value in rates + forces)
    inertial += ubx(0x10, 0x03, bytes(4) + blocks)
    seed("gnss", "esf", b"\x09" + inertial)
    seed("gnss", "mixture", b"\x01" + b"noise" + messages + sentences[:100] + older + sentences)
    late = [0, 3, 1, 4, 2, 5]
    for name, jitter, step in (("one_sided", 0, 0), ("symmetric", 1, 0), ("step", 0, 2000)):
        pairs = b""
        for sample in range(60):
            raw_ms = 1000 + 100 * sample + (step if sample > 30 else 0)
            arrival_ms = 9000000 + 100 * sample + late[sample % 6]
            pairs += struct.pack("<qq", raw_ms * 1000000, arrival_ms * 1000000)
        seed("clock", name, bytes([jitter]) + pairs)


# Libraries with GPU code


def fatbin_entry(kind, architecture, header=64):
    head = struct.pack("<HHIQIIHHI", kind, 0x0101, header, 8, 0, 0, 7, 1, architecture)
    return head + bytes(header - len(head)) + bytes(8)


def fatbin(*entries):
    body = b"".join(entries)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def libraries():
    section = fatbin(fatbin_entry(1, 90), fatbin_entry(2, 80)) + bytes(8) + fatbin(fatbin_entry(2, 110, 112))
    names = b"\0.nv_fatbin\0.shstrtab\0"
    headers = (64 + len(section) + len(names) + 7) // 8 * 8
    elf = b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 3, 183, 1, 0, 0, headers, 0, 64, 0, 0, 64, 3, 2)
    file = (elf + section + names).ljust(headers, b"\0") + bytes(64)
    for name, kind, at, length in [(1, 1, 64, len(section)), (12, 3, 64 + len(section), len(names))]:
        file += struct.pack("<IIQQQQIIQQ", name, kind, 0, 0, at, length, 0, 0, 0, 0)
    seed("fatbin", "section", section)
    seed("fatbin", "library", file)


def main():
    shutil.rmtree(CORPUS, ignore_errors=True)
    sensors = (pictures, videos, clouds, captures, lidars, ousters, radars, receivers)
    for make in (*sensors, arrays, cdr_messages, records, logs, texts, models, libraries):
        make()


if __name__ == "__main__":
    main()
