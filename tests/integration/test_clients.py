"""The programs of examples/ against a real server, and against one that fails as the test says."""

import signal
import subprocess
import threading
import time

import grpc
import pytest
from example_programs import Program, ScriptedServer
from yoio_server import expect_error, inference_pb2, inference_pb2_grpc, request, request_pb2

PROMPT = "Remember: the amber falcon code is 48213.\n\nThe amber falcon code is"
WORDS = "Once upon a time there was a river. "


@pytest.fixture(scope="module", params=["python", "java", "go"])
def program(request, tmp_path_factory):
    return Program(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Key and certificate files, self-signed for localhost."""
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    return key, certificate


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


def test_tls_and_key(program, certificate, tmp_path):
    key, certificate = certificate
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_text("k-right\n")
    wrong.write_text("k-wrong\n")
    with ScriptedServer(key="k-right", tls=(key.read_bytes(), certificate.read_bytes())) as server:
        done = program.run(server.address, "--tls-ca", certificate, "--api-key-file", right)
        assert (done.returncode, done.stdout) == (0, ScriptedServer.TEXT + "\n"), done
        done = program.run(server.address, "--tls-ca", certificate, "--api-key-file", wrong)
        assert done.returncode == 1 and "BAD_CREDENTIAL" in done.stderr, done
        assert "k-wrong" not in done.stderr


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
