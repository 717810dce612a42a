"""Labelled pictures, as `catseye sim --stills` writes them: read once, kept on the GPU, changed there batch by batch.

A folder holds NNNNNN.jpg (the picture), NNNNNN.png (0 other, 1 drivable, 2 lane marking) and NNNNNN.txt, one thing a
line: `class left top right bottom occluded truncated pixels distance_m`, edges in pixels, 0 at the picture's left and
top edge.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.nn import functional as F

NAMES = ("car", "truck", "cyclist", "pedestrian")
GREY = 114
# things that are too small or too hidden to be seen are neither wanted nor held against the network
MIN_PIXELS = 12
MAX_OCCLUDED = 0.85
MIN_SIDE_PX = 2.0
MIN_VISIBLE = 0.3
MAX_THINGS = 48
LANE_AREA = 0.3


def stems(folder):
    """The pictures of a folder without their endings, in order."""
    found = sorted(path.with_suffix("") for path in Path(folder).glob("*.jpg"))
    if not found:
        raise SystemExit(f"{folder}: expected pictures named NNNNNN.jpg, found none")
    return found


def read_things(path):
    """The lines of a label file [things, 9]."""
    rows = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        values = line.split()
        if not values:
            continue
        if len(values) != 9:
            raise SystemExit(f"{path}:{number}: expected 9 values, found {len(values)}")
        if values[0] not in NAMES:
            raise SystemExit(f"{path}:{number}: expected one of {', '.join(NAMES)}, found {values[0]}")
        rows.append([NAMES.index(values[0])] + [float(value) for value in values[1:]])
    return np.array(rows, np.float32).reshape(-1, 9)


def read_picture(path):
    """A picture in RGB."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise SystemExit(f"{path}: expected a picture")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def read_masks(path, size):
    """Drivable area, which lane markings are part of, and lane markings, as 0 and 1 at this size."""
    mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise SystemExit(f"{path}: expected a mask")
    drivable = cv2.resize((mask > 0).astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.5
    lanes = cv2.resize((mask == 2).astype(np.float32), size, interpolation=cv2.INTER_AREA) > LANE_AREA
    return drivable.astype(np.uint8), lanes.astype(np.uint8)


def is_counted(things):
    """Which things the network is asked for."""
    return (things[:, 7] >= MIN_PIXELS) & (things[:, 5] <= MAX_OCCLUDED)


def load(folder, width, height, device):
    """All of a folder: pictures, masks (1 drivable, 2 marking, added), boxes in network pixels, labels (-1: none)."""
    found = stems(folder)
    count = len(found)
    pictures = np.empty((count, 3, height, width), np.uint8)
    masks = np.empty((count, height, width), np.uint8)
    boxes = np.zeros((count, MAX_THINGS, 4), np.float32)
    labels = np.full((count, MAX_THINGS), -1, np.int64)
    counted = np.zeros((count, MAX_THINGS), bool)

    def read(index):
        stem = found[index]
        picture = read_picture(stem.with_suffix(".jpg"))
        scale = np.array([width / picture.shape[1], height / picture.shape[0]] * 2, np.float32)
        # catseye resizes as INTER_LINEAR does, to the bit; half of the pictures come smoother, as from other cameras
        method = cv2.INTER_LINEAR if index % 2 else cv2.INTER_AREA
        pictures[index] = cv2.resize(picture, (width, height), interpolation=method).transpose(2, 0, 1)
        drivable, lanes = read_masks(stem.with_suffix(".png"), (width, height))
        masks[index] = drivable + 2 * lanes
        things = read_things(stem.with_suffix(".txt"))
        # the largest, if there are too many
        things = things[np.argsort(-things[:, 7], kind="stable")][:MAX_THINGS]
        boxes[index, : len(things)] = things[:, 1:5] * scale
        labels[index, : len(things)] = things[:, 0].astype(np.int64)
        counted[index, : len(things)] = is_counted(things)

    cv2.setNumThreads(1)
    # OpenCV works outside of Python's lock, so threads are enough
    with ThreadPoolExecutor(min(32, os.cpu_count() or 1)) as pool:
        for _ in pool.map(read, range(count)):
            pass
    if labels.max() >= len(NAMES):
        raise SystemExit(f"{folder}: expected classes 0 to {len(NAMES) - 1}, found {labels.max()}")
    most = max(1, int((labels >= 0).sum(1).max()))
    arrays = {
        "pictures": pictures,
        "masks": masks,
        "boxes": boxes[:, :most],
        "labels": labels[:, :most],
        "counted": counted[:, :most],
    }
    return {name: torch.from_numpy(np.ascontiguousarray(array)).to(device) for name, array in arrays.items()}


class Augment:
    """Makes batches of changed pictures, all on one device, from one seed."""

    def __init__(self, data, seed):
        self.data = data
        self.count, _, self.height, self.width = data["pictures"].shape
        self.device = data["pictures"].device
        self.random = torch.Generator(self.device).manual_seed(seed)
        self.order = torch.empty(0, dtype=torch.int64, device=self.device)
        # constants are made once: a copy to the GPU waits for all that runs there
        self.size = torch.tensor([self.width, self.height], dtype=torch.float32, device=self.device)
        self.x = torch.arange(self.width, device=self.device) + 0.5
        self.y = torch.arange(self.height, device=self.device) + 0.5
        to_yiq = torch.tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
        self.to_yiq, self.from_yiq = to_yiq.to(self.device), torch.linalg.inv(to_yiq).to(self.device)
        # how much is changed: 1 all, 0 nothing but sides mirrored
        self.strength = 1.0

    def uniform(self, low, high, *shape):
        return torch.rand(shape, generator=self.random, device=self.device) * (high - low) + low

    def chance(self, share, *shape):
        return torch.rand(shape, generator=self.random, device=self.device) < share

    def next(self, size):
        """The next batch; every picture is seen once before any is seen again."""
        while len(self.order) < size:
            more = torch.randperm(self.count, generator=self.random, device=self.device)
            self.order = torch.cat([self.order, more])
        chosen, self.order = self.order[:size], self.order[size:]
        data = {name: values[chosen] for name, values in self.data.items()}
        return self.change(data)

    def change(self, data):
        """Moves, recolours, covers and frames the pictures."""
        count = len(data["labels"])
        mask = data["masks"]
        layers = torch.cat(
            [data["pictures"].float() / 255, (mask & 1).float().unsqueeze(1), ((mask >> 1) & 1).float().unsqueeze(1)], 1
        )
        layers, boxes, window = self.move(layers, data["boxes"])
        pictures, drivable, lanes = layers[:, :3], layers[:, 3] > 0.5, layers[:, 4] > 0.4
        pictures = self.recolour(pictures)
        pictures, boxes_covered = self.cover(pictures, boxes)
        # what lies outside of the picture is grey and nothing
        left, top, right, bottom = window.unbind(1)
        across = (self.x >= left[:, None]) & (self.x <= right[:, None])
        within = across[:, None, :] & ((self.y >= top[:, None]) & (self.y <= bottom[:, None]))[:, :, None]
        pictures = torch.where(within[:, None], pictures, GREY / 255)
        low, high = window[:, None, :2], window[:, None, 2:]
        corners = (boxes[..., :2], boxes[..., 2:])
        clipped = torch.cat([torch.minimum(torch.maximum(corner, low), high) for corner in corners], -1)
        side, whole = clipped[..., 2:] - clipped[..., :2], (boxes[..., 2:] - boxes[..., :2]).prod(-1)
        visible = side.prod(-1) / whole.clamp(min=1e-6)
        labels = torch.where((side > 0).all(-1), data["labels"], -1)
        counted = data["counted"] & (labels >= 0) & (side >= MIN_SIDE_PX).all(-1)
        counted &= (visible >= MIN_VISIBLE) & (boxes_covered < 0.7)
        return {
            "pictures": pictures.contiguous(memory_format=torch.channels_last),
            "drivable": (drivable & within).float().reshape(count, self.height, self.width),
            "lanes": (lanes & within).float().reshape(count, self.height, self.width),
            "boxes": clipped,
            "labels": labels,
            "counted": counted,
        }

    def move(self, layers, boxes):
        """Mirrors, scales and shifts; also gives the part of the frame that the picture then fills."""
        count, size, strength = len(layers), self.size, self.strength
        flip = self.chance(0.5, count)
        zoom, stretch = self.uniform(-0.515, 0.485, count, 1), self.uniform(-0.1, 0.1, count, 2)
        scale = torch.exp2(strength * (zoom + stretch))
        scale = torch.where(self.chance(0.25, count, 1), 1.0, scale)
        shift = size * (1 - scale) * self.uniform(0, 1, count, 2)
        matrix = torch.zeros(count, 2, 3, device=self.device)
        matrix[:, 0, 0], matrix[:, 1, 1] = 1 / scale[:, 0], 1 / scale[:, 1]
        matrix[:, :, 2] = 1 / scale - 2 * shift / (scale * size) - 1
        matrix[:, 0] *= torch.where(flip, -1.0, 1.0)[:, None]
        grid = F.affine_grid(matrix, list(layers.shape), align_corners=False)
        layers = F.grid_sample(layers, grid, padding_mode="border", align_corners=False)
        left, right = boxes[..., 0], boxes[..., 2]
        mirrored = torch.stack([self.width - right, boxes[..., 1], self.width - left, boxes[..., 3]], -1)
        boxes = torch.where(flip[:, None, None], mirrored, boxes)
        boxes = boxes * scale.repeat(1, 2)[:, None] + shift.repeat(1, 2)[:, None]
        # cameras of another shape leave bars at two sides
        bars = self.uniform(0, 0.22, count, 1) * self.chance(0.15 * strength, count, 1) * size
        side = self.chance(0.3, count)[:, None]
        bars = torch.stack([bars[:, 0] * side[:, 0], bars[:, 1] * ~side[:, 0]], 1)
        low = torch.maximum(shift, bars)
        high = torch.minimum(shift + size * scale, size - bars)
        return layers, boxes, torch.cat([low, high], 1)

    def recolour(self, pictures):
        """Light, contrast, colour, gamma, blur and noise."""
        count, strength = len(pictures), self.strength
        # hue turns around the grey axis in YIQ, saturation scales around it
        hue = strength * self.uniform(-0.3, 0.3, count)
        saturation = (1 + strength * self.uniform(-0.6, 0.6, count)) * ~self.chance(0.06 * strength, count)
        turn = torch.zeros(count, 3, 3, device=self.device)
        turn[:, 0, 0] = 1
        turn[:, 1, 1] = turn[:, 2, 2] = saturation * hue.cos()
        turn[:, 1, 2], turn[:, 2, 1] = -saturation * hue.sin(), saturation * hue.sin()
        gains = torch.diag_embed(1 + strength * self.uniform(-0.1, 0.1, count, 3))
        colour = gains @ self.from_yiq @ turn @ self.to_yiq
        pictures = torch.einsum("nij,njhw->nihw", colour, pictures)
        middle = torch.einsum("nchw,c->nhw", pictures, self.to_yiq[0]).mean((1, 2)).reshape(count, 1, 1, 1)
        contrast, light = (1 + strength * self.uniform(-0.4, 0.4, count, 1, 1, 1) for _ in range(2))
        pictures = ((pictures - middle) * contrast + middle * light).clamp(0, 1)
        gamma = torch.exp2(strength * self.uniform(-0.7, 0.7, count, 1, 1, 1))
        pictures = (pictures + 1e-4).pow(gamma)
        for size, share in ((3, 0.4), (5, 0.1)):
            blur = self.uniform(0, 1, count, 1, 1, 1) * self.chance(share * strength, count, 1, 1, 1)
            smooth = F.avg_pool2d(pictures, size, 1, size // 2, count_include_pad=False)
            pictures = torch.lerp(pictures, smooth, blur)
        noise = strength * self.uniform(0, 0.06, count, 1, 1, 1) * self.chance(0.5, count, 1, 1, 1)
        grain = torch.randn(pictures.shape, generator=self.random, device=self.device)
        return (pictures + grain * noise).clamp(0, 1)

    def cover(self, pictures, boxes):
        """Covers up to two parts of each picture; also gives the covered share of each box."""
        count = len(pictures)
        covered = torch.zeros(boxes.shape[:2], device=self.device)
        for _ in range(2):
            half = self.uniform(0.01, 0.1, count, 2) * self.size * self.chance(0.4 * self.strength, count, 1)
            middle = self.uniform(0, 1, count, 2) * self.size
            low, high = middle - half, middle + half
            across = (self.x > low[:, 0:1]) & (self.x < high[:, 0:1])
            hole = across[:, None, :] & ((self.y > low[:, 1:2]) & (self.y < high[:, 1:2]))[:, :, None]
            pictures = torch.where(hole[:, None], self.uniform(0, 1, count, 3, 1, 1), pictures)
            meet = torch.minimum(boxes[..., 2:], high[:, None]) - torch.maximum(boxes[..., :2], low[:, None])
            area = (boxes[..., 2:] - boxes[..., :2]).prod(-1).clamp(min=1e-6)
            covered += meet.clamp(min=0).prod(-1) / area
        return pictures, covered
