"""Spans as a collector sees them: names, nesting, ids, links, attributes and times; and what costs callers nothing."""

import re
import threading
import time

import grpc
import pytest
from collector import INTERNAL, SERVER, Collector, attributes_of, traceparent
from yoio_server import (
    Answer,
    Server,
    expect_error,
    inference_pb2,
    request,
    request_pb2,
)

TEXT = "The operating system keeps a table of processes. "
TRACE = bytes.fromhex("4bf92f3577b34da6a3ce929d0e0e4736")
PARENT = bytes.fromhex("00f067aa0ba902b7")
SAMPLED = [("traceparent", traceparent(TRACE, PARENT))]
PHASES = ("tokenize", "queue", "prefill", "decode")
MILLISECOND = 1_000_000
CANARY = "xyzzy-canary-9137"


class TracedServer(Server):
    """A server that sends its spans to `collector` within a fraction of a second."""

    def __init__(self, collector, *flags, **environment):
        sampler = {"OTEL_TRACES_SAMPLER": "parentbased_always_off"}
        self.environment = collector.environment(**(sampler | environment))
        super().__init__("--kv-cache-bytes", "256MiB", *flags)


@pytest.fixture(scope="module")
def collector():
    with Collector() as running:
        yield running


@pytest.fixture(scope="module")
def traced(collector):
    """Every step with a sampled request is traced; requests of more than a second are slow."""
    with TracedServer(collector, "--trace-steps", "1", "--trace-slow", "1s", "--trace-tenant-rate", "1000") as server:
        yield server


def spans_of_request(collector, request_id):
    """The server's span of a request and its children by name."""

    def found():
        return [s for s in collector.spans() if attributes_of(s).get("gen_ai.response.id") == request_id]

    (server,) = collector.wait_for(found)
    children = [s for s in collector.spans() if s.parent_span_id == server.span_id]
    return server, children


def by_name(spans):
    named = {span.name: span for span in spans}
    assert len(named) == len(spans)
    return named


def length(span):
    return span.end_time_unix_nano - span.start_time_unix_nano


def check_inside(child, parent):
    assert child.trace_id == parent.trace_id and child.parent_span_id == parent.span_id
    assert parent.start_time_unix_nano <= child.start_time_unix_nano <= child.end_time_unix_nano
    assert child.end_time_unix_nano <= parent.end_time_unix_nano


def test_a_request_of_a_known_parent(traced, collector):
    before = time.time_ns()
    wanted = request(TEXT * 30, max_tokens=8, ignore_eos=True, seed=11, request_id="known")
    metadata = [*SAMPLED, ("tracestate", "vendor=abc")]
    answer = Answer(traced.generate(wanted, metadata=metadata))
    after = time.time_ns()
    server, children = spans_of_request(collector, "known")

    assert server.name == f"text_completion {traced.model_name}"
    assert (server.trace_id, server.parent_span_id) == (TRACE, PARENT)
    assert server.trace_state == "vendor=abc"
    assert before <= server.start_time_unix_nano < server.end_time_unix_nano <= after + 10 * MILLISECOND
    children = by_name(children)
    assert set(children) == {*PHASES, "stream"}
    for child in children.values():
        check_inside(child, server)
        assert child.kind == INTERNAL
    assert len({server.span_id, *(child.span_id for child in children.values())}) == 6

    # Phase after phase, and with what was still to be delivered as long as the whole.
    phases = [children[name] for name in PHASES]
    assert phases[0].start_time_unix_nano == server.start_time_unix_nano
    for earlier, later in zip(phases, phases[1:]):
        assert earlier.end_time_unix_nano == later.start_time_unix_nano
    values = attributes_of(server)
    total = sum(length(phase) for phase in phases) + values["yoio.deliver"] * 1e9
    assert total == pytest.approx(length(server), rel=0.01, abs=MILLISECOND)
    assert children["stream"].end_time_unix_nano == server.end_time_unix_nano

    timing, usage = answer.summary.timing, answer.summary.usage
    assert timing.trace_id == TRACE.hex()
    expected = {
        "rpc.system": "grpc",
        "rpc.service": "yoio.v1.InferenceService",
        "rpc.method": "Generate",
        "rpc.grpc.status_code": 0,
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "yoio",
        "gen_ai.request.model": traced.model_name,
        "gen_ai.request.max_tokens": 8,
        "gen_ai.request.seed": 11,
        "gen_ai.request.choice.count": 1,
        "gen_ai.response.finish_reasons": ["length"],
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.output_tokens": 8,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
        "yoio.tenant": "default",
        "yoio.queue.length": 0,
        "yoio.decode_steps": timing.decode_steps,
        "yoio.longest_gap_step": timing.longest_gap_step,
        "yoio.preemptions": 0,
    }
    assert {key: values.get(key) for key in expected} == expected
    first_token = timing.time_to_first_token.ToTimedelta().total_seconds()
    assert values["gen_ai.latency.time_to_first_token"] == pytest.approx(first_token, abs=1e-5)
    assert values["gen_ai.latency.e2e"] == pytest.approx(length(server) / 1e9, abs=1e-5)
    assert attributes_of(children["prefill"])["yoio.chunks"] == timing.prefill_chunks
    assert attributes_of(children["decode"])["yoio.steps"] == timing.decode_steps


def test_every_call_has_its_span(traced, collector):
    trace = b"a" * 16
    metadata = [("traceparent", traceparent(trace, PARENT))]
    once = request_pb2.GenerateOnceRequest(request=request(TEXT, max_tokens=2, request_id="once"))
    traced.stub.GenerateOnce(once, timeout=30, metadata=metadata)
    list(traced.stub.Score(request_pb2.ScoreRequest(text=TEXT), timeout=30, metadata=metadata))
    traced.stub.GetLoad(inference_pb2.GetLoadRequest(), timeout=10, metadata=metadata)
    traced.stub.Tokenize(inference_pb2.TokenizeRequest(text=TEXT), timeout=10, metadata=metadata)
    unknown = inference_pb2.AbortRequest(request_id="nobody")
    expect_error(
        lambda: traced.stub.Abort(unknown, timeout=10, metadata=metadata), grpc.StatusCode.NOT_FOUND
    )

    def servers():
        return [s for s in collector.trace(trace) if s.kind == SERVER]

    collector.wait_for(lambda: len(servers()) == 5)
    spans = by_name(servers())
    service = "yoio.v1.InferenceService"
    model = traced.model_name
    names = {f"text_completion {model}", f"score {model}"}
    assert set(spans) == names | {f"{service}/{method}" for method in ("GetLoad", "Tokenize", "Abort")}
    failed = attributes_of(spans[f"{service}/Abort"])
    assert failed["error.type"] == "NOT_FOUND" and failed["yoio.reason"] == "UNKNOWN_REQUEST"


def test_an_unsampled_parent_is_honoured_and_a_broken_one_ignored(traced, collector):
    broken = (("traceparent", "00-zz-00-01"), ("traceparent", "x" * 300))
    metadatas = [[("traceparent", traceparent(TRACE, PARENT, sampled=False))], *([each] for each in broken), []]
    for number, metadata in enumerate(metadatas):
        wanted = request(TEXT, max_tokens=2, request_id=f"unsampled-{number}")
        timing = Answer(traced.generate(wanted, metadata=metadata)).summary.timing
        # It has an id all the same, which the log has too; its caller's, or one of its own.
        assert re.fullmatch("[0-9a-f]{32}", timing.trace_id)
        assert (timing.trace_id == TRACE.hex()) == (number == 0)
    Answer(traced.generate(request(TEXT, max_tokens=2, request_id="after"), metadata=SAMPLED))
    spans_of_request(collector, "after")
    ids = {attributes_of(span).get("gen_ai.response.id", "") for span in collector.spans()}
    assert not [each for each in ids if each.startswith("unsampled-")]


def test_what_fails_is_exported_though_nobody_sampled_it(traced, collector):
    bad = request(TEXT, max_tokens=1 << 30, request_id="fails")
    expect_error(lambda: list(traced.generate(bad)), grpc.StatusCode.INVALID_ARGUMENT)
    server, children = spans_of_request(collector, "fails")
    values = attributes_of(server)
    assert values["yoio.sampled_late"] is True and not children
    assert values["error.type"] == "INVALID_ARGUMENT" and values["rpc.grpc.status_code"] == 3


def test_what_is_slow_is_exported_with_its_slowest_steps(traced, collector):
    stream = traced.generate(request(TEXT, max_tokens=20000, ignore_eos=True, request_id="slow"))
    tokens, begin = 0, time.monotonic()
    for event in stream:
        tokens += event.HasField("delta")
        if tokens > 20 and time.monotonic() - begin > 1.2:
            break
    stream.cancel()
    server, children = spans_of_request(collector, "slow")
    values = attributes_of(server)
    assert values["yoio.sampled_late"] is True and values["yoio.reason"] == "CLIENT_CANCELLED"
    assert length(server) > 1e9
    slow = [child for child in children if child.name == "slow_step"]
    assert len(slow) == 10
    for step in slow:
        check_inside(step, server)
        values = attributes_of(step)
        assert values["yoio.own_tokens"] >= 1 and values["yoio.took"] > 0
    took = [attributes_of(step)["yoio.took"] for step in slow]
    assert took == sorted(took, reverse=True)


def test_a_clients_own_cancel_is_no_failure(traced, collector):
    stream = traced.generate(request(TEXT, max_tokens=20000, ignore_eos=True, request_id="cancelled"))
    next(stream)
    stream.cancel()
    traced.wait_until_idle()
    Answer(traced.generate(request(TEXT, max_tokens=2, request_id="next"), metadata=SAMPLED))
    spans_of_request(collector, "next")
    ids = {attributes_of(span).get("gen_ai.response.id") for span in collector.spans()}
    assert "cancelled" not in ids


def test_steps_are_linked_to_the_requests_in_them(traced, collector):
    def call(number):
        wanted = request(TEXT * 4, max_tokens=30, ignore_eos=True, request_id=f"batch-{number}")
        Answer(traced.generate(wanted, metadata=SAMPLED))

    threads = [threading.Thread(target=call, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    servers = {spans_of_request(collector, f"batch-{number}")[0].span_id for number in range(4)}

    def steps():
        linked = [s for s in collector.spans() if s.name == "step" and s.links]
        return [s for s in linked if {link.span_id for link in s.links} <= servers]

    collector.wait_for(lambda: len(steps()) >= 30)
    linked = {link.span_id for step in steps() for link in step.links}
    assert linked == servers
    for step in steps():
        assert not step.parent_span_id and step.trace_id != TRACE
        assert {link.trace_id for link in step.links} == {TRACE}
        assert attributes_of(step)["yoio.requests"] >= len(step.links)
        children = [s for s in collector.spans() if s.parent_span_id == step.span_id]
        ranks = [child for child in children if child.name == "rank"]
        assert {child.name for child in children} == {"plan", "rank"}
        for child in children:
            check_inside(child, step)
        for rank in ranks:
            assert "yoio.comm_wait" in attributes_of(rank)
            phases = [s for s in collector.spans() if s.parent_span_id == rank.span_id]
            assert "cross_decoder" in {phase.name for phase in phases}
            for phase in phases:
                check_inside(phase, rank)


def test_start_up_has_a_span(traced, collector):
    load = collector.wait_for_span("load")
    children = [s for s in collector.spans() if s.parent_span_id == load.span_id]
    assert "warm_up_request" in {child.name for child in children}
    for child in children:
        check_inside(child, load)


def test_nothing_that_a_caller_sends_is_in_a_span(traced, collector):
    attempts = (
        request(CANARY, max_tokens=3, request_id="private"),
        request("x", max_tokens=3, stop_strings=[CANARY]),
        request("x", model=CANARY),
        request("x", regex=CANARY),
        request("x", request_id=CANARY + " "),
    )
    for wanted in attempts:
        try:
            list(traced.generate(wanted, metadata=[*SAMPLED, ("x-trace", CANARY)]))
        except grpc.RpcError:
            pass
    spans_of_request(collector, "private")
    for span in collector.spans():
        assert CANARY not in str(span)
        keys = {key for key in attributes_of(span) if re.search("prompt$|text$|ids$|stop", key)}
        assert not keys, keys


def test_a_collector_that_hangs_costs_callers_nothing():
    with Collector() as hanging:
        hanging.hang()
        environment = {
            "OTEL_TRACES_SAMPLER": "always_on",
            "OTEL_BSP_MAX_QUEUE_SIZE": "64",
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "16",
        }
        with TracedServer(hanging, **environment) as server:
            for _ in range(40):
                Answer(server.generate(request(TEXT, max_tokens=2), timeout=10))
            server.wait_until_idle()
            begin = time.monotonic()
            server.process.terminate()
            assert server.process.wait(timeout=20) == 0
            assert time.monotonic() - begin < 10  # two seconds for the collector, and the drain itself
            lost = re.search(r'"event":"spans".*"dropped":(\d+),"failed":(\d+)', server.errors())
            assert lost and int(lost[1]) > 0, server.errors()


def test_settings_that_cannot_work_end_the_start():
    class Wrong(Server):
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_SAMPLER": "sometimes"}

    server = Wrong()
    try:
        assert server.process.wait(timeout=20) == 1
        assert "OTEL_TRACES_SAMPLER" in server.errors()
    finally:
        server.process.kill()
