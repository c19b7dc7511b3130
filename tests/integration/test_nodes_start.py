"""Nodes that do not fit together: each side says so in two lines, in time, and exits with 1."""

import json
import time

import pytest
from yoio_nodes import TOKEN, Follower, Leader, exit_code, group
from yoio_server import Answer, free_address, last_two_lines, request

# How long a refusal may take once both sides run; with sanitizers, too.
SOON = 20


@pytest.fixture(scope="module")
def token_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("token") / "token"
    path.write_text(TOKEN + "\n")
    return path


def expect_refusal(process, *words, code=1):
    """What the process says before it exits."""
    try:
        assert exit_code(process, SOON) == code, process.errors()
    finally:
        process.process.kill()
    what, what_to_do = last_two_lines(process.errors())
    for word in words:
        assert word in what, what
    assert what_to_do


def expect_both_refuse(leader, follower, *words):
    try:
        expect_refusal(follower, *words)
        expect_refusal(leader, *words)
    finally:
        leader.process.kill()


def test_ranks_that_do_not_divide_the_heads(token_file):
    leader = Leader(token_file, ranks=6)
    follower = Follower(token_file, free_address(), "--load-timeout", "2s", ranks=6)
    expect_refusal(leader, "tensor parallel size")
    expect_refusal(follower)


def test_nodes_of_different_sizes(token_file):
    leader = Leader(token_file, ranks=4)
    follower = Follower(token_file, leader.followers_address(), ranks=2)
    expect_both_refuse(leader, follower, "--tensor-parallel-size of node 1 is 2", "leader is 4")


def test_another_model(token_file, tmp_path):
    override = tmp_path / "override.json"
    override.write_text(json.dumps({"index_topk": 128}))
    leader = Leader(token_file)
    follower = Follower(token_file, leader.followers_address(), "--config-override", str(override))
    expect_both_refuse(leader, follower, "config.json", "node 1")


def test_another_token(token_file, tmp_path):
    other = tmp_path / "other"
    other.write_text("another-token-of-these-tests")
    leader = Leader(token_file, "--load-timeout", "2s")
    follower = Follower(other, leader.followers_address())
    expect_refusal(follower, "token")
    expect_refusal(leader, "nodes", "1")  # it has waited in vain
    assert '"event":"follower refused"' in leader.errors()
    assert TOKEN not in leader.output() + follower.output()


@pytest.mark.parametrize("content", ["", "too short"])
def test_a_token_that_is_none(tmp_path, content):
    bad = tmp_path / "bad"
    bad.write_text(content)
    expect_refusal(Leader(bad), "--follower-token-file", str(bad))
    expect_refusal(Follower(bad, free_address()), "--follower-token-file", str(bad))


def test_a_follower_that_does_not_come(token_file):
    start = time.monotonic()
    leader = Leader(token_file, "--load-timeout", "2s", nodes=2)
    expect_refusal(leader, "not come", "1")
    assert time.monotonic() - start < SOON


def test_a_leader_that_is_not_there(token_file):
    address = free_address()
    follower = Follower(token_file, address, "--load-timeout", "2s")
    expect_refusal(follower, "cannot join the leader", address)
    assert '"event":"waiting for the leader"' in follower.errors()


def test_a_second_follower_of_one_node(token_file):
    with group(token_file) as (leader, _):
        second = Follower(token_file, leader.followers_address())
        expect_refusal(second, "--node-rank 1 has come before")
        assert '"event":"follower turned away"' in leader.errors()
        assert Answer(leader.generate(request("A process", max_tokens=4))).finished
