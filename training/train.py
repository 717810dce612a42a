"""Trains the network of `net.py` on labelled pictures and writes it as ONNX. See README.md."""

import argparse
import copy
import math
import time
from pathlib import Path

import onnx
import torch

import evaluate
from data import NAMES, Augment, load
from net import Net, losses

WIDTH, HEIGHT = 512, 288
LEARNING_RATE = 3e-3
WARM_UP = 0.05
WEIGHT_DECAY = 0.02
EMA_DECAY = 0.998
MAX_GRADIENT = 10.0
REPORT_S = 15.0
# from this share of the time on, pictures are changed less, so that the network ends on what it is for
CALM_FROM, CALM = 0.75, 0.25
SETTLE_STEPS = 50


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of pictures to learn from")
    parser.add_argument("--val", type=Path, help="folder of pictures to measure on")
    parser.add_argument("--out", type=Path, required=True, help="the ONNX file")
    parser.add_argument("--minutes", type=float, default=6.0, help="time for training, without reading and measuring")
    parser.add_argument("--steps", type=int, help="train for so many steps instead, whatever the time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


def learning_rate(progress):
    """One cycle: up in a line, down in half a cosine. Progress is 0 to 1."""
    if progress < WARM_UP:
        return LEARNING_RATE * (0.02 + 0.98 * progress / WARM_UP)
    down = min(1.0, (progress - WARM_UP) / (1 - WARM_UP))
    return LEARNING_RATE * (0.005 + 0.995 * (0.5 + 0.5 * math.cos(math.pi * down)))


class Average:
    """A copy of the network whose weights follow slowly."""

    def __init__(self, net):
        self.net = copy.deepcopy(net).eval().requires_grad_(False)
        self.steps = 0
        pairs = zip(self.net.state_dict().values(), net.state_dict().values())
        self.pairs = [(mine, theirs) for mine, theirs in pairs if mine.dtype.is_floating_point]

    @torch.no_grad()
    def update(self):
        self.steps += 1
        keep = min(EMA_DECAY, (1 + self.steps) / (10 + self.steps))
        mine, theirs = zip(*self.pairs)
        torch._foreach_lerp_(list(mine), list(theirs), 1 - keep)


def train(net, data, options):
    """Trains until time or steps are over; gives the averaged network."""
    device = torch.device(options.device)
    batches = Augment(data, options.seed)
    decayed = [weight for weight in net.parameters() if weight.ndim > 1]
    others = [weight for weight in net.parameters() if weight.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.99), fused=device.type == "cuda")
    average = Average(net)
    net.train()
    start = last_report = time.monotonic()
    step = 0
    while True:
        if step == 1:
            # the first step also chooses the GPU's programs, which is not training
            start = time.monotonic()
        now = time.monotonic()
        progress = step / options.steps if options.steps else (now - start) / (60 * options.minutes)
        if progress >= 1:
            break
        rate = learning_rate(progress)
        for group in optimizer.param_groups:
            group["lr"] = rate
        batches.strength = 1.0 if progress < CALM_FROM else CALM
        batch = batches.next(options.batch)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            outputs = net(batch["pictures"])
        total, parts = losses(net, outputs, batch)
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), MAX_GRADIENT)
        optimizer.step()
        average.update()
        step += 1
        # the clock must not run ahead of the GPU, and reading the loss waits for it
        if (step == 1 or step % 10 == 0) and not math.isfinite(total.item()):
            raise SystemExit(f"step {step}: expected finite losses, found {parts}")
        if now - last_report > REPORT_S or step == 1:
            last_report = now
            shown = "  ".join(f"{name} {value.item():.4f}" for name, value in parts.items())
            pace = step * options.batch / (time.monotonic() - start)
            print(f"{now - start:5.0f} s  step {step}  lr {rate:.5f}  {shown}  {pace:.0f} pictures/s", flush=True)
    print(f"trained {step} steps of {options.batch} pictures in {time.monotonic() - start:.0f} s", flush=True)
    batches.strength = CALM
    return settle(average.net, batches, options.batch), step


@torch.no_grad()
def settle(net, batches, size):
    """Measures means and variances of the normalisation again, with the weights that are final."""
    norms = [module for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        # a plain average over all batches
        norm.momentum = None
    net.train()
    for _ in range(SETTLE_STEPS):
        net(batches.next(size)["pictures"])
    return net.eval()


def export(net, path, seed, steps):
    """Writes the network as ONNX, with what catseye and readers want to know."""
    net = copy.deepcopy(net).float().cpu().eval().folded()
    net.export = True
    net = net.to(memory_format=torch.contiguous_format)
    torch.onnx.export(
        net,
        (torch.zeros(1, 3, net.height, net.width),),
        str(path),
        input_names=["images"],
        output_names=["objects", "da", "ll"],
        opset_version=13,
        do_constant_folding=True,
        dynamo=False,
    )
    model = onnx.load(str(path))
    model.producer_name = "catseye training"
    names = "{" + ", ".join(f"{index}: '{name}'" for index, name in enumerate(NAMES)) + "}"
    about = {
        "names": names,
        "author": "the catseye authors",
        "license": "MIT OR Apache-2.0",
        "description": "objects, drivable area and lane markings; trained on pictures of catseye's own simulator only",
        "seed": str(seed),
        "steps": str(steps),
    }
    for key, value in about.items():
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    print(f"wrote {path}: {path.stat().st_size / 1e6:.2f} MB", flush=True)
    return net


def check(net, path):
    """The file must compute what the network computes."""
    picture = torch.rand(1, 3, net.height, net.width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = net(picture)
    found = evaluate.session(path).run(None, {"images": picture.numpy()})
    for name, a, b in zip(("objects", "da", "ll"), expected, found):
        worst = (a - torch.from_numpy(b)).abs().max().item()
        if not worst <= 1e-2 + 1e-4 * a.abs().max().item():
            raise SystemExit(f"{path}: output {name} differs from the network's by {worst}")


def finish(net, steps, options, limit=None):
    """Keeps the weights, writes the ONNX file and measures it, on so many pictures at most."""
    options.out.parent.mkdir(parents=True, exist_ok=True)
    if steps:
        torch.save(net.state_dict(), options.out.with_suffix(".pt"))
    check(export(net, options.out, options.seed, steps), options.out)
    if options.val:
        evaluate.measure(options.out, options.val, options.out.parent / f"{options.out.stem}_evaluation", limit)


def main():
    options = arguments()
    torch.manual_seed(options.seed)
    torch.backends.cudnn.benchmark = True
    if options.val:
        evaluate.stems(options.val)
    net = Net(len(NAMES), WIDTH, HEIGHT).to(options.device, memory_format=torch.channels_last)
    print(f"{sum(weight.numel() for weight in net.parameters())} parameters", flush=True)
    # what comes after training is tried before it: a fault there would cost all of the time
    finish(net, 0, options, limit=8)
    start = time.monotonic()
    data = load(options.data, WIDTH, HEIGHT, options.device)
    print(f"read {len(data['labels'])} pictures in {time.monotonic() - start:.0f} s", flush=True)
    averaged, steps = train(net, data, options)
    finish(averaged, steps, options)


if __name__ == "__main__":
    main()
