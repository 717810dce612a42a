"""Measures a network on labelled pictures, through ONNX Runtime and with catseye's own way of preparing pictures.

Writes metrics.json and example pictures: the best and the worst.
"""

import argparse
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

from data import GREY, NAMES, is_counted, read_masks, read_picture, read_things, stems

# from and to which distance things count: in all, then near and far ones for themselves
BANDS_M = ((0.0, 40.0), (0.0, 20.0), (20.0, 40.0))
MIN_SCORE = 0.01
SHOWN_SCORE = 0.3
NMS_IOU = 0.5
MATCH_IOU = 0.5
MAX_DETECTIONS = 100
EXAMPLES = 8
COLOURS = ((80, 220, 80), (255, 160, 40), (60, 160, 255), (255, 80, 160))


def session(path, threads=1):
    """The network, on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def letterbox(picture, width, height):
    """The network's input, and scale, left and top of the picture in it: centred, grey 114, linear, RGB, 0 to 1."""
    rows, columns = picture.shape[:2]
    scale = min(height / rows, width / columns)
    inner = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    canvas = np.full((height, width, 3), GREY, np.uint8)
    canvas[top : top + inner[1], left : left + inner[0]] = cv2.resize(picture, inner, interpolation=cv2.INTER_LINEAR)
    values = canvas.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)
    return np.ascontiguousarray(values), (scale, left, top, inner)


def overlaps(a, b):
    """Intersection over union, and intersection over a's area, of all pairs of boxes."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:4], b[None, :, 2:4])
    meet = np.clip(high - low, 0, None).prod(2)
    area_a, area_b = (a[:, 2:4] - a[:, :2]).prod(1), (b[:, 2:4] - b[:, :2]).prod(1)
    return meet / np.maximum(area_a[:, None] + area_b[None] - meet, 1e-9), meet / np.maximum(area_a[:, None], 1e-9)


def detections(objects, scale, left, top):
    """Boxes [found, 6] in picture pixels: corners, score, class; strongest first, suppressed within a class."""
    middle, size = objects[0:2].T, objects[2:4].T
    classes = objects[4:].argmax(0)
    scores = objects[4:].max(0)
    keep = np.flatnonzero(scores > MIN_SCORE)
    keep = keep[np.argsort(-scores[keep], kind="stable")]
    offset = np.array([left, top], np.float32)
    low, high = (middle - size / 2 - offset) / scale, (middle + size / 2 - offset) / scale
    boxes = np.concatenate([low, high, scores[:, None], classes[:, None]], 1)[keep]
    kept = []
    for index in range(len(NAMES)):
        rest = boxes[boxes[:, 5] == index]
        while len(rest):
            kept.append(rest[0])
            iou, _ = overlaps(rest[:1], rest)
            rest = rest[1:][iou[0, 1:] <= NMS_IOU]
    kept = np.array(kept, np.float32).reshape(-1, 6)
    return kept[np.argsort(-kept[:, 4], kind="stable")][:MAX_DETECTIONS]


def match(found, things, band=BANDS_M[0]):
    """For each detection 1 (right), 0 (wrong) or -1 (does not count); which things count, and which were found."""
    counted = is_counted(things) & (things[:, 8] >= band[0]) & (things[:, 8] <= band[1])
    verdict = np.zeros(len(found), int)
    taken = np.zeros(len(things), bool)
    if not len(found) or not len(things):
        return verdict, counted, taken
    iou, covered = overlaps(found, things[:, 1:5])
    for index, detection in enumerate(found):
        free = counted & ~taken & (things[:, 0] == detection[5]) & (iou[index] >= MATCH_IOU)
        if free.any():
            taken[np.argmax(np.where(free, iou[index], -1))] = True
            verdict[index] = 1
        elif (~counted & ((iou[index] >= MATCH_IOU) | (covered[index] >= MATCH_IOU))).any():
            verdict[index] = -1
    return verdict, counted, taken


def average_precision(scores, right, total):
    """Area under precision over recall, precision made monotonous."""
    if not total:
        return None
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(right[order])
    precision = hits / np.arange(1, len(order) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float((precision * np.diff(hits / total, prepend=0.0)).sum())


def look(network, stem):
    """All that is measured on one picture."""
    _, _, height, width = network.get_inputs()[0].shape
    picture = read_picture(stem.with_suffix(".jpg"))
    values, (scale, left, top, inner) = letterbox(picture, width, height)
    start = time.perf_counter()
    objects, *roads = network.run(["objects", "da", "ll"], {network.get_inputs()[0].name: values})
    seconds = time.perf_counter() - start
    found = detections(objects[0], scale, left, top)
    things = read_things(stem.with_suffix(".txt"))
    bands = [match(found, things, band) for band in BANDS_M]
    verdict, counted, _ = bands[0]
    inside = (slice(top, top + inner[1]), slice(left, left + inner[0]))
    masks = [(road[0, 1] > road[0, 0])[inside] for road in roads]
    areas = []
    for mask, truth in zip(masks, read_masks(stem.with_suffix(".png"), inner)):
        areas.append(((mask & (truth > 0)).sum(), (mask | (truth > 0)).sum()))
    shown = found[:, 4] > SHOWN_SCORE
    wrong = int((verdict[shown] == 0).sum())
    seen = match(found[shown], things)[2]
    missed = int((counted & ~seen).sum())
    ious = [both / max(1, either) if either else 1.0 for both, either in areas]
    return {
        "stem": stem,
        "found": found,
        "verdicts": [verdict for verdict, _, _ in bands],
        "totals": [np.bincount(things[counted, 0].astype(int), minlength=len(NAMES)) for _, counted, _ in bands],
        "areas": np.array(areas, np.int64),
        "masks": masks,
        "wrong": wrong,
        "missed": missed,
        "right": int(seen.sum()),
        "badness": wrong + missed - 0.2 * int(seen.sum()) + 2 * (2 - ious[0] - ious[1]),
        "seconds": seconds,
    }


def tint(picture, masks):
    """Drivable area in green and markings in red over a picture."""
    size = (picture.shape[1], picture.shape[0])
    for mask, colour in zip(masks, ((60, 200, 60), (40, 40, 255))):
        whole = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
        picture[whole] = (0.6 * picture[whole] + 0.4 * np.array(colour)).astype(np.uint8)
    return picture


def frame(picture, edges, colour, text):
    """A box with words above it."""
    left, top, right, bottom = (int(round(float(edge))) for edge in edges)
    cv2.rectangle(picture, (left, top), (right, bottom), colour, 2 if text else 1)
    cv2.putText(picture, text, (left, max(12, top - 4)), cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1)


def draw(result, path):
    """Truth at the left, what was seen at the right; what does not count is thin and grey, what was missed is white."""
    stem = result["stem"]
    picture = cv2.cvtColor(read_picture(stem.with_suffix(".jpg")), cv2.COLOR_RGB2BGR)
    truth = tint(picture.copy(), read_masks(stem.with_suffix(".png"), result["masks"][0].shape[::-1]))
    seen = tint(picture.copy(), result["masks"])
    things = read_things(stem.with_suffix(".txt"))
    found = result["found"][result["found"][:, 4] > SHOWN_SCORE]
    _, counted, taken = match(found, things)
    for thing, counts, was_found in zip(things, counted, taken):
        name = f"{NAMES[int(thing[0])]} {thing[8]:.0f} m"
        frame(truth, thing[1:5], COLOURS[int(thing[0])] if counts else (160, 160, 160), name if counts else "")
        if counts and not was_found:
            frame(seen, thing[1:5], (255, 255, 255), f"missed {name}")
    for detection in found:
        label = int(detection[5])
        frame(seen, detection[:4], COLOURS[label], f"{NAMES[label]} {detection[4]:.2f}")
    for side, word in ((truth, "truth"), (seen, "seen")):
        cv2.putText(side, word, (8, side.shape[0] - 10), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 255, 255), 2)
    cv2.imwrite(str(path), np.concatenate([truth, seen], 1), [cv2.IMWRITE_JPEG_QUALITY, 88])


def precision_by_class(results, band):
    """Average precision by name of class, things counting in this band."""
    found = np.concatenate([result["found"] for result in results])
    verdict = np.concatenate([result["verdicts"][band] for result in results])
    totals = sum(result["totals"][band] for result in results)
    precision = {}
    for index, name in enumerate(NAMES):
        mine = (found[:, 5] == index) & (verdict >= 0)
        precision[name] = average_precision(found[mine, 4], verdict[mine] == 1, int(totals[index]))
    return precision, {name: int(total) for name, total in zip(NAMES, totals)}


def measure(model, folder, out, limit=None):
    """Measures on a folder, or its first so many pictures, writes metrics and examples, and gives the metrics."""
    network = session(model)
    cv2.setNumThreads(1)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        results = list(pool.map(lambda stem: look(network, stem), stems(folder)[:limit]))
    precision, things = precision_by_class(results, 0)
    areas = sum(result["areas"] for result in results)
    known = [value for value in precision.values() if value is not None]
    right, wrong, missed = (sum(result[key] for result in results) for key in ("right", "wrong", "missed"))
    metrics = {
        "pictures": len(results),
        "max_distance_m": BANDS_M[0][1],
        "things": things,
        "ap50": precision,
        "map50": float(np.mean(known)) if known else None,
        "ap50_by_distance_m": {
            f"{low:.0f}-{high:.0f}": precision_by_class(results, band)[0] for band, (low, high) in enumerate(BANDS_M)
        },
        f"precision_at_{SHOWN_SCORE}": right / max(1, right + wrong),
        f"recall_at_{SHOWN_SCORE}": right / max(1, right + missed),
        "drivable_iou": float(areas[0, 0] / max(1, areas[0, 1])),
        "lane_iou": float(areas[1, 0] / max(1, areas[1, 1])),
        "median_ms_on_one_thread": 1e3 * float(np.median([result["seconds"] for result in results])),
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    results.sort(key=lambda result: result["badness"])
    examples = min(EXAMPLES, len(results) // 2)
    for rank in range(examples):
        draw(results[rank], out / f"best_{rank}.jpg")
        draw(results[-1 - rank], out / f"worst_{rank}.jpg")
    print(json.dumps(metrics, indent=2), flush=True)
    return metrics


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--val", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder for metrics.json and examples")
    options = parser.parse_args()
    measure(options.model, options.val, options.out)


if __name__ == "__main__":
    main()
