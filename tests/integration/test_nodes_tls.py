"""Mutual TLS between the nodes of one engine: both ends show a certificate, and both look at it."""

import contextlib

import pytest
from certificates import Authority
from yoio_nodes import TOKEN, Follower, Leader, flags_of, readiness
from yoio_server import Answer, Process, health_pb2, last_two_lines, request, run_to_end

TEXT = "A process that has terminated is a zombie until its parent waits for it. "


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture()
def token_file(tmp_path):
    path = tmp_path / "token"
    path.write_text(TOKEN)
    return path


def tls_flags(identity, authority):
    return [
        *("--followers-tls-cert", str(identity.cert), "--followers-tls-key", str(identity.key)),
        *("--followers-tls-ca", str(authority.cert)),
    ]


def test_an_engine_of_two_nodes_over_tls(authority, token_file):
    leader = Leader(token_file, *tls_flags(authority.sign("leader"), authority))
    follower = Follower(
        token_file, leader.followers_address(), *tls_flags(authority.sign("follower"), authority)
    )
    try:
        with follower, leader:
            assert readiness(follower) == health_pb2.HealthCheckResponse.SERVING
            assert Answer(leader.generate(request(TEXT, max_tokens=5))).kinds[-1] == "summary"
    finally:
        leader.process.kill()
        follower.process.kill()


@contextlib.contextmanager
def leader_that_waits(token_file, identity, authority):
    """A leader for whom no follower comes."""
    leader = Leader(token_file, *tls_flags(identity, authority))
    try:
        yield leader
    finally:
        leader.process.kill()
        leader.process.wait()


def follower_that_stays_out(token_file, address, *flags):
    """What a follower says that cannot come in."""
    network = ["--leader-address", address, "--health-listen", "127.0.0.1:0", "--load-timeout", "3s"]
    with Process(*flags_of(1, token_file), *network, *flags) as follower:
        assert follower.process.wait(timeout=30) == 1
        return last_two_lines(follower.errors())[0]


def test_who_cannot_show_a_certificate_stays_out(authority, token_file, tmp_path):
    stranger_directory = tmp_path / "stranger"
    stranger_directory.mkdir()
    stranger = Authority(stranger_directory)
    with leader_that_waits(token_file, authority.sign("leader"), authority) as leader:
        address = leader.followers_address()
        plain = follower_that_stays_out(token_file, address)
        unknown = follower_that_stays_out(token_file, address, *tls_flags(stranger.sign("node"), authority))
        distrusting = follower_that_stays_out(
            token_file, address, *tls_flags(authority.sign("node"), stranger)
        )
        for said in (plain, unknown, distrusting):
            assert f"cannot join the leader at {address}" in said
        assert "follower came" not in leader.errors()
        assert TOKEN not in leader.output()


def test_the_leader_must_be_whom_its_certificate_names(authority, token_file):
    elsewhere = authority.sign("elsewhere", names="DNS:elsewhere")
    with leader_that_waits(token_file, elsewhere, authority) as leader:
        said = follower_that_stays_out(
            token_file, leader.followers_address(), *tls_flags(authority.sign("node"), authority)
        )
        assert "cannot join the leader" in said


def test_files_that_cannot_be_used_are_named(authority, token_file, tmp_path):
    node = authority.sign("node")
    flags = [*flags_of(0, token_file), "--followers-listen", "127.0.0.1:0"]
    code, errors = run_to_end(*flags, *tls_flags(node, authority)[:4])
    assert code == 1 and "--followers-tls-ca" in last_two_lines(errors)[0]
    node.key.write_text("nothing")
    code, errors = run_to_end(*flags, *tls_flags(node, authority))
    assert code == 1 and f"--followers-tls-cert {node.key}" in last_two_lines(errors)[0]
