"""Callers who do what no caller should: the server stays up, loses nothing and serves the others."""

import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import pytest
import raw_http2
from yoio_server import Answer, Server, event_pb2, expect_error, request

TEXT = "The operating system keeps a table of processes. "
STALL_SECONDS = 1


@pytest.fixture(scope="module")
def server():
    # The queue holds what one connection may have under way, and those of others.
    flags = ("--kv-cache-bytes", "256MiB", "--stall-timeout", f"{STALL_SECONDS}s")
    with Server(*flags, "--max-queued-requests", "2048") as running:
        yield running


@pytest.fixture(autouse=True)
def unharmed(server):
    """After each test: nothing is held, and a request is served."""
    yield
    server.wait_until_idle(seconds=30)
    answer = Answer(server.generate(short()))
    assert answer.finished[0].reason == event_pb2.FINISH_REASON_LENGTH
    assert server.process.poll() is None


def short(**fields):
    return request("A", temperature=0, ignore_eos=True, max_tokens=4, **fields)


def long(**fields):
    """Runs for many seconds unless something ends it; dozens fit into the cache."""
    return request(TEXT, temperature=0, ignore_eos=True, max_tokens=3000, **fields)


def wait_until(condition, what, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def wait_until_running(server, count):
    wait_until(lambda: server.load().running >= count, f"{count} requests never ran")


def test_deadlines_that_have_passed(server):
    connection = raw_http2.Connection(server.address)
    for _ in range(100):
        connection.send(connection.open(long().SerializeToString(), ("grpc-timeout", "1n")))
    connection.read_until_ended(100)
    connection.socket.close()
    for microseconds in range(100, 2100, 100):
        expect_error(
            lambda timeout=microseconds: list(server.generate(long(), timeout=timeout / 1e6)),
            grpc.StatusCode.DEADLINE_EXCEEDED,
        )


def test_10000_streams_of_one_client_take_their_turns(server):
    count = 10000
    codes = {}
    with grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        call = channel.unary_unary(
            "/yoio.v1.InferenceService/GenerateOnce", lambda message: message, lambda data: data
        )
        once = b"\x0a" + bytes([len(tiny())]) + tiny()  # GenerateOnceRequest.request
        calls = [call.future(once, timeout=240) for _ in range(count)]
        others = Answer(server.generate(short()))  # over a connection of its own
        for each in calls:
            codes[each.code()] = codes.get(each.code(), 0) + 1
    assert codes == {grpc.StatusCode.OK: count}
    assert others.summary.usage.completion_tokens == 4


def tiny():
    return request("A", ignore_eos=True, max_tokens=1).SerializeToString()


def test_10000_streams_against_the_rules_lose_their_connection_alone(server):
    connection = raw_http2.Connection(server.address)
    message = long().SerializeToString()
    with pytest.raises((ConnectionError, BrokenPipeError)):
        for _ in range(100):
            connection.send(*(connection.open(message) for _ in range(100)))
        while True:
            connection.read_frame()


def test_cancels_at_every_moment(server):
    """Before, while and after a request is taken, queued, computed and answered."""
    rng = random.Random(5)
    plans = [(rng.choice(["events", "seconds"]), rng.random(), rng.randrange(1, 30)) for _ in range(300)]
    codes = [None] * len(plans)

    def run(first):
        for number in range(first, len(plans), 16):
            way, when, tokens = plans[number]
            prompt = TEXT * (1 + tokens % 9)
            stream = server.generate(
                request(prompt, temperature=1, seed=number, n=1 + tokens % 3, max_tokens=tokens)
            )
            try:
                if way == "events":
                    for _ in range(int(when * tokens)):
                        next(stream, None)
                else:
                    time.sleep(0.2 * when**3)
                stream.cancel()
                list(stream)
            except grpc.RpcError:
                pass
            codes[number] = stream.code()

    threads = [threading.Thread(target=run, args=(first,)) for first in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(codes) <= {grpc.StatusCode.OK, grpc.StatusCode.CANCELLED}
    assert codes.count(grpc.StatusCode.CANCELLED) > 50


def test_who_never_reads_ends_alone(server):
    connection = raw_http2.Connection(server.address, window=0)
    for number in range(8):
        connection.send(connection.open(long(request_id=f"deaf-{number}").SerializeToString()))
    wait_until_running(server, 8)
    answer = Answer(server.generate(request(TEXT, temperature=0, ignore_eos=True, max_tokens=400, ids=True)))
    assert len(answer.ids[0]) == 400
    server.wait_until_idle()
    # Nothing can be said to a client with closed windows: its streams are reset.
    connection.read_until_ended(8)
    connection.socket.close()

    def lines():
        return [line for line in server.errors().splitlines() if '"deaf-' in line]

    wait_until(lambda: len(lines()) == 8, "not all of them were logged")
    assert all('"SLOW_READER"' in line for line in lines())


def test_who_reads_too_late_is_told_so(server):
    connection = raw_http2.Connection(server.address, window=1000)
    connection.send(connection.open(long(request_id="late").SerializeToString()))
    wait_until_running(server, 1)
    wait_until(lambda: server.load().running == 0, "a reader that takes nothing was not ended")
    connection.send(connection.widen(1, 1 << 20))
    trailers = connection.read_until_ended(1)[1]
    assert b"--stall-timeout" in trailers
    connection.socket.close()

    def lines():
        return [line for line in server.errors().splitlines() if '"late"' in line]

    wait_until(lambda: '"SLOW_READER"' in "".join(lines()), "the log does not say why it ended")


def test_a_black_hole(server):
    """Takes nothing out of its socket, and never says another word."""
    connection = raw_http2.Connection(server.address)
    message = request(TEXT, ignore_eos=True, max_tokens=100, logprobs=True, top_logprobs=20)
    for _ in range(32):
        connection.send(connection.open(message.SerializeToString()))
    wait_until_running(server, 1)
    server.wait_until_idle(seconds=60)
    connection.vanish()


def test_clients_that_vanish(server):
    for _ in range(3):
        connection = raw_http2.Connection(server.address)
        for _ in range(20):
            connection.send(connection.open(long().SerializeToString()))
        wait_until_running(server, 20)
        connection.vanish()
        server.wait_until_idle()


def test_a_client_that_is_killed(server):
    program = Path(raw_http2.__file__)
    command = [sys.executable, program, server.address, long().SerializeToString().hex(), "20"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as client:
        assert client.stdout.readline() == b"open\n"
        wait_until_running(server, 20)
        client.kill()
    server.wait_until_idle()


def test_a_storm_of_resets(server):
    """Each call is taken back in the same breath."""
    connection = raw_http2.Connection(server.address)
    message = long().SerializeToString()
    for _ in range(40):
        frames = []
        for _ in range(50):
            stream = connection.next_stream
            frames += [connection.open(message), connection.reset(stream)]
        connection.send(*frames)
    assert Answer(server.generate(short())).summary.usage.completion_tokens == 4
    server.wait_until_idle(seconds=60)
    connection.socket.close()
