#!/usr/bin/env python3
"""The Python peer of `catseye replay`: OpenCV and ONNX Runtime, written as well as that pair allows.

Reads a video or a folder of pictures, finds objects with YOLOX and prints one line of JSON: frames, seconds, objects.
Capture and decoding run in a thread of their own behind a bounded queue, so they overlap with the network. The network's
input and output are bound once and reused, the picture is scaled straight into the middle of a reused canvas, and what
follows the network is NumPy without a loop over anchors. The clock runs from before the first picture is read to after
the last one's objects are known; imports, loading the model and one run to warm it up are outside.
"""

import argparse
import json
import queue
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort

STRIDES = (8, 16, 32)
GREY = 114
QUEUE_DEPTH = 4
PICTURES = {".jpg", ".jpeg", ".png"}


class Source(threading.Thread):
    """Reads pictures ahead into a bounded queue; `None` ends it."""

    def __init__(self, path, limit):
        super().__init__(daemon=True)
        self.path = path
        self.limit = limit
        self.queue = queue.Queue(QUEUE_DEPTH)
        self.error = None

    def run(self):
        try:
            for count, picture in enumerate(self.pictures()):
                if count == self.limit:
                    break
                self.queue.put(picture)
        except Exception as error:  # reported by the thread that waits for pictures
            self.error = error
        finally:
            self.queue.put(None)

    def pictures(self):
        if self.path.is_dir():
            return self.stills()
        return self.video()

    def stills(self):
        for file in sorted(file for file in self.path.iterdir() if file.suffix.lower() in PICTURES):
            picture = cv2.imread(str(file), cv2.IMREAD_COLOR)
            if picture is None:
                raise ValueError(f"{file}: not a picture")
            yield picture

    def video(self):
        capture = cv2.VideoCapture(str(self.path))
        if not capture.isOpened():
            raise ValueError(f"{self.path}: not a video")
        while True:
            good, picture = capture.read()
            if not good:
                return
            yield picture

    def __iter__(self):
        while (picture := self.queue.get()) is not None:
            yield picture
        if self.error:
            raise self.error


class Detector:
    """YOLOX on the CPU with buffers that are made once."""

    def __init__(self, model, threads, score_threshold, iou_threshold):
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        self.session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self.score_threshold = score_threshold
        self.iou_threshold = iou_threshold

        (network_input,) = self.session.get_inputs()
        (network_output,) = self.session.get_outputs()
        _, _, self.height, self.width = network_input.shape
        self.canvas = np.full((self.height, self.width, 3), GREY, np.uint8)
        self.scaled_size = None
        self.planes = np.empty((1, 3, self.height, self.width), np.float32)
        self.cells, self.strides = grid(self.width, self.height)
        self.rows = np.empty((1, *network_output.shape[1:]), np.float32)

        self.binding = self.session.io_binding()
        bind(self.binding.bind_input, network_input.name, self.planes)
        bind(self.binding.bind_output, network_output.name, self.rows)
        self.session.run_with_iobinding(self.binding)

    def detect(self, picture):
        """Boxes (left, top, right, bottom in the picture's pixels), scores and classes."""
        scale = self.preprocess(picture)
        self.session.run_with_iobinding(self.binding)
        return self.decode(self.rows[0], scale)

    def preprocess(self, picture):
        height, width = picture.shape[:2]
        scale = min(self.width / width, self.height / height)
        size = (int(width * scale), int(height * scale))
        if size != self.scaled_size:
            self.canvas[:] = GREY
            self.scaled_size = size
        inside = self.canvas[: size[1], : size[0]]
        cv2.resize(picture, size, dst=inside, interpolation=cv2.INTER_LINEAR)
        for plane, channel in zip(self.planes[0], cv2.split(self.canvas)):
            np.copyto(plane, channel)
        return scale

    def decode(self, rows, scale):
        # class scores are at most 1: where the objectness does not pass, nothing can
        (anchors,) = np.nonzero(rows[:, 4] > self.score_threshold)
        rows = rows[anchors]
        class_scores = rows[:, 5:] * rows[:, 4:5]
        classes = class_scores.argmax(axis=1)
        scores = class_scores[np.arange(len(rows)), classes]
        passed = scores > self.score_threshold
        rows, classes, scores, anchors = rows[passed], classes[passed], scores[passed], anchors[passed]
        strides = self.strides[anchors]
        middles = (rows[:, :2] + self.cells[anchors]) * strides
        halves = 0.5 * np.exp(rows[:, 2:4]) * strides
        boxes = np.concatenate([middles - halves, middles + halves], axis=1) / scale
        kept = self.suppress(boxes, scores, classes)
        return boxes[kept], scores[kept], classes[kept]

    def suppress(self, boxes, scores, classes):
        """Greedy suppression within each class: one matrix of overlaps, then a row per box that is kept."""
        order = np.argsort(-scores, kind="stable")
        boxes, classes = boxes[order], classes[order]
        left_top = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
        right_bottom = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
        shared = np.clip(right_bottom - left_top, 0, None).prod(axis=2)
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        repeats = shared > self.iou_threshold * (areas[:, None] + areas[None, :] - shared)
        repeats &= classes[:, None] == classes[None, :]
        alive = np.ones(len(order), bool)
        kept = []
        for index in range(len(order)):
            if alive[index]:
                kept.append(order[index])
                alive &= ~repeats[index]
        return np.array(kept, dtype=np.intp)


def grid(width, height):
    """Column and row of every anchor's cell, and its stride."""
    cells, strides = [], []
    for stride in STRIDES:
        columns, rows = np.meshgrid(np.arange(width // stride), np.arange(height // stride))
        cells.append(np.stack([columns.ravel(), rows.ravel()], axis=1))
        strides.append(np.full((columns.size, 1), stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(strides).astype(np.float32)


def bind(how, name, array):
    how(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path, help="a video or a folder of pictures")
    parser.add_argument("--model", type=Path, required=True, help="YOLOX as ONNX, with a fixed input size")
    parser.add_argument("--threads", type=int, default=2, help="threads of the network")
    parser.add_argument("--score", type=float, default=0.3, help="least score of an object")
    parser.add_argument("--iou", type=float, default=0.45, help="largest overlap of two objects of a class")
    parser.add_argument("--limit", type=int, default=-1, help="most pictures")
    arguments = parser.parse_args()

    detector = Detector(arguments.model, arguments.threads, arguments.score, arguments.iou)
    source = Source(arguments.path, arguments.limit)
    frames = objects = 0
    start = time.perf_counter()
    source.start()
    for picture in source:
        boxes, _, _ = detector.detect(picture)
        frames += 1
        objects += len(boxes)
    wall_s = time.perf_counter() - start
    print(json.dumps({"ticks": frames, "wall_s": wall_s, "objects": objects}))


if __name__ == "__main__":
    main()
