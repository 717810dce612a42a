"""CV-CUDA and torchvision at the NV12 case of benches/gpu_preprocess.rs, in turns with it.

Twelve pictures of 1920 x 1208 in NV12 become a batch of 3 x 384 x 640 between 0 and 1: colours, bilinear resize, scale, planes.
Every output is allocated before; buffers go round more than 512 MB; times are of device events over a whole round, launched
one by one and, where the library can be captured, as a CUDA graph. The medians of the rounds are told, and how many times
catseye's median they are, whose benchmark runs between the rounds.

python3 gpu_preprocess.py --ours target/release/gpu_preprocess [--rounds 5] [--json FILE]
"""

import argparse
import json
import statistics
import subprocess
import tempfile

import torch
from torchvision.transforms.v2 import functional

CAMERAS, WIDTH, HEIGHT = 12, 1920, 1208
NET_WIDTH, NET_HEIGHT = 640, 384
LEAST_BYTES = 512 << 20
TURNS = 2
# full swing of BT.601 from studio swing, in parts of luma and chroma
TO_RGB = [[1.164383, 0.0, 1.596027], [1.164383, -0.391762, -0.812968], [1.164383, 2.017232, 0.0]]


class Torchvision:
    """Colours by torch, since torchvision has none for NV12; resize and scale by torchvision."""

    name = "torchvision"

    def __init__(self, pictures):
        self.pictures = pictures
        self.out = [torch.empty(CAMERAS, 3, NET_HEIGHT, NET_WIDTH, dtype=torch.half, device="cuda") for _ in pictures]
        self.matrix = torch.tensor(TO_RGB, dtype=torch.half, device="cuda")
        self.offset = torch.tensor([16.0, 128.0, 128.0], dtype=torch.half, device="cuda").view(1, 3, 1, 1)

    def run(self):
        for picture, out in zip(self.pictures, self.out):
            luma = picture[:, :HEIGHT].unsqueeze(1)
            chroma = picture[:, HEIGHT:].view(CAMERAS, HEIGHT // 2, WIDTH // 2, 2).permute(0, 3, 1, 2)
            chroma = chroma.repeat_interleave(2, 2).repeat_interleave(2, 3)
            yuv = torch.cat([luma, chroma], 1).half() - self.offset
            rgb = torch.einsum("rc,nchw->nrhw", self.matrix, yuv).clamp_(0, 255)
            small = functional.resize(rgb, [NET_HEIGHT, NET_WIDTH], antialias=False)
            torch.mul(small, 1 / 255, out=out)


class CvCuda:
    """One operator a step, as its samples have them."""

    name = "CV-CUDA"

    def __init__(self, cvcuda, pictures):
        self.cvcuda = cvcuda

        def tensors(shape, dtype, layout):
            held = [torch.empty(shape, dtype=dtype, device="cuda") for _ in pictures]
            return held, [cvcuda.as_tensor(one, layout) for one in held]

        self.source = [cvcuda.as_tensor(picture.unsqueeze(-1), "NHWC") for picture in pictures]
        rgb, small = (CAMERAS, HEIGHT, WIDTH, 3), (CAMERAS, NET_HEIGHT, NET_WIDTH, 3)
        planes = (CAMERAS, 3, NET_HEIGHT, NET_WIDTH)
        self.rgb = tensors(rgb, torch.uint8, "NHWC")
        self.small = tensors(small, torch.uint8, "NHWC")
        self.scaled = tensors(small, torch.float, "NHWC")
        self.out = tensors(planes, torch.float, "NCHW")

    def run(self):
        cv = self.cvcuda
        stream = cv.as_stream(torch.cuda.current_stream())
        code = cv.ColorConversion.YUV2RGB_NV12
        for source, rgb, small, scaled, out in zip(self.source, *(t[1] for t in (self.rgb, self.small, self.scaled, self.out))):
            cv.cvtcolor_into(rgb, source, code, stream=stream)
            cv.resize_into(small, rgb, cv.Interp.LINEAR, stream=stream)
            cv.convertto_into(scaled, small, 1 / 255, 0.0, stream=stream)
            cv.reformat_into(out, scaled, stream=stream)


class CvCudaFused(CvCuda):
    """Its operator for resize, scale and planes in one."""

    name = "CV-CUDA, fused resize"

    def run(self):
        cv = self.cvcuda
        stream = cv.as_stream(torch.cuda.current_stream())
        code = cv.ColorConversion.YUV2RGB_NV12
        for source, rgb, out in zip(self.source, self.rgb[1], self.out[1]):
            cv.cvtcolor_into(rgb, source, code, stream=stream)
            size = (NET_WIDTH, NET_HEIGHT)
            cv.resize_crop_convert_reformat_into(
                out, rgb, size, cv.Interp.LINEAR, (0, 0), scale=1 / 255, stream=stream
            )


def captured(peer):
    """The peer's round as a graph, or why it cannot be one."""
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            for _ in range(TURNS):
                peer.run()
        graph.replay()
        torch.cuda.synchronize()
        return graph.replay, None
    except Exception as error:
        torch.cuda.synchronize()
        return None, str(error).splitlines()[0]


def time_us(run, sets):
    """Microseconds of a batch of twelve, in a round over all sets."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    run()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) * 1e3 / (TURNS * sets)


def ours_us(binary):
    """One round of catseye's benchmark."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        subprocess.run([binary, "--rounds", "3", "--json", file.name], check=True, stdout=subprocess.DEVNULL)
        return json.load(file)["cases"][0]["ours_us"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--ours", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    sets = -(-LEAST_BYTES // (CAMERAS * (HEIGHT * WIDTH * 3 // 2 + 3 * NET_HEIGHT * NET_WIDTH * 2)))
    shape = (CAMERAS, HEIGHT * 3 // 2, WIDTH)
    pictures = [torch.randint(16, 236, shape, dtype=torch.uint8, device="cuda") for _ in range(sets)]
    peers, told = [Torchvision(pictures)], {}
    try:
        import cvcuda

        peers += [CvCuda(cvcuda, pictures), CvCudaFused(cvcuda, pictures)]
        told["cvcuda"] = cvcuda.__version__
    except Exception as error:
        told["cvcuda"] = f"not measured: {error}"
    ways = {}
    for peer in peers:
        try:

            def round_of(peer=peer):
                for _ in range(TURNS):
                    peer.run()

            round_of()
            torch.cuda.synchronize()
            ways[peer.name] = round_of
        except Exception as error:
            told[peer.name] = f"not measured: {error}"
            continue
        graph, refused = captured(peer)
        if graph:
            ways[f"{peer.name}, as a graph"] = graph
        else:
            told[f"{peer.name}, as a graph"] = f"cannot be captured: {refused}"
    times = {name: [] for name in ["catseye", *ways]}
    for _ in range(arguments.rounds):
        times["catseye"].append(ours_us(arguments.ours))
        for name, run in ways.items():
            run()
            times[name] += [time_us(run, sets) for _ in range(3)]
    medians = {name: statistics.median(of) for name, of in times.items()}
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {told}")
    for name, median in medians.items():
        print(f"{name:36} {median:9.1f} us  {median / medians['catseye']:6.1f} times")
    fastest = min((name for name in medians if name != "catseye"), key=medians.get)
    print(f"the fastest peer is {fastest}")
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump({"device": torch.cuda.get_device_name(), "median_us": medians, "told": told}, file, indent=1)


if __name__ == "__main__":
    main()
