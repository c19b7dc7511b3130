"""A drain, step by step: readiness falls, late calls are served, then refused, and idle clients hold nobody."""

import json
import threading
import time
from pathlib import Path

import grpc
from test_shutdown import first_refusal, readiness, start_stream
from yoio_server import (
    Answer,
    Server,
    expect_error,
    health_pb2,
    inference_pb2,
    inference_pb2_grpc,
    request,
    wait_until,
)

TEXT = "A process that has terminated is a zombie until its parent waits for it. "
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def test_an_idle_client_holds_nobody():
    with Server() as server:
        channels = [grpc.insecure_channel(server.address) for _ in range(4)]
        for channel in channels:
            stub = inference_pb2_grpc.InferenceServiceStub(channel)
            stub.GetLoad(inference_pb2.GetLoadRequest(), timeout=10)
        watch = server.health.Watch(health_pb2.HealthCheckRequest())
        next(watch)
        start = time.monotonic()
        server.process.terminate()
        assert server.process.wait(timeout=20) == 0
        assert time.monotonic() - start < 2.5  # it takes about 0.5 s: a timeout of 3 s or more would show
        for channel in channels:
            channel.close()


def test_late_calls_are_served_for_the_delay():
    with Server("--drain-delay", "2s") as server:
        start = time.monotonic()
        server.process.terminate()
        wait_until(lambda: readiness(server) == NOT_SERVING, seconds=1)
        served = 0
        while time.monotonic() - start < 1.5:
            Answer(server.generate(request(TEXT, max_tokens=1)))
            served += 1
        assert served > 0
        assert server.process.wait(timeout=10) == 0
        assert time.monotonic() - start > 2


def test_a_second_signal_ends_the_delay():
    with Server("--drain-delay", "1m") as server:
        server.process.terminate()
        wait_until(lambda: readiness(server) == NOT_SERVING)
        server.process.terminate()
        assert server.process.wait(timeout=5) == 3


def test_running_streams_finish_new_calls_are_refused_and_counted():
    with Server("--drain-timeout", "2m") as server:
        stream, events = start_stream(server, 2000)
        gone, _ = start_stream(server, 20000)
        gone.cancel()
        server.process.terminate()
        refused = first_refusal(server)
        assert refused.code() == grpc.StatusCode.UNAVAILABLE
        assert b"DRAINING" in dict(refused.trailing_metadata())["grpc-status-details-bin"]
        # Then the door is closed: who connects anew is not held.
        wait_until(lambda: not connects(server.address))
        assert readiness(server) == NOT_SERVING
        assert readiness(server, "liveness") == health_pb2.HealthCheckResponse.SERVING
        assert Answer(events + list(stream)).summary.usage.completion_tokens == 2000
        assert server.process.wait(timeout=20) == 0
        counts = json.loads(server.errors().splitlines()[-1])
        assert counts["event"] == "drained"
        assert counts["cancelled"] == 1 and counts["completed"] >= 1
        assert counts["failed"] == counts["failed_unavailable"] >= 1


def test_whatever_comes_during_a_drain_is_served_or_may_be_tried_elsewhere():
    """Nothing is broken off: a call that comes at a bad moment ends UNAVAILABLE, which clients try again."""
    with Server("--drain-timeout", "2m") as server:
        stream, events = start_stream(server, 2000)
        codes, done = set(), threading.Event()

        def keep_calling():
            while not done.is_set():
                try:
                    server.load()
                    list(server.generate(request(TEXT, max_tokens=1)))
                    codes.add(grpc.StatusCode.OK)
                except grpc.RpcError as error:
                    codes.add(error.code())
                    time.sleep(0.005)

        threads = [threading.Thread(target=keep_calling) for _ in range(2)]
        server.process.terminate()
        for thread in threads:
            thread.start()
        answer = Answer(events + list(stream))
        code = server.process.wait(timeout=20)
        done.set()
        for thread in threads:
            thread.join()
        assert answer.summary.usage.completion_tokens == 2000 and code == 0
        assert codes - {grpc.StatusCode.OK} == {grpc.StatusCode.UNAVAILABLE}


def connects(address):
    with grpc.insecure_channel(address) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        try:
            stub.GetLoad(inference_pb2.GetLoadRequest(), timeout=5)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.UNAVAILABLE
            return False
        return True


def test_clients_are_told_to_connect_anew_and_their_streams_go_on():
    with Server("--max-connection-age", "1s") as server:
        stream, _ = start_stream(server, 20000)
        first = connections_after_a_call(server)
        wait_until(lambda: connections_after_a_call(server) - first, seconds=10)
        for _ in range(50):
            next(stream)  # over the old connection
        stream.cancel()


def connections_after_a_call(server):
    """This machine's ends of the connections to the server."""
    list(server.generate(request(TEXT, max_tokens=1)))
    port = f"{int(server.address.split(':')[1]):04X}"
    lines = [line.split() for table in ("tcp", "tcp6") for line in Path("/proc/net", table).open()]
    return {local for _, local, remote, state, *_ in lines if state == "01" and remote.endswith(":" + port)}


def test_a_drain_that_takes_too_long_ends_its_streams_and_says_how_many():
    with Server("--drain-timeout", "500ms") as server:
        stream, _ = start_stream(server, 20000)
        server.process.terminate()
        expect_error(lambda: list(stream), grpc.StatusCode.UNAVAILABLE, "DRAINING")
        assert server.process.wait(timeout=10) == 0
        counts = json.loads(server.errors().splitlines()[-1])
        assert counts["failed_unavailable"] == 1
