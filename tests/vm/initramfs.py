#!/usr/bin/env python3
"""initramfs.py KERNEL OUT.gz BUSYBOX MODULES INIT [HOST:GUEST ...]

Packs the first file system of a virtual machine (cpio, "newc"): BusyBox, kernel modules with all that they depend on, in the order in
which they are to be loaded (/modules), and files. KERNEL is an unpacked package of Debian's kernel. Needs no root."""

import glob
import gzip
import os
import re
import sys


def find_modules(kernel):
    found = {}
    for folder, _, files in os.walk(glob.glob(f"{kernel}/lib/modules/*")[0]):
        found.update({f[:-3].replace("-", "_"): os.path.join(folder, f) for f in files if f.endswith(".ko")})
    return found


def in_order(wanted, found):
    """The modules and what they depend on, by the `depends=` that each file carries."""
    order = []

    def visit(name):
        name = name.replace("-", "_")
        if name in order:
            return
        with open(found[name], "rb") as file:
            depends = re.search(rb"\x00depends=([^\x00]*)\x00", file.read())
        for other in depends.group(1).decode().split(",") if depends else []:
            if other:
                visit(other)
        order.append(name)

    for name in wanted:
        visit(name)
    return order


class Archive:
    def __init__(self):
        self.bytes, self.number, self.seen = bytearray(), 0, set()

    def entry(self, path, mode, data=b"", device=(0, 0)):
        self.number += 1
        name = path.encode() + b"\0"
        fields = (self.number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name), 0)
        head = b"070701" + b"".join(b"%08x" % field for field in fields) + name
        self.bytes += head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)

    def add(self, path, mode, data=b"", device=(0, 0)):
        path = path.lstrip("/")
        if path in self.seen:
            return
        self.seen.add(path)
        if os.path.dirname(path):
            self.add(os.path.dirname(path), 0o040755)
        self.entry(path, mode, data, device)


def read(path):
    with open(os.path.realpath(path), "rb") as file:
        return file.read()


def main():
    kernel, out, busybox, wanted, init, *files = sys.argv[1:]
    archive, found = Archive(), find_modules(kernel)
    for folder in ("proc", "sys", "dev", "tmp", "bin", "lib/mod"):
        archive.add(folder, 0o040755)
    archive.add("dev/console", 0o020600, device=(5, 1))
    archive.add("bin/busybox", 0o100755, read(busybox))
    archive.add("bin/sh", 0o120777, b"busybox")
    archive.add("init", 0o100755, read(init))
    order = in_order(wanted.split(","), found)
    for name in order:
        archive.add(f"lib/mod/{name}.ko", 0o100644, read(found[name]))
    archive.add("modules", 0o100644, "".join(f"{name}\n" for name in order).encode())
    for pair in files:
        host, guest = pair.split(":")
        archive.add(guest, 0o100755, read(host))
    archive.entry("TRAILER!!!", 0)
    with open(out, "wb") as file:
        file.write(gzip.compress(bytes(archive.bytes), 3, mtime=0))


if __name__ == "__main__":
    main()
