"""Starts an engine of several processes: a leader, who takes the calls, and its followers."""

import contextlib
import time
from pathlib import Path

import grpc
import pytest
from yoio_server import HAS_CUDA, MODEL, Process, Server, expect_error, health_pb2, health_pb2_grpc, request

TOKEN = "the-token-of-these-tests"
TEXT = "A process that has terminated is a zombie until its parent waits for it. "
STEP_TIMEOUT = 3


def skip_without(device, ranks):
    """Skips the test unless every rank can have a device: on GPUs one of its own."""
    gpus = len(list(Path("/dev").glob("nvidia[0-9]*"))) if HAS_CUDA else 0
    if device == "cuda" and gpus < ranks:
        pytest.skip(f"{gpus} GPU(s): {ranks} are needed")


def environment_of(node, nodes, ranks):
    """A node sees the GPUs of its ranks alone, as if they were a machine of their own."""
    count = ranks // nodes
    return {"CUDA_VISIBLE_DEVICES": ",".join(str(node * count + index) for index in range(count))}


def flags_of(node, token_file, nodes=2, ranks=2, device="cpu"):
    flags = ["--device", device, "--threads", "2", "--follower-token-file", str(token_file)]
    return [*flags, "--tensor-parallel-size", str(ranks), "--nnodes", str(nodes), "--node-rank", str(node)]


class Leader(Server):
    """Started; it serves from `with` on, which waits for its followers."""

    def __init__(
        self,
        token_file,
        *flags,
        nodes=2,
        ranks=2,
        device="cpu",
        followers_listen="127.0.0.1:0",
        cache="256MiB",
        **options,
    ):
        self.environment = environment_of(0, nodes, ranks)
        listen = ["--followers-listen", followers_listen]
        listen += ["--kv-cache-bytes", cache]
        super().__init__(*flags_of(0, token_file, nodes, ranks, device), *listen, *flags, **options)

    def followers_address(self):
        return self.wait_for_line(r"^yoio-server waiting followers=(\S+) nnodes=\d+$").group(1)


class Follower(Process):
    """Started; from `with` on its ranks are loaded."""

    def __init__(self, token_file, leader, *flags, node=1, nodes=2, ranks=2, device="cpu", model=MODEL):
        self.environment = environment_of(node, nodes, ranks)
        network = ["--leader-address", leader, "--health-listen", "127.0.0.1:0"]
        super().__init__(*flags_of(node, token_file, nodes, ranks, device), *network, *flags, model=model)

    def __enter__(self):
        pattern = r"^yoio-server follower ready health=(\S+) node-rank=\d+ leader=\S+$"
        health_address = self.wait_for_line(pattern).group(1)
        self.health = health_pb2_grpc.HealthStub(grpc.insecure_channel(health_address))
        return self


@contextlib.contextmanager
def group(token_file, *flags, nodes=2, ranks=2, device="cpu", **options):
    """A leader, to whom the options go, and its followers that serve."""
    leader = Leader(token_file, *flags, nodes=nodes, ranks=ranks, device=device, **options)
    address = leader.followers_address()
    followers = [
        Follower(token_file, address, node=node, nodes=nodes, ranks=ranks, device=device)
        for node in range(1, nodes)
    ]
    try:
        with contextlib.ExitStack() as stack:
            for process in (*followers, leader):  # followers end after their leader
                stack.enter_context(process)
            yield leader, *followers
    finally:
        for process in (leader, *followers):
            process.process.kill()
            process.process.wait()


def readiness(process, service=""):
    return process.health.Check(health_pb2.HealthCheckRequest(service=service), timeout=10).status


def start_streams(leader, count=4):
    """Streams that are generating and would go on for long."""
    streams = [
        leader.generate(request(TEXT * (number + 1), temperature=0, ignore_eos=True, ids=True, max_tokens=3000))
        for number in range(count)
    ]
    for stream in streams:
        next(stream), next(stream)
    return streams


def expect_failed_streams(streams, seconds):
    """All end UNAVAILABLE within so many seconds."""
    deadline = time.monotonic() + seconds
    for stream in streams:
        expect_error(lambda: list(stream), grpc.StatusCode.UNAVAILABLE, "ENGINE_FAILED")
    assert time.monotonic() < deadline


def exit_code(process, seconds):
    return process.process.wait(timeout=seconds)
