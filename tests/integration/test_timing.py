"""Where the time of a request went: the phases add up, whatever becomes of it, and the log line says all of it."""

import json
import threading
import time

import grpc
import pytest
from yoio_server import (
    Answer,
    Server,
    inference_pb2,
    inference_pb2_grpc,
    request,
    request_pb2,
    timing_pb2,
    wait_until,
)

TEXT = "The operating system keeps a table of processes. "
PHASES = ("tokenize", "queue", "prefill", "decode", "deliver")


def seconds(duration):
    return duration.ToTimedelta().total_seconds()


def check_sum(timing):
    """Within 1% or 1 ms."""
    parts = [seconds(getattr(timing, phase)) for phase in PHASES]
    assert all(part >= 0 for part in parts), timing
    total = seconds(timing.total)
    assert sum(parts) == pytest.approx(total, rel=0.01, abs=0.001), timing


def timing_of_failure(error):
    """What the trailer of a failed stream says."""
    trailers = dict(error.trailing_metadata())
    return timing_pb2.Timing.FromString(trailers["yoio-timing-bin"])


def log_lines(server):
    lines = [json.loads(line) for line in server.errors().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == "request"]


def log_line(server, request_id):
    wait_until(lambda: any(line["request_id"] == request_id for line in log_lines(server)))
    return next(line for line in log_lines(server) if line["request_id"] == request_id)


def check_log_line(line):
    parts = [line[f"{phase}_s"] for phase in PHASES]
    assert sum(parts) == pytest.approx(line["total_s"], rel=0.01, abs=0.001), line


REQUESTS = {
    "text": request(TEXT * 20, max_tokens=20),
    "ids": request(prompt_ids=[5, 6, 7], max_tokens=20),
    "choices": request(TEXT, max_tokens=20, n=2),
    "records": request(TEXT, max_tokens=20, logprobs=True, top_logprobs=3),
    "one token": request(TEXT, max_tokens=1),
    "several chunks": request(prompt_ids=[9] * 1500, max_tokens=3),
}


@pytest.mark.parametrize("kind", REQUESTS)
def test_the_phases_of_a_stream_add_up(server, kind):
    begin = time.monotonic()
    timing = Answer(server.generate(REQUESTS[kind])).summary.timing
    elapsed = time.monotonic() - begin
    check_sum(timing)
    assert 0 < seconds(timing.total) <= elapsed
    assert seconds(timing.prefill) > 0
    assert timing.HasField("deliver") and timing.server_version and timing.model_revision
    assert not timing.HasField("trace_id")


def test_the_phases_of_many_streams_add_up(server):
    timings = []

    def call(number):
        answer = Answer(server.generate(request(f"{number} {TEXT}" * (number + 1), max_tokens=8)))
        timings.append(answer.summary.timing)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(timings) == 24
    for timing in timings:
        check_sum(timing)


def test_the_phases_of_a_unary_call_add_up(server):
    wanted = request_pb2.GenerateOnceRequest(request=request(TEXT, max_tokens=10))
    timing = server.stub.GenerateOnce(wanted, timeout=30).summary.timing
    check_sum(timing)
    assert seconds(timing.decode) > 0


def test_the_phases_of_a_score_add_up(server):
    timing = list(server.stub.Score(request_pb2.ScoreRequest(text=TEXT * 10), timeout=30))[-1].summary.timing
    check_sum(timing)
    assert seconds(timing.prefill) > 0


def test_a_slow_readers_time_is_accounted_for(server):
    # More than fits into what HTTP/2 lets a server send ahead of its reader: it cannot end before that has woken up.
    small_window = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1 << 16)]
    with grpc.insecure_channel(server.address, options=small_window) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        records = {"logprobs": True, "top_logprobs": 20, "ids": True}
        wanted = request(TEXT, max_tokens=120, ignore_eos=True, n=8, request_id="slow", **records)
        stream = stub.Generate(wanted, timeout=60)
        next(stream)
        time.sleep(1.5)
        timing = list(stream)[-1].summary.timing
    check_sum(timing)
    assert seconds(timing.total) > 1.5
    line = log_line(server, "slow")
    check_log_line(line)
    assert line["total_s"] >= seconds(timing.total) - 0.001


def test_the_phases_of_a_failure_add_up(server):
    stream = server.generate(request(TEXT, max_tokens=20000, ignore_eos=True, request_id="fails"))
    tokens = 0
    with pytest.raises(grpc.RpcError) as caught:
        for event in stream:
            tokens += event.HasField("delta")
            if tokens == 5:
                server.stub.Abort(inference_pb2.AbortRequest(request_id="fails"), timeout=10)
    timing = timing_of_failure(caught.value)
    check_sum(timing)
    assert seconds(timing.decode) > 0 and timing.decode_steps > 0
    line = log_line(server, "fails")
    check_log_line(line)
    assert (line["code"], line["reason"]) == ("CANCELLED", "ABORTED_BY_CALL")


def test_the_log_line_tells_what_latency_depends_on(server):
    wanted = request(TEXT * 20, max_tokens=6, ignore_eos=True, request_id="told")
    answer = Answer(server.generate(wanted, timeout=30))
    timing, usage = answer.summary.timing, answer.summary.usage
    line = log_line(server, "told")
    assert line["method"] == "Generate" and line["tenant"] == "default"
    assert line["code"] == "OK" and line["finish_reason"] == "length"
    assert line["prompt_tokens"] == usage.prompt_tokens and line["completion_tokens"] == 6
    assert line["cached_tokens"] == usage.cached_tokens and line["recomputed_tokens"] == 0
    assert line["prefill_chunks"] == timing.prefill_chunks and line["decode_steps"] == timing.decode_steps
    assert line["longest_gap_step"] == timing.longest_gap_step
    assert 0 < line["deadline_left_s"] < 31  # gRPC rounds the timeouts that it sends up
    assert line["server_version"] == timing.server_version
    assert line["model_revision"] == timing.model_revision
    zero = ("queue_length", "queue_position", "preemptions", "waited_slots_s", "waited_blocks_s")
    assert all(line[key] == 0 for key in zero), line
    rest = ("waited_token_budget_s", "waited_tenant_share_s", "waited_tokenizer_s", "first_token_s")
    assert all(line[key] >= 0 for key in (*rest, "longest_gap_s", "blocked_on_client_s")), line
    assert not {"pod", "node", "trace_id", "reason"} & set(line)


def test_pod_and_node_are_told(monkeypatch):
    monkeypatch.setenv("K8S_POD_NAME", "yoio-0")
    monkeypatch.setenv("NODE_NAME", "node-7.example")
    with Server("--kv-cache-bytes", "256MiB") as server:
        timing = Answer(server.generate(request(TEXT, max_tokens=2, request_id="where"))).summary.timing
        assert (timing.pod, timing.node) == ("yoio-0", "node-7.example")
        line = log_line(server, "where")
        assert (line["pod"], line["node"]) == ("yoio-0", "node-7.example")
