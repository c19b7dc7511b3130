"""64 callers at the same time, a quarter of whom change their minds."""

import threading

import grpc
import pytest
from yoio_server import Answer, Server, event_pb2, request

STREAMS = 64
TOKENS = 40


@pytest.fixture(scope="module")
def server():
    # Fewer slots than streams, so that some wait and join while others run.
    with Server("--kv-cache-bytes", "256MiB", "--max-sequences", "32") as running:
        yield running


def prompt_of(number):
    return f"Chapter {number}. " + "The file system stores data in blocks. " * (1 + number % 7 * 8)


def request_of(number):
    sampling = {"temperature": 0} if number % 2 else {"temperature": 1, "seed": number}
    return request(prompt_of(number), ignore_eos=True, max_tokens=TOKENS, **sampling)


def run(server, number, results):
    """Reads stream `number`; every fourth one is cancelled after some of its events."""
    stream = server.generate(request_of(number))
    try:
        if number % 4 == 0:
            for _ in range(2 + number % 8):
                next(stream)
            stream.cancel()
            list(stream)
        results[number] = Answer(stream)
    except grpc.RpcError as error:
        results[number] = error.code()


def test_64_streams_finish_and_16_are_cancelled(server):
    results = {}
    threads = [threading.Thread(target=run, args=(server, number, results)) for number in range(STREAMS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cancelled = [number for number, result in results.items() if result == grpc.StatusCode.CANCELLED]
    assert sorted(cancelled) == list(range(0, STREAMS, 4))
    for number, answer in results.items():
        if number in cancelled:
            continue
        assert answer.finished[0].reason == event_pb2.FINISH_REASON_LENGTH, number
        assert answer.summary.usage.completion_tokens == TOKENS, number
    load = server.wait_until_idle()
    assert load.generated_tokens >= (STREAMS - len(cancelled)) * TOKENS

    # What a stream says does not depend on its neighbours.
    for number in (1, 2, 13, 62):
        assert Answer(server.generate(request_of(number))).text == results[number].text, number
