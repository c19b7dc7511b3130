"""One engine in two processes: it says what one process says, and what happens when either is killed or stopped."""

import random
import re
import signal
import threading
import time

import grpc
import pytest
from yoio_nodes import (
    STEP_TIMEOUT,
    TEXT,
    TOKEN,
    exit_code,
    expect_failed_streams,
    group,
    readiness,
    skip_without,
    start_streams,
)
from yoio_server import Answer, Server, free_address, health_pb2, request

SERVING = health_pb2.HealthCheckResponse.SERVING
# What takes no time of its own: a connection that closes, a process that leaves.
SOON = 5
# With the last messages to callers, and their connections.
DRAINED = 20
# When a process that says nothing is given up: keepalive time and timeout of the follower link.
KEEPALIVE = 15


@pytest.fixture(scope="module")
def token_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("token") / "token"
    path.write_text(TOKEN + "\n")
    return path


@pytest.fixture(params=["cpu", "cuda"])
def device(request):
    return request.param


@pytest.fixture
def start(token_file, device):
    """Starts a group of processes on the device (yoio_nodes.group)."""

    def on_device(*flags, ranks=2, **options):
        skip_without(device, ranks)
        return group(token_file, *flags, ranks=ranks, device=device, **options)

    return on_device


def requests():
    for number in range(8):
        sampling = {"temperature": 0} if number % 2 else {"temperature": 1, "seed": number}
        text = TEXT * (1 + 5 * number)
        yield request(text, ignore_eos=True, ids=True, max_tokens=24, **sampling)


def ids_of_all(server, device):
    """What the server says to all requests at the same time; on GPUs, where a prompt's last bits may depend on its
    company, to one after the other."""
    if device == "cuda":
        return [Answer(server.generate(message)).ids[0] for message in requests()]
    streams = [server.generate(message) for message in requests()]
    return [Answer(stream).ids[0] for stream in streams]


@pytest.mark.parametrize("ranks", [2, 4])
def test_two_processes_say_what_one_says(start, device, ranks):
    skip_without(device, ranks)
    flags = ("--device", device, "--kv-cache-bytes", "256MiB", "--tensor-parallel-size", str(ranks))
    with Server(*flags) as alone:
        expected = ids_of_all(alone, device)
    with start(ranks=ranks) as (leader, follower):
        assert ids_of_all(leader, device) == expected
        assert readiness(follower) == SERVING and readiness(follower, "liveness") == SERVING
        leader.channel.close()
        leader.process.terminate()
        assert (exit_code(leader, DRAINED), exit_code(follower, SOON)) == (0, 0)


def test_a_drain_finishes_what_runs_on_both(start):
    with start() as (leader, follower):
        stream = leader.generate(request(TEXT, temperature=0, ignore_eos=True, max_tokens=300))
        events = [next(stream), next(stream)]
        follower.process.terminate()  # as when a whole pod group is told to go
        leader.process.terminate()
        answer = Answer(events + list(stream))
        assert answer.summary.usage.completion_tokens == 300
        assert (exit_code(leader, DRAINED), exit_code(follower, SOON)) == (0, 0)


def test_a_second_signal_ends_a_follower_and_with_it_the_engine(start):
    with start() as (leader, follower):
        streams = start_streams(leader)
        follower.process.terminate()
        time.sleep(0.3)
        assert follower.process.poll() is None
        follower.process.terminate()
        assert exit_code(follower, SOON) == 3
        expect_failed_streams(streams, SOON)
        assert exit_code(leader, SOON) == 2


def test_a_killed_follower_and_a_restart(start):
    addresses = {"listen": free_address(), "followers_listen": free_address()}
    with start(**addresses) as (leader, follower):
        streams = start_streams(leader)
        follower.process.kill()
        expect_failed_streams(streams, SOON)
        assert exit_code(leader, SOON) == 2
        assert re.search('"event":"engine failed","message":"(node|rank) 1', leader.errors())
    with start(**addresses) as (leader, follower):
        assert Answer(leader.generate(request(TEXT, max_tokens=4))).finished


def test_a_killed_follower_of_an_idle_leader(start):
    with start() as (leader, follower):
        follower.process.kill()
        assert exit_code(leader, SOON) == 2


def test_a_killed_follower_of_three(start):
    with start(nodes=4, ranks=4) as (leader, *followers):
        streams = start_streams(leader)
        followers[1].process.kill()
        expect_failed_streams(streams, SOON)
        for survivor in (leader, followers[0], followers[2]):
            assert exit_code(survivor, SOON) == 2


def test_a_killed_leader(start):
    with start() as (leader, follower):
        streams = start_streams(leader)
        leader.process.kill()
        assert exit_code(follower, SOON) == 2
        for stream in streams:
            with pytest.raises(grpc.RpcError):
                list(stream)


def test_a_stopped_follower(start):
    with start("--step-timeout", f"{STEP_TIMEOUT}s") as (leader, follower):
        streams = start_streams(leader)
        follower.process.send_signal(signal.SIGSTOP)
        expect_failed_streams(streams, STEP_TIMEOUT + SOON)
        assert exit_code(leader, SOON) == 2
        follower.process.send_signal(signal.SIGCONT)
        assert exit_code(follower, SOON) == 2


def test_a_stopped_leader_and_a_restart(start):
    addresses = {"listen": free_address(), "followers_listen": free_address()}
    with start("--step-timeout", f"{STEP_TIMEOUT}s", **addresses) as (leader, follower):
        start_streams(leader)
        leader.process.send_signal(signal.SIGSTOP)
        assert exit_code(follower, KEEPALIVE + SOON) == 2
        leader.process.send_signal(signal.SIGCONT)
        assert exit_code(leader, SOON) == 2
    with start(**addresses) as (leader, follower):
        assert Answer(leader.generate(request(TEXT, max_tokens=4))).finished


def read_some(stream, count):
    """Reads so many events of a stream and cancels it."""
    try:
        for _ in range(count):
            next(stream, None)
        stream.cancel()
        list(stream)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.CANCELLED, error


def test_half_the_requests_cancelled_at_random(start):
    generator = random.Random(5)
    with start("--max-sequences", "16") as (leader, _):
        readers, answers = [], []
        for number in range(48):
            text = TEXT * generator.randrange(1, 30)
            stream = leader.generate(request(text, temperature=0, ignore_eos=True, max_tokens=30))
            if number % 2:
                readers.append(threading.Thread(target=read_some, args=(stream, generator.randrange(1, 25))))
            else:
                readers.append(threading.Thread(target=lambda s=stream: answers.append(Answer(s))))
            readers[-1].start()
        for reader in readers:
            reader.join()
        assert [answer.summary.usage.completion_tokens for answer in answers] == [30] * 24
        load = leader.wait_until_idle()
        assert load.free_blocks == load.total_blocks > 0


def test_sequences_that_give_way_come_back(start, device):
    """With a cache for half of what runs, on the host of every rank too: each says what it says alone."""
    flags = ("--max-sequences", "8", "--max-model-len", "512", "--swap-bytes", "4MiB", "--prefix-cache", "off")
    cache = {"cpu": "10MiB", "cuda": "5MiB"}[device]  # numbers of two bytes instead of four
    messages = [
        request(TEXT * 4, ignore_eos=True, ids=True, max_tokens=300, temperature=1, seed=seed)
        for seed in range(8)
    ]
    with start(*flags, cache=cache) as (leader, _):
        streams = [leader.generate(message) for message in messages]
        answers = [Answer(stream) for stream in streams]
        assert [len(answer.ids[0]) for answer in answers] == [300] * 8
        leader.wait_until_idle()
        came_back = [number for number in range(8) if answers[number].summary.timing.preemptions > 0]
        assert came_back, "the cache was large enough"
        if device == "cpu":  # on GPUs the last bits of a product depend on who else is in the step
            for number in came_back:
                assert Answer(leader.generate(messages[number])).ids == answers[number].ids
