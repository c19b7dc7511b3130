"""AdminService: a listener and a credential of its own."""

import json
import subprocess

import grpc
import pytest
from yoio_server import (
    Server,
    admin_pb2,
    admin_pb2_grpc,
    expect_error,
    last_two_lines,
    request,
    run_to_end,
    wait_until,
)

TEXT = "A socket is an endpoint of communication. "
TOKEN = "the-token-of-these-operators"
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
OPTIONS = {"timeout": 10, "metadata": [("authorization", f"Bearer {TOKEN}")]}


@pytest.fixture()
def token_file(tmp_path):
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    return path


@pytest.fixture()
def server(token_file):
    flags = ["--admin-listen", "127.0.0.1:0", "--admin-token-file", str(token_file)]
    with Server(*flags) as running:
        running.admin = admin_pb2_grpc.AdminServiceStub(grpc.insecure_channel(running.admin_address))
        yield running


CALLS = {
    "DumpState": lambda stub, **o: list(stub.DumpState(admin_pb2.DumpStateRequest(), **o)),
    "GetTraces": lambda stub, **o: list(stub.GetTraces(admin_pb2.GetTracesRequest(), **o)),
    "Profile": lambda stub, **o: list(stub.Profile(admin_pb2.ProfileRequest(), **o)),
    "SetLogLevel": lambda stub, **o: stub.SetLogLevel(admin_pb2.SetLogLevelRequest(), **o),
    "Drain": lambda stub, **o: stub.Drain(admin_pb2.DrainRequest(), **o),
}


def test_every_call_needs_the_token(server):
    assert set(CALLS) == {m.name for m in admin_pb2.DESCRIPTOR.services_by_name["AdminService"].methods}
    for call in CALLS.values():
        for metadata in (None, [("authorization", "Bearer wrong")], [("authorization", TOKEN)]):
            expect_error(
                lambda: call(server.admin, timeout=10, metadata=metadata), UNAUTHENTICATED, "BAD_CREDENTIAL"
            )
    assert server.process.poll() is None and TOKEN not in server.output()


def test_the_data_listener_knows_nothing_of_it(server):
    stub = admin_pb2_grpc.AdminServiceStub(server.channel)
    for call in CALLS.values():
        expect_error(lambda: call(stub, **OPTIONS), grpc.StatusCode.UNIMPLEMENTED)
    assert server.process.poll() is None


def set_level(server, level):
    return server.admin.SetLogLevel(admin_pb2.SetLogLevelRequest(level=level), **OPTIONS).previous


def test_the_log_level_changes(server):
    expect_error(
        lambda: CALLS["SetLogLevel"](server.admin, **OPTIONS), grpc.StatusCode.INVALID_ARGUMENT, "BAD_VALUE"
    )
    assert set_level(server, admin_pb2.LOG_LEVEL_WARNING) == admin_pb2.LOG_LEVEL_INFO
    list(server.generate(request(TEXT, max_tokens=1, request_id="unseen")))
    assert set_level(server, admin_pb2.LOG_LEVEL_INFO) == admin_pb2.LOG_LEVEL_WARNING
    list(server.generate(request(TEXT, max_tokens=1, request_id="seen")))
    wait_until(lambda: '"seen"' in server.errors())
    assert '"unseen"' not in server.errors()


def start_stream(server, tokens):
    stream = server.generate(request(TEXT, temperature=0, ignore_eos=True, max_tokens=tokens))
    next(stream), next(stream)
    return stream


def test_drain_ends_the_process(server):
    stream = start_stream(server, 200)
    assert server.admin.Drain(admin_pb2.DrainRequest(), **OPTIONS).live_requests == 1
    assert list(stream)[-1].HasField("summary")
    assert server.process.wait(timeout=20) == 0


def test_drain_has_a_timeout_and_a_signal_after_it_is_part_of_it(server):
    stream = start_stream(server, 20000)
    wanted = admin_pb2.DrainRequest()
    wanted.timeout.seconds = 2
    server.admin.Drain(wanted, **OPTIONS)
    wait_until(lambda: '"draining"' in server.errors())
    server.process.terminate()
    expect_error(lambda: list(stream), grpc.StatusCode.UNAVAILABLE, "DRAINING")
    assert server.process.wait(timeout=10) == 0
    counts = json.loads(server.errors().splitlines()[-1])
    assert (counts["event"], counts["failed_unavailable"], counts["completed"]) == ("drained", 1, 0)


def test_two_signals_after_a_drain_kill(server):
    stream = start_stream(server, 20000)
    server.admin.Drain(admin_pb2.DrainRequest(), **OPTIONS)
    wait_until(lambda: '"draining"' in server.errors())
    server.process.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        server.process.wait(timeout=0.5)
    server.process.terminate()
    assert server.process.wait(timeout=5) == 3
    stream.cancel()


def test_a_listener_without_a_token_is_refused(token_file, tmp_path):
    listen = ["--admin-listen", "127.0.0.1:0"]
    short = tmp_path / "short"
    short.write_text("short")
    for flags, named in [
        (listen, "--admin-listen"),
        (["--admin-token-file", str(token_file)], "--admin-token-file"),
        ([*listen, "--admin-token-file", str(short)], "--admin-token-file"),
        (["--admin-listen", "0.0.0.0:0", "--admin-token-file", str(token_file)], "--allow-plaintext"),
    ]:
        code, errors = run_to_end(*flags)
        assert code == 1 and named in "".join(last_two_lines(errors))
