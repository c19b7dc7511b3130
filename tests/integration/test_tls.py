"""TLS on the data listener: who is let in, and new certificates while streams run."""

import subprocess

import grpc
import pytest
from certificates import Authority, open_channel, serial_of
from yoio_server import (
    Answer,
    Server,
    expect_error,
    health_pb2,
    inference_pb2,
    inference_pb2_grpc,
    last_two_lines,
    request,
    run_to_end,
    wait_until,
)

TEXT = "A socket is an endpoint of communication. "
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """An authority that nobody trusts."""
    return Authority(tmp_path_factory.mktemp("stranger"))


def tls_flags(identity, client_ca=None):
    flags = ["--tls-cert", str(identity.cert), "--tls-key", str(identity.key)]
    return [*flags, "--tls-client-ca", str(client_ca.cert)] if client_ca else flags


def load_over(channel):
    with channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        return stub.GetLoad(inference_pb2.GetLoadRequest(), timeout=10)


def test_tls_is_spoken_and_nothing_else(authority, stranger):
    identity = authority.sign("server")
    with Server(*tls_flags(identity), open_channel=lambda at: open_channel(at, authority)) as server:
        assert Answer(server.generate(request(TEXT, max_tokens=3))).kinds[-1] == "summary"
        check = server.health.Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert check.status == health_pb2.HealthCheckResponse.SERVING
        expect_error(lambda: load_over(grpc.insecure_channel(server.address)), UNAVAILABLE)
        expect_error(lambda: load_over(open_channel(server.address, stranger)), UNAVAILABLE)


def test_a_new_certificate_is_taken_while_streams_run(authority, stranger):
    identity = authority.sign("rotated")
    with Server(*tls_flags(identity), open_channel=lambda at: open_channel(at, authority)) as server:
        before = serial_of(server.address)
        stream = server.generate(request(TEXT, temperature=0, ignore_eos=True, max_tokens=800))
        events = [next(stream), next(stream)]

        # A certificate with another's key: the old pair stays, and a warning says so.
        good = identity.cert.read_bytes()
        identity.cert.write_bytes(stranger.sign("other").cert.read_bytes())
        wait_until(lambda: "not the key of the certificate" in server.errors())
        assert serial_of(server.address) == before
        identity.cert.write_bytes(good)

        # So it does with a file that is no certificate, and with one that has expired.
        identity.cert.write_bytes(b"nothing")
        wait_until(lambda: "expected certificates in PEM" in server.errors())
        assert serial_of(server.address) == before
        authority.sign("rotated", expired=True)
        wait_until(lambda: "the certificate has expired" in server.errors())
        assert serial_of(server.address) == before

        authority.sign("rotated")
        wait_until(lambda: serial_of(server.address) != before)
        load_over(open_channel(server.address, authority))
        answer = Answer(events + list(stream))
        assert answer.summary.usage.completion_tokens == 800


def test_a_client_needs_a_certificate_of_the_authority(authority, stranger):
    identity, client = authority.sign("mtls"), authority.sign("client", common_name="search")
    flags = tls_flags(identity, client_ca=authority)
    with Server(*flags, open_channel=lambda at: open_channel(at, authority, client)) as server:
        assert Answer(server.generate(request(TEXT, max_tokens=3))).kinds[-1] == "summary"
        wait_until(lambda: '"tenant":"search"' in server.errors())
        old = authority.sign("old", common_name="search", expired=True)
        for wrong in (None, stranger.sign("wrong"), old):
            channel = open_channel(server.address, authority, wrong)
            expect_error(lambda: load_over(channel), UNAVAILABLE)
        server.wait_until_idle()


def test_old_versions_of_tls_are_refused(authority):
    identity = authority.sign("versions")
    with Server(*tls_flags(identity), open_channel=lambda at: open_channel(at, authority)) as server:
        assert not handshake(server.address, "-tls1_1")
        assert handshake(server.address, "-tls1_2")
        assert handshake(server.address, "-tls1_3")


def handshake(address, version):
    """Whether the server agrees to speak this version."""
    command = ["openssl", "s_client", "-connect", address, "-alpn", "h2", version]
    command += ["-cipher", "DEFAULT:@SECLEVEL=0"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return b"BEGIN CERTIFICATE" in done.stdout


def refusal(*flags):
    code, errors = run_to_end(*flags)
    assert code == 1, errors
    return last_two_lines(errors)[0]


def test_files_that_cannot_be_used_are_named(authority, stranger, tmp_path):
    identity, other = authority.sign("named"), stranger.sign("unnamed")
    cert, key = str(identity.cert), str(identity.key)
    nowhere = str(tmp_path / "nowhere")
    assert f"--tls-cert {nowhere}" in refusal("--tls-cert", nowhere, "--tls-key", key)
    assert nowhere in refusal("--tls-cert", cert, "--tls-key", nowhere)
    assert "not the key" in refusal("--tls-cert", cert, "--tls-key", str(other.key))
    assert "--tls-cert" in refusal("--tls-key", key)
    assert "--tls-key" in refusal("--tls-cert", cert)
    assert "--tls-client-ca" in refusal("--tls-client-ca", cert)
    assert "expired" in refusal(*tls_flags(authority.sign("late", expired=True)))
    garbage = tmp_path / "garbage"
    garbage.write_text("nothing")
    assert str(garbage) in refusal(*tls_flags(identity), "--tls-client-ca", str(garbage))
    assert "--allow-plaintext" in "".join(last_two_lines(run_to_end(listen="0.0.0.0:0")[1]))
    identity.key.chmod(0o666)
    assert "everybody may write" in refusal(*tls_flags(identity))
