"""The programs of examples/ against a real server, and against one that fails as the test says."""

import argparse
import functools
import hashlib
import json
import os
import runpy
import signal
import subprocess
import threading
import time
from concurrent import futures

import grpc
import pytest
from certificates import Authority, open_channel
from example_programs import EXAMPLES, Program, ScriptedServer
from yoio_server import (
    Answer,
    Server,
    expect_error,
    inference_pb2,
    inference_pb2_grpc,
    request,
    request_pb2,
    wait_until,
)

CLIENT = os.environ["CLIENT_BINARY"]
SMALL = ["--kv-cache-bytes", "64MiB", "--max-sequences", "8"]

PROMPT = "Remember: the amber falcon code is 48213.\n\nThe amber falcon code is"
WORDS = "Once upon a time there was a river. "


@pytest.fixture(scope="module", params=["python", "java", "go"])
def program(request, tmp_path_factory):
    return Program(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A server that wants a client certificate and a key. Its `flags` let a program in; `wrong_key` is a file."""
    folder = tmp_path_factory.mktemp("guarded")
    authority = Authority(folder)
    own, client = authority.sign("server"), authority.sign("client")
    key, wrong_key, keys = folder / "key", folder / "wrong_key", folder / "keys.json"
    key.write_text("k-right-0123456789\n")
    wrong_key.write_text("k-wrong-0123456789\n")
    digest = hashlib.sha256(key.read_text().strip().encode()).hexdigest()
    keys.write_text(json.dumps([{"sha256": digest, "tenant": "test"}]))
    settings = [
        "--tls-cert",
        own.cert,
        "--tls-key",
        own.key,
        "--tls-client-ca",
        authority.cert,
        "--api-keys",
        keys,
    ]
    channel = functools.partial(open_channel, authority=authority, client=client)
    with Server(*SMALL, *map(str, settings), open_channel=channel) as running:
        running.flags = ["--tls-ca", authority.cert, "--tls-cert", client.cert, "--tls-key", client.key]
        running.key, running.wrong_key = key, wrong_key
        yield running


def test_it_answers(program, server):
    done = program.run(server.address, "--max-tokens", 16, prompt=PROMPT)
    assert done.returncode == 0, done
    assert done.stdout.startswith(" 48213"), done
    assert done.stderr.startswith("generate: FINISH_REASON_"), done
    server.wait_until_idle()


def test_the_time_budget_ends_it_well(program, server):
    done = program.run(server.address, "--max-tokens", 20000, "--time-budget", 1, prompt=WORDS)
    assert done.returncode == 0, done
    assert len(done.stdout) > 10 and "FINISH_REASON_" in done.stderr, done
    server.wait_until_idle()


def test_a_refusal_is_decoded(program, server):
    done = program.run(server.address, "--max-tokens", -1, prompt=PROMPT)
    assert done.returncode == 1 and done.stdout == "", done
    assert "BAD_VALUE: " in done.stderr and "max_tokens" in done.stderr, done
    assert "accepted=false" in done.stderr and "request_id=" in done.stderr, done


class EndlessServer(ScriptedServer):
    """Its streams say nothing until their client has gone."""

    def __init__(self):
        super().__init__()
        self.began, self.ended = threading.Event(), threading.Event()

    def Generate(self, _, context):
        context.add_callback(self.ended.set)
        self.began.set()
        self.ended.wait(30)
        yield from ()


def test_ctrl_c_cancels(program):
    with EndlessServer() as server:
        running = program.start(server.address)
        assert server.began.wait(30)
        running.send_signal(signal.SIGINT)
        out, errors = running.communicate(timeout=30)
        assert running.returncode == 130, (out, errors)
        assert server.ended.wait(10)


def test_the_deadline_bounds_everything(program):
    with EndlessServer() as server:
        done = program.run(server.address, "--timeout", 1)
        assert done.returncode == 1 and "DEADLINE" in done.stderr.upper(), done
        assert server.ended.wait(10)


def test_a_refusal_before_accepted_is_retried_by_grpc(program):
    with ScriptedServer(breaks=[None, None]) as server:
        done = program.run(server.address)
        assert (done.returncode, done.stdout) == (0, ScriptedServer.TEXT + "\n"), done
        assert len(server.requests) == 3 and "broke" not in done.stderr


def test_a_broken_stream_is_taken_up_again(program):
    # The second break is inside a character: that one is generated anew.
    with ScriptedServer(breaks=[5, 3]) as server:
        done = program.run(server.address, "--max-tokens", 30)
        assert (done.returncode, done.stdout) == (0, ScriptedServer.TEXT + "\n"), done
        prompts = [bytes(asked.token_ids.ids) for asked in server.requests]
        assert prompts == [b"hello", b"helloThe c", b"helloThe caf"]
        assert [asked.stop.max_tokens for asked in server.requests] == [30, 25, 23]
        assert len({asked.request_id for asked in server.requests}) == 3
        assert "ENGINE_FAILED" in done.stderr and "retry_after=" in done.stderr, done


def test_a_suspect_request_is_taken_up_once(program):
    with ScriptedServer(breaks=[5, 3, 3, 3], suspect=True) as server:
        done = program.run(server.address)
        assert done.returncode == 1 and "suspect=true" in done.stderr, done
        assert len(server.requests) == 2


def test_tls_and_key(program, guarded):
    done = program.run(guarded.address, *guarded.flags, "--api-key-file", guarded.key, prompt=PROMPT)
    assert done.returncode == 0 and done.stdout.startswith(" 48213"), done
    done = program.run(guarded.address, *guarded.flags, "--api-key-file", guarded.wrong_key)
    assert done.returncode == 1 and "BAD_CREDENTIAL" in done.stderr, done
    assert "k-wrong" not in done.stderr


def test_the_command_line_has_tls_and_key(guarded):
    def yoio(*flags):
        command = [
            CLIENT,
            "generate",
            "--temperature",
            "0",
            "--server",
            guarded.address,
            *map(str, flags),
            PROMPT,
        ]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    done = yoio(*guarded.flags, "--api-key-file", guarded.key)
    assert done.returncode == 0 and done.stdout.startswith(" 48213"), done
    for flags, said in [
        ([*guarded.flags, "--api-key-file", guarded.wrong_key], "BAD_CREDENTIAL"),
        (guarded.flags, "BAD_CREDENTIAL"),
        (["--tls"], "a CA that this client trusts"),
        (guarded.flags[:2], "it closed the connection"),
        ([], "it closed the connection"),
    ]:
        done = yoio(*flags)
        assert done.returncode in (1, 3) and done.stdout == "", done
        assert said in done.stderr and len(done.stderr.splitlines()) == 2, done


def test_a_drain_loses_no_call():
    """With the channel of the Python program: its service config shares the calls and tries refused ones again."""
    example = runpy.run_path(str(EXAMPLES / "python" / "generate.py"))
    stop = threading.Event()

    def call_until_stopped(stub):
        count = 0
        while not stop.is_set():
            Answer(stub.Generate(request(WORDS, max_tokens=2), timeout=60))
            count += 1
        return count

    with Server(*SMALL) as first, Server(*SMALL) as second, futures.ThreadPoolExecutor() as pool:
        where = argparse.Namespace(server=f"ipv4:{first.address},{second.address}", tls_ca=None)
        stub = inference_pb2_grpc.InferenceServiceStub(example["connect"](where))
        callers = [pool.submit(call_until_stopped, stub) for _ in range(4)]
        try:
            wait_until(lambda: first.load().steps > 20 and second.load().steps > 20)
            first.process.terminate()
            assert first.process.wait(timeout=20) == 0
        finally:
            stop.set()
        assert all(caller.result() > 0 for caller in callers)


def test_no_health_service_on_the_data_listener(server):
    """A service config that asks for client-side health checks does no harm and finds nothing: docs/clients.md."""
    config = '{"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}}'
    with grpc.insecure_channel(f"ipv4:{server.address}", [("grpc.service_config", config)]) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        assert stub.GetLoad(inference_pb2.GetLoadRequest(), timeout=30).total_blocks > 0


def test_grpc_does_not_run_an_aborted_call_again(server):
    """A unary call that fails after its request was accepted says so to gRPC's own retries."""
    asked = request(WORDS, request_id="aborted-once", temperature=0, ignore_eos=True, max_tokens=20000)
    config = (
        '{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 4, "initialBackoff": "0.01s",'
        ' "maxBackoff": "1s", "backoffMultiplier": 2, "retryableStatusCodes": ["CANCELLED"]}}]}'
    )
    with grpc.insecure_channel(server.address, [("grpc.service_config", config)]) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        call = stub.GenerateOnce.future(request_pb2.GenerateOnceRequest(request=asked), timeout=60)
        while server.load().running == 0 and not call.done():
            time.sleep(0.01)
        server.stub.Abort(inference_pb2.AbortRequest(request_id="aborted-once"), timeout=60)
        expect_error(call.result, grpc.StatusCode.CANCELLED, "ABORTED_BY_CALL")
    server.wait_until_idle()
