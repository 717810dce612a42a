"""The network: one trunk of plain convolutions, a head for boxes and a head for drivable area and lane markings.

In goes a picture `images` [batch, 3, height, width], RGB, 0 to 1, sides divisible by 32. With `export` set, out come
`objects` [batch, 4 + classes, cells] (middle x, middle y, width, height in network pixels, then scores; cells of
strides 8, 16, 32, row by row), `da` and `ll` [batch, 2, height, width] (logits of background and foreground), which is
what catseye's head `multitask` reads.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

STRIDES = (8, 16, 32)
# in strides: nothing smaller can be seen, nothing larger fits into a picture
MIN_LOG_SIZE, MAX_LOG_SIZE = -4.0, 5.0


class Conv(nn.Module):
    """Convolution, normalisation, ReLU."""

    def __init__(self, inputs, outputs, size=3, stride=1, act=True):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.03)
        self.act = act

    def forward(self, x):
        x = self.bn(self.conv(x))
        return F.relu(x) if self.act else x

    def fold(self):
        self.conv = fuse_conv_bn_eval(self.conv, self.bn)
        self.bn = nn.Identity()


class SharedConv(Conv):
    """One convolution for all strides, normalised over all of them at once, in training as afterwards."""

    def forward(self, levels):
        levels = [self.conv(level) for level in levels]
        if not self.training:
            return [F.relu(self.bn(level)) for level in levels]
        flat = torch.cat([level.flatten(2) for level in levels], 2).unsqueeze(3)
        flat = F.relu(self.bn(flat)).squeeze(3)
        parts = flat.split([level.shape[2] * level.shape[3] for level in levels], 2)
        return [part.reshape(level.shape) for part, level in zip(parts, levels)]


class Residual(nn.Module):
    """Two convolutions around a shortcut; the first may be 1x1 to fewer channels."""

    def __init__(self, channels, hidden=None):
        super().__init__()
        hidden = hidden or channels
        self.first = Conv(channels, hidden, 3 if hidden == channels else 1)
        self.second = Conv(hidden, channels, act=False)

    def forward(self, x):
        return F.relu(x + self.second(self.first(x)))


class Pyramid(nn.Module):
    """Spatial pyramid pooling: looks far to all sides at the coarsest stride."""

    def __init__(self, channels):
        super().__init__()
        self.before = Conv(channels, channels // 2, 1)
        self.after = Conv(2 * channels, channels, 1)

    def forward(self, x):
        parts = [self.before(x)]
        for _ in range(3):
            parts.append(F.max_pool2d(parts[-1], 5, 1, 2))
        return self.after(torch.cat(parts, 1))


def double(x):
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class Net(nn.Module):
    """The whole network."""

    def __init__(self, classes=4, width=512, height=288):
        super().__init__()
        if width % 32 or height % 32:
            raise ValueError(f"network size: expected sides divisible by 32, found {width}x{height}")
        self.classes, self.width, self.height, self.export = classes, width, height, False
        self.stage4 = nn.Sequential(Conv(3, 16, stride=2), Conv(16, 24, stride=2), Residual(24))
        self.stage8 = nn.Sequential(Conv(24, 40, stride=2), Residual(40), Residual(40))
        self.stage16 = nn.Sequential(Conv(40, 64, stride=2), Residual(64))
        self.stage32 = nn.Sequential(Conv(64, 96, stride=2), Residual(96, 48), Pyramid(96))
        self.lateral = nn.ModuleList([Conv(channels, 48, 1) for channels in (40, 64, 96)])
        self.smooth = nn.ModuleList([Conv(48, 48), Conv(48, 48)])
        self.shared, self.score_conv, self.box_conv = SharedConv(48, 48), SharedConv(48, 48), SharedConv(48, 48)
        self.score, self.box = nn.Conv2d(48, classes, 1), nn.Conv2d(48, 4, 1)
        self.fine, self.coarse, self.road_conv = Conv(24, 24, 1), Conv(48, 24, 1), Conv(24, 32)
        # four planes of 4x4 pixels for each cell of stride 4
        self.road = nn.Conv2d(32, 4 * 16, 1)
        # few cells hold anything, and things are about two cells wide
        nn.init.constant_(self.score.bias, -math.log((1 - 0.002) / 0.002))
        nn.init.normal_(self.box.weight, std=0.01)
        with torch.no_grad():
            self.box.bias.copy_(torch.tensor([0.0, 0.0, math.log(2.0), math.log(2.0)]))
        centres, strides = cells(width, height)
        self.register_buffer("centres", centres, persistent=False)
        self.register_buffer("strides", strides, persistent=False)

    def forward(self, images):
        x4 = self.stage4(images)
        x8 = self.stage8(x4)
        x16 = self.stage16(x8)
        x32 = self.stage32(x16)
        p32 = self.lateral[2](x32)
        p16 = self.smooth[1](self.lateral[1](x16) + double(p32))
        p8 = self.smooth[0](self.lateral[0](x8) + double(p16))
        levels = self.shared([p8, p16, p32])
        scores = join([self.score(level) for level in self.score_conv(levels)])
        boxes = join([self.box(level) for level in self.box_conv(levels)])
        road = self.road(self.road_conv(self.fine(x4) + double(self.coarse(p8))))
        road = F.pixel_shuffle(road, 4)
        boxes = self.place(boxes.float())
        if self.export:
            return torch.cat([boxes, scores.sigmoid()], 1), road[:, 0:2], road[:, 2:4]
        return scores.float(), boxes, road.float()

    def place(self, boxes):
        """Boxes relative to their cells become middle and size in network pixels."""
        middle = boxes[:, 0:2] * self.strides + self.centres
        size = boxes[:, 2:4].clamp(MIN_LOG_SIZE, MAX_LOG_SIZE).exp() * self.strides
        return torch.cat([middle, size], 1)

    def folded(self):
        """Normalisation becomes part of the convolutions; for a network in eval mode that is no longer trained."""
        for module in self.modules():
            if isinstance(module, Conv):
                module.fold()
        return self


def cells(width, height):
    """Middle [1, 2, cells] and stride [1, 1, cells] of all cells: stride by stride, row by row."""
    centres, strides = [], []
    for stride in STRIDES:
        rows, columns = height // stride, width // stride
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        centres.append((torch.stack([x.flatten(), y.flatten()]).float() + 0.5) * stride)
        strides.append(torch.full((1, rows * columns), float(stride)))
    return torch.cat(centres, 1).unsqueeze(0), torch.cat(strides, 1).unsqueeze(0)


def join(levels):
    return torch.cat([level.flatten(2) for level in levels], 2)


# Losses

TOP_CELLS = 10
# a thing smaller than a cell still has one
MIN_REACH_PX = 8.02


def corners(boxes):
    """Middle and size along the last dimension become left, top, right, bottom."""
    middle, half = boxes[..., 0:2], boxes[..., 2:4] / 2
    return torch.cat([middle - half, middle + half], -1)


def area(size):
    """Width times height; the gradient of `prod` would wait for the GPU to look for zeros."""
    return size[..., 0] * size[..., 1]


def overlap(a, b):
    """Intersection over union of boxes by their corners."""
    meet = area((torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0))
    return meet / (area(a[..., 2:] - a[..., :2]) + area(b[..., 2:] - b[..., :2]) - meet + 1e-7)


def complete_overlap(a, b):
    """Complete intersection over union, Zheng et al. 2020, "Distance-IoU Loss"."""
    iou = overlap(a, b)
    hull = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    apart = (a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]).pow(2).sum(-1) / 4
    size_a, size_b = a[..., 2:] - a[..., :2], b[..., 2:] - b[..., :2]
    angle = torch.atan(size_a[..., 0] / (size_a[..., 1] + 1e-7)) - torch.atan(size_b[..., 0] / (size_b[..., 1] + 1e-7))
    shape = (4 / math.pi**2) * angle.pow(2)
    with torch.no_grad():
        weight = shape / (shape - iou + 1 + 1e-7)
    return iou - apart / (hull.pow(2).sum(-1) + 1e-7) - weight * shape


def inside(centres, boxes):
    """Whether cells [cells, 2] lie in boxes [batch, boxes, 4], none of which is taken to be smaller than a cell."""
    middle, size = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
    reach = size.clamp(min=MIN_REACH_PX) / 2
    across = (centres[:, 0] - middle[..., 0:1]).abs() < reach[..., 0:1]
    return across & ((centres[:, 1] - middle[..., 1:2]).abs() < reach[..., 1:2])


@torch.no_grad()
def assign(scores, boxes, centres, labels, truth, counted):
    """Task-aligned assignment, Feng et al. 2021, "TOOD": which box each cell is to see, whether any, and how surely.

    scores [batch, cells, classes] and boxes [batch, cells, 4] are the network's, labels [batch, boxes] and
    truth [batch, boxes, 4] what is there.
    """
    classes = labels.clamp(min=0).unsqueeze(2).expand(-1, -1, scores.shape[1])
    score = scores.transpose(1, 2).gather(1, classes)
    iou = overlap(truth.unsqueeze(2), boxes.unsqueeze(1))
    possible = inside(centres, truth) & counted.unsqueeze(2)
    aligned = score.sqrt() * iou.pow(6)
    best, where = aligned.masked_fill(~possible, -1.0).topk(TOP_CELLS, 2)
    chosen = torch.zeros_like(possible).scatter_(2, where, best >= 0)
    # a cell that several boxes want sees the one that it fits best
    match = iou.masked_fill(~chosen, -1.0).argmax(1)
    only = torch.zeros_like(chosen).scatter_(1, match.unsqueeze(1), True) & chosen
    aligned, iou = aligned * only, iou * only
    sure = aligned / (aligned.amax(2, keepdim=True) + 1e-20) * iou.amax(2, keepdim=True)
    return match, only.any(1), sure.sum(1)


def box_losses(scores, boxes, centres, batch):
    """Losses of classes and of boxes. Cells in boxes that do not count are not taught anything, unless they see one."""
    scores, boxes, centres = scores.transpose(1, 2), corners(boxes.transpose(1, 2)), centres[0].T
    labels, truth, counted = batch["labels"], batch["boxes"], batch["counted"]
    match, positive, sure = assign(scores.detach().sigmoid(), boxes.detach(), centres, labels, truth, counted)
    label = labels.clamp(min=0).gather(1, match)
    classes = torch.arange(scores.shape[2], device=label.device)
    target = (label.unsqueeze(2) == classes) * (sure * positive).unsqueeze(2)
    hidden = (inside(centres, truth) & ((labels >= 0) & ~counted).unsqueeze(2)).any(1)
    taught = (positive | ~hidden).unsqueeze(2)
    total = target.sum().clamp(min=1.0)
    score_loss = (F.binary_cross_entropy_with_logits(scores, target, reduction="none") * taught).sum() / total
    wanted = truth.gather(1, match.unsqueeze(2).expand(-1, -1, 4))
    weight = sure.clamp(min=0.1) * positive
    # cells that see nothing are given a harmless box, so that they give no NaN
    wanted = torch.where(positive.unsqueeze(2), wanted, boxes.detach())
    box_loss = ((1 - complete_overlap(boxes, wanted)) * weight).sum() / weight.sum().clamp(min=1.0)
    return score_loss, box_loss


def mask_loss(logits, target, weight):
    """Cross-entropy, foreground counting `weight` times, plus dice; logits [batch, 2, height, width]."""
    logit = logits[:, 1] - logits[:, 0]
    entropy = F.binary_cross_entropy_with_logits(logit, target, pos_weight=torch.full((), weight, device=logit.device))
    seen = logit.sigmoid()
    dice = 1 - (2 * (seen * target).sum((1, 2)) + 50) / (seen.sum((1, 2)) + target.sum((1, 2)) + 50)
    return entropy + dice.mean()


def losses(net, outputs, batch):
    """All losses by name, and their weighted sum."""
    scores, boxes, road = outputs
    score, box = box_losses(scores, boxes, net.centres, batch)
    drivable = mask_loss(road[:, 0:2], batch["drivable"], 1.0)
    lanes = mask_loss(road[:, 2:4], batch["lanes"], 2.0)
    total = score + 2.5 * box + drivable + 2.0 * lanes
    return total, {"score": score, "box": box, "drivable": drivable, "lanes": lanes}
