"""A machine without a GPU: --device cuda is refused in words, --device auto serves on the CPU and says why."""

import json

import pytest
from yoio_server import HAS_CUDA, Answer, Server, inference_pb2, last_two_lines, request, run_to_end

CACHE = ("--kv-cache-bytes", "256MiB")


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    """Hides the GPUs of this machine, if it has any."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def lines_about_the_device(server):
    return [line for line in map(json.loads, server.errors().splitlines()) if line["event"] == "device"]


@pytest.mark.parametrize("flags", [(), ("--dry-run",)])
def test_cuda_is_refused(flags):
    code, errors = run_to_end("--device", "cuda", *flags)
    what, what_to_do = last_two_lines(errors)
    assert code == 1, errors
    assert "cannot use the GPU" in what and "--device cpu" in what_to_do
    if HAS_CUDA:
        assert "NVIDIA driver" in what or "no GPU is visible" in what, what
    else:
        assert "built without CUDA" in what, what


def test_auto_serves_on_the_cpu():
    with Server("--device", "auto", *CACHE) as server:
        answer = Answer(server.generate(request("A process", temperature=0, max_tokens=4)))
        assert answer.finished[0] is not None
        assert server.stub.GetServerInfo(inference_pb2.GetServerInfoRequest()).device == "cpu"
        said = lines_about_the_device(server)
    assert len(said) == (1 if HAS_CUDA else 0), said
    for line in said:
        assert line["device"] == "cpu" and "--device auto serves on the CPU: " in line["message"]


def test_cpu_says_nothing():
    with Server("--device", "cpu", *CACHE) as server:
        assert lines_about_the_device(server) == []


def test_auto_plans_for_the_cpu():
    code, errors = run_to_end("--dry-run")
    assert code == 0, errors
    assert ("--device auto serves on the CPU: " in errors) == HAS_CUDA
