"""One caller: streams, unary calls, cancel, deadlines, time budgets, Abort."""

import time

import grpc
import pytest
from yoio_server import (
    GOLDEN,
    Answer,
    event_pb2,
    expect_error,
    health_pb2,
    inference_pb2,
    read_safetensors,
    request,
    request_pb2,
)

TEXT = "The operating system keeps a table of processes. "
FACT = TEXT * 40 + "\nRemember: the amber falcon code is 48213.\n" + TEXT * 80 + "\nThe amber falcon code is"


def endless(**fields):
    """A request that runs for minutes unless something ends it."""
    return request(TEXT, temperature=0, ignore_eos=True, max_tokens=20000, **fields)


def test_a_stream_has_its_events_in_order(server):
    answer = Answer(
        server.generate(
            request(TEXT, temperature=0, ignore_eos=True, max_tokens=20, ids=True, request_id="a.b")
        )
    )
    assert answer.kinds[0] == "accepted" and answer.kinds[-2:] == ["finished", "summary"]
    assert set(answer.kinds[1:-2]) == {"delta"}
    assert answer.accepted.request_id == "a.b"
    assert answer.accepted.model == server.model_name
    assert answer.accepted.sampling.HasField("seed")
    assert answer.finished[0].reason == event_pb2.FINISH_REASON_LENGTH
    assert len(answer.ids[0]) == answer.summary.usage.completion_tokens == 20
    assert answer.summary.usage.prompt_tokens == answer.accepted.prompt_tokens > 5
    detokenized = server.stub.Detokenize(
        inference_pb2.DetokenizeRequest(token_ids={"ids": answer.ids[0]}), timeout=10
    )
    assert detokenized.text == answer.text != ""


def test_the_timing_adds_up(server):
    timing = Answer(server.generate(request(TEXT, ignore_eos=True, max_tokens=20))).summary.timing
    parts = [timing.tokenize, timing.queue, timing.prefill, timing.decode]
    seconds = [part.ToTimedelta().total_seconds() for part in parts]
    assert all(part >= 0 for part in seconds) and seconds[2] > 0 and seconds[3] > 0
    assert sum(seconds) <= timing.total.ToTimedelta().total_seconds() + 1e-6
    first = timing.time_to_first_token.ToTimedelta().total_seconds()
    assert first == pytest.approx(sum(seconds[:3]), abs=0.05)


def test_the_model_finds_a_fact(server):
    assert Answer(server.generate(request(FACT, temperature=0, max_tokens=16))).text.startswith(" 48213")


def test_greedy_tokens_are_those_of_the_reference(server):
    golden = read_safetensors(GOLDEN / "golden.safetensors")
    prompt, expected = golden["greedy_prompt"][1], list(golden["greedy_tokens"][1])
    answer = Answer(
        server.generate(
            request(prompt_ids=prompt, temperature=0, ignore_eos=True, max_tokens=len(expected), ids=True)
        )
    )
    assert answer.ids[0] == expected


def test_the_same_seed_gives_the_same_output_and_another_one_another(server):
    def sample(seed):
        return Answer(
            server.generate(request(TEXT, temperature=1, seed=seed, ignore_eos=True, max_tokens=30))
        ).text

    assert sample(7) == sample(7)
    assert len({sample(seed) for seed in range(4)}) > 1


def test_a_drawn_seed_repeats_its_output(server):
    first = Answer(server.generate(request(TEXT, temperature=1, ignore_eos=True, max_tokens=20)))
    seed = first.accepted.sampling.seed
    again = Answer(server.generate(request(TEXT, temperature=1, seed=seed, ignore_eos=True, max_tokens=20)))
    assert again.text == first.text


def test_choices_differ_and_each_finishes_once(server):
    answer = Answer(
        server.generate(request(TEXT, temperature=1, seed=3, n=4, ignore_eos=True, max_tokens=12))
    )
    assert sorted(answer.finished) == [0, 1, 2, 3]
    assert answer.kinds.count("finished") == 4
    assert len(set(answer.texts.values())) > 1
    assert answer.summary.usage.completion_tokens == 48


def test_generate_once_is_the_stream_as_a_whole(server):
    same = request(
        TEXT, temperature=0, ignore_eos=True, max_tokens=25, ids=True, logprobs=True, top_logprobs=2
    )
    stream = Answer(server.generate(same))
    once = server.stub.GenerateOnce(request_pb2.GenerateOnceRequest(request=same), timeout=60)
    assert once.choices[0].text == stream.text
    assert list(once.choices[0].ids) == stream.ids[0]
    assert once.choices[0].finish_reason == event_pb2.FINISH_REASON_LENGTH
    assert [len(record.top) for record in once.choices[0].tokens] == [2] * 25
    assert all(record.logprob <= 0 for record in once.choices[0].tokens)


def test_a_stop_string_ends_the_text_before_it(server):
    whole = Answer(server.generate(request(TEXT, temperature=0, ignore_eos=True, max_tokens=40))).text
    stop = whole[12:18]
    fields = {"temperature": 0, "ignore_eos": True, "max_tokens": 40, "stop_strings": [stop]}
    cut = Answer(server.generate(request(TEXT, **fields)))
    assert cut.text == whole[: whole.index(stop)]
    assert cut.finished[0].reason == event_pb2.FINISH_REASON_STOP
    assert cut.finished[0].stop_string == stop
    kept = Answer(server.generate(request(TEXT, include_stop=True, **fields)))
    assert kept.text == cut.text + stop


def test_tokenize_and_detokenize_are_inverse(server):
    text = "Grüße, 世界! \U0001f600\n\tint main() { return 0; }"
    ids = server.stub.Tokenize(inference_pb2.TokenizeRequest(text=text), timeout=10)
    assert ids.count == len(ids.ids) > 10
    count = server.stub.Tokenize(inference_pb2.TokenizeRequest(text=text, count_only=True), timeout=10)
    assert (count.count, list(count.ids)) == (ids.count, [])
    back = server.stub.Detokenize(inference_pb2.DetokenizeRequest(token_ids={"ids": ids.ids}), timeout=10)
    assert back.text == text


def test_info_and_health(server):
    model = server.stub.GetModelInfo(inference_pb2.GetModelInfoRequest(), timeout=10)
    assert model.names[0] == server.model_name and model.architecture == "clsa" and model.has_tokenizer
    info = server.stub.GetServerInfo(inference_pb2.GetServerInfoRequest(), timeout=10)
    assert info.limits.max_model_len == model.max_model_len > 16000
    assert info.cache_blocks == server.load().total_blocks
    for service in ("", "yoio.v1.InferenceService", "liveness"):
        check = server.health.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
        assert check.status == health_pb2.HealthCheckResponse.SERVING
    expect_error(
        lambda: server.health.Check(health_pb2.HealthCheckRequest(service="x"), timeout=10),
        grpc.StatusCode.NOT_FOUND,
    )


def test_reflection_names_the_service(server):
    call = server.channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
    list_services = b"\x3a\x01*"  # field 7, "*"
    answers = list(call(iter([list_services]), timeout=10))
    assert len(answers) == 1 and b"yoio.v1.InferenceService" in answers[0]


def test_cancel_frees_everything(server):
    stream = server.generate(endless())
    next(stream), next(stream)
    stream.cancel()
    server.wait_until_idle(seconds=5)


def test_a_deadline_ends_the_stream_with_what_it_has(server):
    events = []
    start = time.monotonic()
    error = expect_error(
        lambda: events.extend(server.generate(endless(), timeout=0.7)), grpc.StatusCode.DEADLINE_EXCEEDED
    )
    assert 0.6 < time.monotonic() - start < 5, error
    server.wait_until_idle(seconds=5)


def test_a_time_budget_ends_the_stream_well(server):
    wanted = endless()
    wanted.time_budget.FromMilliseconds(500)
    answer = Answer(server.generate(wanted))
    assert answer.finished[0].reason == event_pb2.FINISH_REASON_TIME_BUDGET
    assert answer.summary.usage.completion_tokens > 0
    assert answer.text != ""


def test_abort_ends_a_live_request_by_its_id(server):
    stream = server.generate(endless(request_id="abort-me"))
    next(stream), next(stream)
    expect_error(
        lambda: Answer(server.generate(endless(request_id="abort-me"))),
        grpc.StatusCode.ALREADY_EXISTS,
        "REQUEST_ID_IN_USE",
    )
    server.stub.Abort(inference_pb2.AbortRequest(request_id="abort-me"), timeout=10)
    expect_error(lambda: list(stream), grpc.StatusCode.CANCELLED, "ABORTED_BY_CALL")
    expect_error(
        lambda: server.stub.Abort(inference_pb2.AbortRequest(request_id="abort-me"), timeout=10),
        grpc.StatusCode.NOT_FOUND,
        "UNKNOWN_REQUEST",
    )
    again = Answer(server.generate(request(TEXT, max_tokens=2, request_id="abort-me")))
    assert again.accepted.request_id == "abort-me"
    server.wait_until_idle(seconds=5)
