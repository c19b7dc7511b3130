"""What `yoio trace`, `yoio debug` and `yoio generate --trace` tell of a real server."""

import gzip
import json
import os
import subprocess
import xml.etree.ElementTree
from concurrent.futures import ThreadPoolExecutor

import pytest
from yoio_server import Server, clean_environment, wait_until

BINARY = os.environ["CLIENT_BINARY"]
TOKEN = "the-token-of-these-operators"
LONG = "A socket is an endpoint of communication. " * 200
PHASES = ("inputs", "self_decoder", "index_scores", "top_k", "index_broadcast", "cross_decoder", "sampling")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    token_file = tmp_path_factory.mktemp("admin") / "token"
    token_file.write_text(TOKEN + "\n")
    flags = ["--kv-cache-bytes", "256MiB", "--admin-listen", "127.0.0.1:0"]
    with Server(*flags, "--admin-token-file", str(token_file)) as running:
        running.token_file = token_file
        generate(running, LONG, "--request-id", "long", "--max-tokens", "24")
        generate(running, "short", "--request-id", "short", "--max-tokens", "2")
        yield running


def yoio(*arguments):
    environment = clean_environment() | {"LC_ALL": "C.UTF-8"}
    return subprocess.run(
        [BINARY, *arguments], capture_output=True, text=True, env=environment, timeout=60, check=False
    )


def generate(server, text, *arguments):
    done = yoio("generate", text, "--server", server.address, "--ignore-eos", "--temperature", "0", *arguments)
    assert done.returncode == 0, done.stderr
    return done


def ask(server, command, *arguments):
    token = ["--admin-token-file", str(server.token_file)]
    done = yoio(command, "--server", server.admin_address, *token, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def traces(server, *arguments):
    return [json.loads(line)["trace"] for line in ask(server, "trace", "--json", *arguments).splitlines()]


def seconds(duration):
    return float(duration.removesuffix("s"))


def test_a_request_is_drawn_with_its_slowest_steps(server):
    picture = ask(server, "trace", "long", "--steps")
    lines = picture.splitlines()
    assert lines[0].startswith("request long of default: OK, ") and lines[0].endswith(" 24 generated")
    for phase in ("tokenize", "queue", "prefill", "decode", "deliver", "longest gap"):
        assert any(line.startswith(f"{phase} ") and "s  " in line for line in lines), picture
    assert "the slowest 1" in picture and "  rank 0 " in picture
    assert "<- ended the longest gap" in picture and "shared with none" in picture


def test_phases_sum_to_the_total_and_steps_to_the_phases(server):
    (trace,) = traces(server, "long", "--steps")
    timing = trace["timing"]
    parts = sum(seconds(timing[phase]) for phase in ("tokenize", "queue", "prefill", "decode", "deliver"))
    total = seconds(timing["total"])
    assert abs(parts - total) <= max(0.01 * total, 0.001)
    steps = trace["steps"]
    assert sum(step["tokens"] for step in steps) == trace["usage"]["prompt_tokens"] + 23
    assert timing["longest_gap_step"] in {step["step"] for step in steps}
    for step in steps:
        (rank,) = step["ranks"]
        assert {phase["phase"] for phase in rank["phases"]} <= set(PHASES)
        assert seconds(rank["total"]) <= seconds(step["duration"]) + 1e-3


def test_the_slowest_come_first_and_the_latest_are_all_there(server):
    (slowest,) = traces(server, "--slowest", "1")
    assert slowest["request_id"] == "long"
    assert {trace["request_id"] for trace in traces(server, "--since", "5m")} >= {"long", "short"}
    table = ask(server, "trace", "--slowest", "2").splitlines()
    assert table[0].startswith("request  ended  prompt") and table[1].startswith("long ")
    assert table[-1].endswith("▄ deliver")
    assert traces(server, "--since", "1ns") == []


def test_who_shared_a_step_is_told(server):
    with ThreadPoolExecutor() as pool:
        calls = [
            pool.submit(generate, server, LONG, "--request-id", f"shared-{i}", "--max-tokens", "200")
            for i in range(2)
        ]
        [call.result() for call in calls]
    assert "shared with shared-1 " in ask(server, "trace", "shared-0", "--steps")


def test_the_timeline_is_a_chrome_trace_or_a_picture(server, tmp_path):
    for name in ("timeline.json.gz", "timeline.svg"):
        with ThreadPoolExecutor() as pool:
            call = pool.submit(generate, server, LONG, "--max-tokens", "300")
            told = ask(server, "trace", "--timeline", str(tmp_path / name), "--duration", "20s", "--max-steps", "9")
            call.result()
        assert "open it" in told
    events = json.loads(gzip.decompress((tmp_path / "timeline.json.gz").read_bytes()))["traceEvents"]
    assert {"self_decoder", "step", "plan"} <= {event["name"] for event in events}
    picture = xml.etree.ElementTree.parse(tmp_path / "timeline.svg").getroot()
    space = "{http://www.w3.org/2000/svg}"
    assert "rank 0" in [text.text for text in picture.iter(f"{space}text")]
    assert len([bar for bar in picture.iter(f"{space}rect") if bar.get("class") == "step"]) == 18


def test_debug_shows_who_is_there(server):
    assert "no live requests" in ask(server, "debug")
    process = subprocess.Popen(
        [BINARY, "generate", "x", "--server", server.address, "--ignore-eos", "--max-tokens", "20000"]
        + ["--request-id", "alive"],
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: "\nalive " in ask(server, "debug"))
        lines = [json.loads(line) for line in ask(server, "debug", "--json").splitlines()]
        assert lines[0]["engine"]["running"] == 1 and lines[1]["request"]["request_id"] == "alive"
    finally:
        process.terminate()
        process.wait(timeout=20)


def test_generate_draws_its_own_request(server):
    own = generate(server, LONG, "--max-tokens", "5", "--trace", "--request-id", "drawn")
    assert own.stderr.startswith("request drawn: OK, ") and "\nprefill " in own.stderr
    assert " steps, a bar" not in own.stderr
    asked = ["--admin-server", server.admin_address, "--admin-token-file", str(server.token_file)]
    own = generate(server, LONG, "--max-tokens", "5", "--trace", *asked)
    assert "the slowest " in own.stderr and "  rank 0 " in own.stderr


def test_failures_are_two_lines_that_say_what_to_do(server, tmp_path):
    wrong = tmp_path / "token"
    wrong.write_text("another-token-altogether")
    for arguments, code, words in [
        (["trace", "nobody", "--server", server.admin_address, "--admin-token-file", str(server.token_file)], 1,
         ("no request nobody", "yoio trace --since")),
        (["trace", "--server", server.admin_address, "--admin-token-file", str(wrong)], 1,
         ("BAD_CREDENTIAL", "--admin-token-file")),
        (["debug", "--server", server.admin_address], 1, ("BAD_CREDENTIAL", "--admin-token-file")),
        (["debug", "--server", "127.0.0.1:1"], 3, ("no answer from", "--admin-listen")),
    ]:
        done = yoio(*arguments)
        assert done.returncode == code
        assert len(done.stderr.splitlines()) == 2 and all(word in done.stderr for word in words), done.stderr
    assert TOKEN not in server.output()
