"""What operators can ask a server that runs, and what one leaves behind that dies."""

import contextlib
import gzip
import json
import re
import signal
import threading
import time
from pathlib import Path

import grpc
import pytest
from yoio_nodes import STEP_TIMEOUT, TEXT, exit_code, expect_failed_streams, group, start_streams
from yoio_nodes import TOKEN as FOLLOWER_TOKEN
from yoio_server import (
    Answer,
    Server,
    admin_pb2,
    admin_pb2_grpc,
    expect_error,
    inference_pb2,
    request,
    wait_until,
)

TOKEN = "the-token-of-these-operators"
OPTIONS = {"timeout": 30, "metadata": [("authorization", f"Bearer {TOKEN}")]}
PHASES = {"inputs", "self_decoder", "index_scores", "top_k", "index_broadcast", "cross_decoder", "sampling"}
COLLECTIVES = {"broadcast", "all_reduce", "all_gather"}
SOON = 5


@pytest.fixture(scope="module")
def token_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("token") / "token"
    path.write_text(TOKEN + "\n")
    return path


@pytest.fixture(scope="module")
def follower_token_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("follower-token") / "token"
    path.write_text(FOLLOWER_TOKEN + "\n")
    return path


def admin_flags(token_file):
    return ["--admin-listen", "127.0.0.1:0", "--admin-token-file", str(token_file)]


def admin_of(server):
    return admin_pb2_grpc.AdminServiceStub(grpc.insecure_channel(server.admin_address))


@pytest.fixture(scope="module")
def server(token_file, tmp_path_factory):
    dump = tmp_path_factory.mktemp("dump") / "flight.json"
    flags = ["--kv-cache-bytes", "256MiB", "--tensor-parallel-size", "2", "--flight-dump", str(dump)]
    with Server(*admin_flags(token_file), *flags) as running:
        running.admin, running.dump = admin_of(running), dump
        yield running


def run(server, request_id, words=1, tokens=8):
    """One request to its end."""
    message = request(TEXT * words, request_id=request_id, ignore_eos=True, max_tokens=tokens)
    return Answer(server.generate(message))


@contextlib.contextmanager
def busy(server, request_id):
    """A stream that generates meanwhile."""
    message = request(TEXT, request_id=request_id, temperature=0, ignore_eos=True, max_tokens=20000)
    stream = server.generate(message)
    next(stream), next(stream)
    reader = threading.Thread(target=lambda: [None for _ in drained(stream)])
    reader.start()
    try:
        yield stream
    finally:
        stream.cancel()
        reader.join()


def drained(stream):
    with contextlib.suppress(grpc.RpcError):
        yield from stream


def traces(server, **selection):
    return [answer.trace for answer in server.admin.GetTraces(admin_pb2.GetTracesRequest(**selection), **OPTIONS)]


def seconds(duration):
    return duration.seconds + duration.nanos / 1e9


def test_the_state_shows_a_live_request(server):
    with busy(server, "live-1"):
        engine, *requests = server.admin.DumpState(admin_pb2.DumpStateRequest(), **OPTIONS)
        assert engine.engine.running == 1 and not engine.engine.draining and engine.engine.step > 0
        assert 0 < engine.engine.free_blocks < engine.engine.total_blocks
        assert [rank.rank for rank in engine.engine.ranks] == [0, 1]
        assert all(rank.HasField("ended_step") and rank.phase in PHASES for rank in engine.engine.ranks)
        (live,) = (item.request for item in requests)
        assert (live.request_id, live.tenant, live.phase) == ("live-1", "default", "decode")
        assert live.blocks > 0 and live.prompt_tokens == live.prompt_tokens_done > 0
        assert live.completion_tokens > 0 and seconds(live.age) > 0
        (trace,) = traces(server, request_id="live-1")
        assert not trace.HasField("code") and seconds(trace.timing.total) > 0
    server.wait_until_idle()
    (engine,) = server.admin.DumpState(admin_pb2.DumpStateRequest(), **OPTIONS)
    assert engine.engine.running == 0


def test_the_steps_of_a_request_add_up(server):
    answer = run(server, "steps-1", words=40, tokens=12)
    usage = answer.summary.usage
    # A rank may end a step after its result has come.
    wait_until(lambda: len(traces(server, request_id="steps-1", steps=True)[0].steps[-1].ranks) == 2)
    (trace,) = traces(server, request_id="steps-1", steps=True)
    assert (trace.code, trace.usage, trace.tenant) == (0, usage, "default")
    on_gpu = server.stub.GetServerInfo(inference_pb2.GetServerInfoRequest()).device != "cpu"
    computed = usage.prompt_tokens - usage.cached_tokens + usage.completion_tokens - 1
    assert sum(step.tokens for step in trace.steps) == computed
    numbers = [step.step for step in trace.steps]
    assert numbers == sorted(set(numbers)) and numbers[-1] == trace.last_step
    for step in trace.steps:
        assert step.batch_requests == 1 and step.batch_tokens == step.tokens
        assert [(member.request_id, member.tokens) for member in step.members] == [("steps-1", step.tokens)]
        assert [rank.rank for rank in step.ranks] == [0, 1]
        for rank in step.ranks:
            assert {phase.phase for phase in rank.phases} <= PHASES
            assert sum(seconds(phase.duration) for phase in rank.phases) == pytest.approx(seconds(rank.total))
        # A host's others may end later than its result comes; a device is ahead of who waits for it.
        assert on_gpu or seconds(step.ranks[0].total) <= seconds(step.duration)
    assert sum(seconds(step.duration) for step in trace.steps) <= seconds(trace.timing.total)
    assert sum(step.prompt_tokens for step in trace.steps) == usage.prompt_tokens - usage.cached_tokens


def test_the_slowest_come_first(server):
    for number, tokens in enumerate([4, 40, 16]):
        run(server, f"slow-{number}", tokens=tokens)
    found = traces(server, slowest=1000)
    times = [seconds(trace.timing.total) for trace in found if trace.HasField("code")]
    assert times == sorted(times, reverse=True)
    assert times and {"slow-0", "slow-1", "slow-2"} <= {trace.request_id for trace in found}
    first_two = [trace.request_id for trace in traces(server, slowest=2)]
    assert first_two == [trace.request_id for trace in found[:2]]
    recent = [trace.request_id for trace in traces(server)]
    assert recent.index("slow-2") < recent.index("slow-1") < recent.index("slow-0")


def test_a_profile_shows_every_phase(server):
    with busy(server, "profiled-1"):
        pieces = server.admin.Profile(admin_pb2.ProfileRequest(steps=20), **OPTIONS)
        profile = json.loads(gzip.decompress(b"".join(piece.chunk for piece in pieces)))
    check_profile(profile, 20, "profiled-1")


def check_profile(profile, steps, member):
    spans = [event for event in profile["traceEvents"] if event["ph"] == "X"]
    engine = [event for event in spans if event["pid"] == 1]
    assert len([event for event in engine if event["name"] == "step"]) == steps
    assert {event["name"] for event in engine} == {"plan", "step"}
    assert any(member in str(event["args"].get("members")) for event in engine)
    ranks = [event for event in spans if event["pid"] == 2]
    assert {event["tid"] for event in ranks} == {0, 1}
    assert {event["name"] for event in ranks} == PHASES | {"step"}
    for tid in (0, 1):
        begins = [event["ts"] for event in ranks if event["tid"] == tid]
        assert begins == sorted(begins) and begins[0] >= 0


def test_a_signal_writes_the_recorder(server):
    text = "A prompt that nobody is to find again. "
    Answer(server.generate(request(text, request_id="dumped-1", max_tokens=4)))
    server.process.send_signal(signal.SIGUSR1)
    wait_until(lambda: '"event":"flight recorder"' in server.errors())
    lines = [json.loads(line) for line in server.dump.read_text().splitlines()]
    kinds = {kind: [line for line in lines if line["kind"] == kind] for kind in ("rank", "request", "step")}
    assert len(kinds["rank"]) == 2
    (dumped,) = (line for line in kinds["request"] if line["request_id"] == "dumped-1")
    assert (dumped["code"], dumped["completion_tokens"]) == (0, 4)
    members = [member for line in kinds["step"] for member in line["members"] if member[0] == dumped["number"]]
    assert sum(tokens for _, tokens in members) == dumped["prompt_tokens"] - dumped["cached_tokens"] + 3
    assert set(kinds["step"][-1]["ranks"][0]["phases_us"]) == PHASES
    assert "nobody" not in server.dump.read_text() and server.dump.stat().st_mode & 0o077 == 0
    assert run(server, "after-1").finished


def test_the_first_steps_become_a_file(token_file, tmp_path):
    path = tmp_path / "profile.json.gz"
    flags = ["--tensor-parallel-size", "2", "--profile-steps", "10", "--profile-file", str(path)]
    with Server("--kv-cache-bytes", "256MiB", *flags) as running:
        run(running, "first-1", tokens=20)
        wait_until(path.exists)
        check_profile(json.loads(gzip.decompress(path.read_bytes())), 10, "first-1")


def test_a_profile_that_cannot_be_written_is_a_warning(tmp_path):
    flags = ["--profile-steps", "2", "--profile-file", str(tmp_path / "none" / "profile.json.gz")]
    with Server("--kv-cache-bytes", "256MiB", *flags) as running:
        run(running, "first-1")
        wait_until(lambda: '"event":"profile"' in running.errors())
        assert '"level":"warning","event":"profile"' in running.errors()
        assert run(running, "second-1").finished


def test_the_state_of_an_engine_that_hangs(follower_token_file, token_file):
    with group(follower_token_file, *admin_flags(token_file)) as (leader, follower):
        streams = start_streams(leader)
        follower.process.send_signal(signal.SIGSTOP)
        time.sleep(1)  # for its steps to come to a halt
        answers = []
        error = expect_error(lambda: read_into(answers, leader), grpc.StatusCode.UNAVAILABLE, "ENGINE_FAILED")
        assert "engine thread" in error.details()
        engine, *requests = answers
        waiting, stopped = engine.engine.ranks
        assert waiting.step > stopped.ended_step and not stopped.HasField("step")
        assert waiting.collective in COLLECTIVES and len(requests) == len(streams)
        follower.process.send_signal(signal.SIGCONT)
        engine, *requests = admin_of(leader).DumpState(admin_pb2.DumpStateRequest(), **OPTIONS)
        assert engine.engine.running == len(requests) == len(streams)
        for stream in streams:
            stream.cancel()


def read_into(answers, leader):
    for answer in admin_of(leader).DumpState(admin_pb2.DumpStateRequest(), **OPTIONS):
        answers.append(answer)


def failure_record(process):
    (record,) = (json.loads(line) for line in process.errors().splitlines() if '"event":"engine failing"' in line)
    return record


def functions(record):
    return " ".join(name for stack in record["stacks"] for name in stack["functions"])


def test_a_stopped_follower_leaves_a_record(follower_token_file, tmp_path):
    log, dump = tmp_path / "termination-log", tmp_path / "flight.json"
    flags = ["--step-timeout", f"{STEP_TIMEOUT}s", "--termination-log", str(log), "--flight-dump", str(dump)]
    with group(follower_token_file, *flags) as (leader, follower):
        streams = start_streams(leader)
        follower.process.send_signal(signal.SIGSTOP)
        expect_failed_streams(streams, STEP_TIMEOUT + SOON)
        assert exit_code(leader, SOON) == 2
        follower.process.send_signal(signal.SIGCONT)
        assert exit_code(follower, SOON) == 2
        record = failure_record(leader)
        assert "--step-timeout" in record["message"]
        waiting, stopped = record["ranks"]
        assert waiting["step"] > stopped["ended_step"] and "step" not in stopped
        assert waiting["phase"] in PHASES
        assert waiting["collective"] in COLLECTIVES
        assert len(record["requests"]) == len(streams)
        assert "yoio::WorkerGroup::" in functions(record) and "yoio::StepLoop::" in functions(record)
        assert TEXT[:20] not in leader.errors()

        short = json.loads(log.read_text())
        assert log.stat().st_size < 4096
        assert short["ranks"] == record["ranks"] and short["requests"] == record["requests"]
        assert "yoio::WorkerGroup::" in functions(short)

        kinds = [json.loads(line)["kind"] for line in dump.read_text().splitlines()]
        assert kinds.count("request") >= len(streams) and kinds.count("rank") == 2
        assert "step" in kinds


def test_a_killed_follower_leaves_a_record(follower_token_file, tmp_path):
    log = tmp_path / "termination-log"
    flags = ["--termination-log", str(log), "--flight-dump", str(tmp_path / "flight.json")]
    with group(follower_token_file, *flags) as (leader, follower):
        streams = start_streams(leader)
        follower.process.kill()
        expect_failed_streams(streams, SOON)
        assert exit_code(leader, SOON) == 2
        record = failure_record(leader)
        assert re.search("(node|rank) 1", record["message"])
        assert len(record["ranks"]) == 2 and len(record["requests"]) == len(streams)
        assert json.loads(log.read_text())["message"] == record["message"]


def test_a_follower_tells_its_stacks(follower_token_file):
    with group(follower_token_file) as (leader, follower):
        streams = start_streams(leader)
        leader.process.kill()
        assert exit_code(follower, SOON) == 2
        assert "yoio::WorkerGroup::" in functions(failure_record(follower))
        for stream in streams:
            with pytest.raises(grpc.RpcError):
                list(stream)


def test_a_dump_goes_among_the_temporary_files(tmp_path):
    class Elsewhere(Server):
        environment = {"TMPDIR": str(tmp_path)}

    with Elsewhere("--kv-cache-bytes", "256MiB") as running:
        running.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: '"event":"flight recorder"' in running.errors())
        path = Path(tmp_path) / f"yoio-flight-{running.process.pid}.json"
        assert json.loads(path.read_text().splitlines()[0])["reason"] == "SIGUSR1"
