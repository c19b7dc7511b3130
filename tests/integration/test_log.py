"""The log: a reader who stalls holds nobody up, and learns what is lost."""

import json
import os
import time

from test_metrics import scrape
from yoio_server import Answer, Server, request

TEXT = "A process that has terminated is a zombie until its parent waits for it. "
CALLS = 120  # a pipe holds 64 KiB: the lines of about 75


def test_a_stalled_reader_holds_nobody_up():
    read_end, write_end = os.pipe()
    try:
        with Server(stderr=write_end) as server:
            for _ in range(CALLS):
                Answer(server.generate(request(TEXT, max_tokens=1)))
            assert "\nyoio_log_lines_dropped_total 0\n" in scrape(server)[1]  # they wait
            server.process.terminate()
            start = time.monotonic()
            assert server.process.wait(timeout=20) == 0
            assert time.monotonic() - start > 1  # in hope of a reader
    finally:
        os.close(write_end)
        os.close(read_end)


def test_lines_that_waited_come_when_somebody_reads():
    read_end, write_end = os.pipe()
    with Server(stderr=write_end) as server, os.fdopen(read_end) as log:
        os.close(write_end)
        for _ in range(CALLS):
            Answer(server.generate(request(TEXT, max_tokens=1)))
        server.process.terminate()
        events = [json.loads(line)["event"] for line in log]  # to the end of the process
        assert events.count("request") == CALLS and events[-1] == "drained"
        assert server.process.wait(timeout=20) == 0
