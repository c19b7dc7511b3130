"""How a server ends: drained, killed by a second signal, or refusing to start on a port in use."""

import signal
import socket
import time

import grpc
import pytest
from yoio_server import (
    Answer,
    Server,
    event_pb2,
    expect_error,
    health_pb2,
    last_two_lines,
    request,
    run_to_end,
)

TEXT = "A process that has terminated is a zombie until its parent waits for it. "


def start_stream(server, tokens):
    """A stream that is generating."""
    stream = server.generate(request(TEXT, temperature=0, ignore_eos=True, max_tokens=tokens))
    return stream, [next(stream), next(stream)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(number):
    with Server() as server:
        stream, events = start_stream(server, 600)
        server.process.send_signal(number)
        deadline = time.monotonic() + 5
        while readiness(server) == health_pb2.HealthCheckResponse.SERVING and time.monotonic() < deadline:
            time.sleep(0.01)
        assert readiness(server) == health_pb2.HealthCheckResponse.NOT_SERVING
        assert readiness(server, "liveness") == health_pb2.HealthCheckResponse.SERVING
        refused = first_refusal(server)
        assert refused.code() == grpc.StatusCode.UNAVAILABLE
        assert "DRAINING" in str(refused.trailing_metadata()) or "drain" in refused.details().lower()
        answer = Answer(events + list(stream))
        assert answer.finished[0].reason == event_pb2.FINISH_REASON_LENGTH
        assert answer.summary.usage.completion_tokens == 600
        assert server.process.wait(timeout=20) == 0


def first_refusal(server):
    """Readiness falls before the door closes: what comes in between is still served."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            list(server.generate(request(TEXT, max_tokens=1)))
        except grpc.RpcError as error:
            return error
    raise AssertionError("a draining server goes on taking requests")


def readiness(server, service=""):
    return server.health.Check(health_pb2.HealthCheckRequest(service=service), timeout=10).status


def test_an_idle_server_drains_at_once():
    with Server() as server:
        start = time.monotonic()
        server.process.terminate()
        assert server.process.wait(timeout=20) == 0
        assert time.monotonic() - start < 5


def test_a_second_signal_kills():
    with Server() as server:
        stream, _ = start_stream(server, 20000)
        server.process.terminate()
        time.sleep(0.3)
        assert server.process.poll() is None
        server.process.terminate()
        assert server.process.wait(timeout=5) == 3
        with pytest.raises(grpc.RpcError):
            list(stream)


def test_a_drain_that_takes_too_long_ends_its_streams():
    with Server("--drain-timeout", "500ms") as server:
        stream, _ = start_stream(server, 20000)
        server.process.terminate()
        expect_error(lambda: list(stream), grpc.StatusCode.UNAVAILABLE, "DRAINING")
        assert server.process.wait(timeout=10) == 0


def test_a_port_in_use_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, errors = run_to_end(listen=address)
        what, _ = last_two_lines(errors)
        assert code == 1 and address in what and "--listen" in what
