#!/usr/bin/env python3
"""What PyTorch reaches on this GPU: the peers that our kernels are measured against.

    bench/peers.py [--json FILE] [--only matmul,skinny,dense,topk]

Dense decode attention (scaled_dot_product_attention through cuDNN and through its flash kernel), matrix products
(cuBLAS) and torch.topk, on the shapes of kernels_bench and in its format; names begin with peer/. Each time is the
median of 20 replays of a CUDA graph of several calls, divided by their number; a call's inputs, all random, come
round again only after more bytes than the second-level cache holds, but for top-k, whose scores lie in that cache
as they do in a step. The floor is what must be read and written, at the copy bandwidth that heads the table.
"""

import argparse
import functools
import json
import statistics
import sys

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

REPLAYS = 20
ROTATED_BYTES = 1 << 30  # twenty times the second-level cache


def seconds_per_call(calls):
    """Median time of one of `calls`, recorded into one graph."""
    for call in calls:
        call()  # warms up: libraries choose their kernels here
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    return statistics.median(sample_seconds(graph.replay)) / len(calls)


def sample_seconds(run):
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    times = []
    for _ in range(REPLAYS + 3):
        start.record()
        run()
        stop.record()
        stop.synchronize()
        times.append(start.elapsed_time(stop) * 1e-3)
    return times[3:]


def copies_of(num_bytes):
    return max(1, -(-ROTATED_BYTES // num_bytes))


class Table:
    def __init__(self):
        self.hardware = torch.cuda.get_device_name()
        self.command = " ".join(sys.argv)
        self.results = []
        print(f"{self.hardware}, PyTorch {torch.__version__}")
        print(f"{'name':<48} {'value':>14} {'unit':<9} {'floor':>14} {'ratio':>7}")

    def add(self, name, value, unit, floor=None):
        ratio = None
        if floor:
            ratio = floor / value if unit == "us" else value / floor
        entry = {"name": "peer/" + name, "value": value, "unit": unit, "floor": floor, "ratio": ratio}
        entry |= {"hardware": self.hardware, "command": self.command}
        self.results.append(entry)
        tail = f" {floor:14.1f} {ratio:7.2f}" if floor else ""
        print(f"{entry['name']:<48} {value:14.1f} {unit:<9}{tail}", flush=True)


def copy(table):
    """Outside a graph, where a copy may be the copy engines' work, which is slower."""
    source = torch.randn(1 << 29, device="cuda", dtype=torch.bfloat16)  # 1 GiB
    target = torch.empty_like(source)
    seconds = min(sample_seconds(lambda: target.copy_(source)))
    bandwidth = 2 * source.nbytes / seconds
    table.add("copy", bandwidth * 1e-9, "GB/s")
    return bandwidth


def matmul(table, bandwidth):
    n = 8192
    a, b = (torch.randn(n, n, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    seconds = seconds_per_call([functools.partial(F.linear, a, b)] * 4)
    table.add(f"mat-mul-rate/{n}x{n}/prompt/{n}", 2 * n**3 / seconds * 1e-12, "TFLOP/s")


def skinny(table, bandwidth):
    n, k = 28672, 4096
    weights = [torch.randn(n, k, device="cuda", dtype=torch.bfloat16) for _ in range(copies_of(2 * n * k))]
    for rows in (1, 8, 32):
        x = torch.randn(rows, k, device="cuda", dtype=torch.bfloat16)
        seconds = seconds_per_call([functools.partial(F.linear, x, w) for w in weights])
        table.add(f"mat-mul/{n}x{k}/generated/{rows}", seconds * 1e6, "us", 2 * n * k / bandwidth * 1e6)


def dense(table, bandwidth):
    context, heads, kv_heads, dim = 131072, 32, 8, 128
    for batch in (1, 8):
        q = torch.randn(batch, heads, 1, dim, device="cuda", dtype=torch.bfloat16)
        num_bytes = 2 * batch * kv_heads * context * dim * q.itemsize
        caches = [
            torch.randn(2, batch, kv_heads, context, dim, device="cuda", dtype=torch.bfloat16)
            for _ in range(copies_of(num_bytes))
        ]
        for name, backend in (("cudnn", SDPBackend.CUDNN_ATTENTION), ("flash", SDPBackend.FLASH_ATTENTION)):
            attend = functools.partial(F.scaled_dot_product_attention, enable_gqa=True)
            calls = [functools.partial(attend, q, *cache) for cache in caches]
            with sdpa_kernel(backend):
                seconds = seconds_per_call(calls * max(1, 4 // len(calls)))
            shape = f"{heads}q-{kv_heads}kv-{dim}/{context}/{batch}"
            table.add(f"dense-attention-{name}/{shape}", seconds * 1e6, "us", num_bytes / bandwidth * 1e6)
        del q, caches


def topk(table, bandwidth):
    length, count = 131072, 2048
    for rows in (1, 8, 32):
        scores = torch.randn(rows, length, device="cuda")
        seconds = seconds_per_call([functools.partial(torch.topk, scores, count)] * 4)
        table.add(f"top-k/{count}/{length}/{rows}", seconds * 1e6, "us")


PARTS = {"matmul": matmul, "skinny": skinny, "dense": dense, "topk": topk}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--json", help="write the results here too")
    parser.add_argument("--only", default=",".join(PARTS), help="parts to run, by commas")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("peers.py: PyTorch sees no GPU")
    torch.manual_seed(1)
    table = Table()
    bandwidth = copy(table)
    for part in options.only.split(","):
        if part not in PARTS:
            parser.error(f"--only {part}: expected any of {', '.join(PARTS)}")
        try:
            PARTS[part](table, bandwidth)
        except RuntimeError as error:  # a backend that this GPU or this version lacks
            print(f"peer/{part}: {str(error).splitlines()[0]}", flush=True)
        torch.cuda.empty_cache()
    if options.json:
        with open(options.json, "w") as file:
            json.dump(table.results, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
