"""Wrong requests: each gets its code and names its field, and another stream goes on undisturbed."""

import math
import threading

import grpc
import pytest
from yoio_server import Answer, event_pb2, expect_error, inference_pb2, request, request_pb2

INVALID = grpc.StatusCode.INVALID_ARGUMENT
UNIMPLEMENTED = grpc.StatusCode.UNIMPLEMENTED
NAN, INFINITY = math.nan, math.inf
TEXT = "A socket is an endpoint of communication. "


@pytest.fixture(scope="module", autouse=True)
def undisturbed(server):
    """Runs one stream after another beside the tests; all must say the same as one that ran alone."""
    steady = request(TEXT, temperature=0, ignore_eos=True, max_tokens=60)
    alone = Answer(server.generate(steady)).text
    done, texts = threading.Event(), []

    def keep_streaming():
        while not done.is_set():
            texts.append(Answer(server.generate(steady)).text)

    thread = threading.Thread(target=keep_streaming)
    thread.start()
    yield
    done.set()
    thread.join()
    assert texts and set(texts) == {alone}
    server.wait_until_idle()


BAD_REQUESTS = [
    # what is wrong, the request, the code, the reason, what the message must name
    ("no prompt", request(), INVALID, "BAD_VALUE", "prompt"),
    ("empty text", request(""), INVALID, "BAD_VALUE", "prompt"),
    ("empty ids", request(prompt_ids=[]), INVALID, "BAD_VALUE", "prompt"),
    ("an id past the vocabulary", request(prompt_ids=[5, 4096]), INVALID, "BAD_VALUE", "4096"),
    ("a negative id", request(prompt_ids=[5, -1]), INVALID, "BAD_VALUE", "token ids"),
    ("more tokens than fit", request(TEXT, max_tokens=1 << 30), INVALID, "PROMPT_TOO_LONG", "max_tokens"),
    ("a prompt longer than fits", request(prompt_ids=[5] * 200000), INVALID, "PROMPT_TOO_LONG", "prompt"),
    ("temperature NaN", request(TEXT, temperature=NAN), INVALID, "BAD_VALUE", "temperature"),
    ("temperature below 0", request(TEXT, temperature=-0.5), INVALID, "BAD_VALUE", "temperature"),
    ("temperature infinite", request(TEXT, temperature=INFINITY), INVALID, "BAD_VALUE", "temperature"),
    ("top_p 0", request(TEXT, top_p=0), INVALID, "BAD_VALUE", "top_p"),
    ("top_p above 1", request(TEXT, top_p=1.5), INVALID, "BAD_VALUE", "top_p"),
    ("top_p NaN", request(TEXT, top_p=NAN), INVALID, "BAD_VALUE", "top_p"),
    ("top_k below 0", request(TEXT, top_k=-1), INVALID, "BAD_VALUE", "top_k"),
    ("min_p above 1", request(TEXT, min_p=2), INVALID, "BAD_VALUE", "min_p"),
    ("min_p NaN", request(TEXT, min_p=NAN), INVALID, "BAD_VALUE", "min_p"),
    ("repetition_penalty 0", request(TEXT, repetition_penalty=0), INVALID, "BAD_VALUE", "repetition_penalty"),
    ("frequency_penalty 3", request(TEXT, frequency_penalty=3), INVALID, "BAD_VALUE", "frequency_penalty"),
    ("presence_penalty NaN", request(TEXT, presence_penalty=NAN), INVALID, "BAD_VALUE", "presence_penalty"),
    ("a bias that is NaN", request(TEXT, logit_bias={7: NAN}), INVALID, "BAD_VALUE", "logit_bias"),
    ("a bias of no token", request(TEXT, logit_bias={9999: 1}), INVALID, "BAD_VALUE", "logit_bias"),
    (
        "too many biases",
        request(TEXT, logit_bias={i: 1.0 for i in range(2000)}),
        INVALID,
        "BAD_VALUE",
        "logit_bias",
    ),
    ("max_tokens 0", request(TEXT, max_tokens=0), INVALID, "BAD_VALUE", "max_tokens"),
    ("max_tokens below 0", request(TEXT, max_tokens=-3), INVALID, "BAD_VALUE", "max_tokens"),
    ("min_tokens above max", request(TEXT, min_tokens=9, max_tokens=8), INVALID, "BAD_VALUE", "min_tokens"),
    ("min_tokens below 0", request(TEXT, min_tokens=-1), INVALID, "BAD_VALUE", "min_tokens"),
    ("a stop id of no token", request(TEXT, stop_ids=[4096]), INVALID, "BAD_VALUE", "stop_ids"),
    ("too many stop ids", request(TEXT, stop_ids=[1] * 1000), INVALID, "BAD_VALUE", "stop_ids"),
    ("an empty stop string", request(TEXT, stop_strings=[""]), INVALID, "BAD_VALUE", "stop"),
    ("a long stop string", request(TEXT, stop_strings=["x" * 5000]), INVALID, "BAD_VALUE", "stop"),
    ("too many stop strings", request(TEXT, stop_strings=["x"] * 100), INVALID, "BAD_VALUE", "stop"),
    ("n 0", request(TEXT, n=0), INVALID, "BAD_VALUE", "n "),
    ("n over its cap", request(TEXT, n=1000), INVALID, "BAD_VALUE", "n "),
    (
        "top_logprobs below 0",
        request(TEXT, logprobs=True, top_logprobs=-1),
        INVALID,
        "BAD_VALUE",
        "top_logprobs",
    ),
    (
        "top_logprobs over its cap",
        request(TEXT, logprobs=True, top_logprobs=999),
        INVALID,
        "BAD_VALUE",
        "top_logprobs",
    ),
    ("top_logprobs without logprobs", request(TEXT, top_logprobs=3), INVALID, "BAD_VALUE", "top_logprobs"),
    ("a request id with a space", request(TEXT, request_id="a b"), INVALID, "BAD_VALUE", "request_id"),
    ("an empty request id", request(TEXT, request_id=""), INVALID, "BAD_VALUE", "request_id"),
    ("a long request id", request(TEXT, request_id="x" * 129), INVALID, "BAD_VALUE", "request_id"),
    ("an unknown model", request(TEXT, model="nobody"), grpc.StatusCode.NOT_FOUND, "UNKNOWN_MODEL", "model"),
    ("a regex", request(TEXT, regex="a+"), UNIMPLEMENTED, "UNSUPPORTED_FIELD", "regex"),
    ("a json schema", request(TEXT, json_schema="{}"), UNIMPLEMENTED, "UNSUPPORTED_FIELD", "json_schema"),
    (
        "a long salt",
        request(TEXT, cache=request_pb2.CacheOptions(salt="x" * 129)),
        INVALID,
        "BAD_VALUE",
        "cache.salt",
    ),
    (
        "a target of no time",
        request(TEXT, latency_targets=request_pb2.LatencyTargets(total={"seconds": 0})),
        INVALID,
        "BAD_VALUE",
        "latency_targets",
    ),
]


@pytest.mark.parametrize("bad", BAD_REQUESTS, ids=[row[0] for row in BAD_REQUESTS])
def test_a_bad_request_is_refused_by_name(server, bad):
    _, wanted, code, reason, named = bad
    error = expect_error(lambda: list(server.generate(wanted)), code, reason)
    assert named in error.details()


def test_a_negative_time_budget_is_refused(server):
    wanted = request(TEXT)
    wanted.time_budget.seconds = -1
    error = expect_error(lambda: list(server.generate(wanted)), INVALID, "BAD_VALUE")
    assert "time_budget" in error.details()


def test_score_needs_two_tokens(server):
    wanted = request_pb2.ScoreRequest(token_ids={"ids": [5]})
    error = expect_error(lambda: list(server.stub.Score(wanted, timeout=10)), INVALID, "BAD_VALUE")
    assert "prompt" in error.details()


def test_detokenize_checks_its_ids(server):
    wanted = inference_pb2.DetokenizeRequest(token_ids={"ids": [4096]})
    error = expect_error(lambda: server.stub.Detokenize(wanted, timeout=10), INVALID, "BAD_VALUE")
    assert "4096" in error.details()


def raw_generate(server, message):
    """Sends bytes that the stubs would not make."""
    call = server.channel.unary_stream(
        "/yoio.v1.InferenceService/Generate",
        request_serializer=lambda data: data,
        response_deserializer=event_pb2.GenerateResponse.FromString,
    )
    return list(call(message, timeout=10))


def varint(value):
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def field(number, payload):
    return varint(number << 3 | 2) + varint(len(payload)) + payload


VALID = request(TEXT).SerializeToString()
UNKNOWN = [
    ("at the top", VALID + varint(999 << 3) + b"\x01", "999"),
    ("in sampling", VALID + field(5, varint(888 << 3) + b"\x01"), "sampling.#888"),
    ("an enum value", VALID + varint(13 << 3) + varint(77), "priority"),
]


@pytest.mark.parametrize("unknown", UNKNOWN, ids=[row[0] for row in UNKNOWN])
def test_unknown_fields_and_values_are_named(server, unknown):
    _, message, named = unknown
    error = expect_error(lambda: raw_generate(server, message), UNIMPLEMENTED, "UNKNOWN_FIELD")
    assert named in error.details()


@pytest.mark.parametrize(
    "garbage", [b"\xff\xff\xff", field(3, b"\xc0\x80"), VALID[:-3]], ids=["bytes", "no UTF-8", "cut"]
)
def test_garbage_is_refused(server, garbage):
    with pytest.raises(grpc.RpcError) as caught:
        raw_generate(server, garbage)
    assert caught.value.code() in (INVALID, grpc.StatusCode.INTERNAL, UNIMPLEMENTED)


def test_an_oversized_request_is_refused(server):
    expect_error(lambda: list(server.generate(request("x" * (17 << 20)))), grpc.StatusCode.RESOURCE_EXHAUSTED)


@pytest.mark.parametrize("algorithm", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_a_compressed_request_is_refused(server, algorithm):
    expect_error(lambda: list(server.generate(request(TEXT * 100), compression=algorithm)), UNIMPLEMENTED)


def test_an_oversized_answer_names_generate(server):
    # 20 alternatives beside each of 6,000 prompt tokens pass 1 MiB.
    wanted = request(prompt_ids=[5] * 6000, max_tokens=1, prompt_logprobs=True, top_logprobs=20)
    error = expect_error(
        lambda: server.stub.GenerateOnce(request_pb2.GenerateOnceRequest(request=wanted), timeout=60),
        INVALID,
        "ANSWER_TOO_LARGE",
    )
    assert "Generate" in error.details()
