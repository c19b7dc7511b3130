"""A rollout as Kubernetes does it, with real processes: a new server becomes ready, then the old one is told to go.

A real Envoy stands for the Service: it asks each server's health listener whether it is ready, as the kubelet does, and
passes calls to those that are.
"""

import json
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent import futures
from pathlib import Path

import grpc
import pytest
import yaml
from yoio_server import (
    Answer,
    Server,
    event_pb2,
    free_address,
    health_pb2,
    inference_pb2,
    inference_pb2_grpc,
    request,
    wait_until,
)

GUARD = Path(__file__).resolve().parents[2] / "docker" / "guard" / "envoy.yaml"
ENVOY = shutil.which("envoy", path=str(Path(sys.executable).parent))

SMALL = ["--kv-cache-bytes", "64MiB", "--max-sequences", "8"]
DRAIN_DELAY = 2  # seconds
WORDS = "Once upon a time there was a river. "

HTTP2 = {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
}


def address(text):
    host, _, port = text.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}


def service_config(servers):
    """Passes calls to those of `servers`, (data, health) addresses, that say that they are ready."""
    endpoints = [
        {"endpoint": {"address": address(data), "health_check_config": {"address": address(health)}}}
        for data, health in servers
    ]
    cluster = {
        "name": "service",
        "type": "STATIC",
        "load_assignment": {"cluster_name": "service", "endpoints": [{"lb_endpoints": endpoints}]},
        "typed_extension_protocol_options": HTTP2,
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "health_checks": [
            {
                "timeout": "2s",
                "interval": "0.2s",
                "no_traffic_interval": "0.2s",
                "unhealthy_threshold": 1,
                "healthy_threshold": 1,
                "grpc_health_check": {},
            }
        ],
    }
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager"
        ".v3.HttpConnectionManager",
        "stat_prefix": "calls",
        "codec_type": "HTTP2",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {"match": {"prefix": "/"}, "route": {"cluster": "service", "timeout": "0s"}}
                    ],
                }
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
                },
            }
        ],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    listener = {
        "name": "calls",
        "address": address("127.0.0.1:0"),
        "filter_chains": [{"filters": filters}],
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


class Envoy:
    """A running Envoy with the one listener of its configuration. Use it in a `with`, which ends it."""

    def __init__(self, config, folder):
        self.folder = folder
        config["admin"] = {"address": address("127.0.0.1:0")}
        (folder / "envoy.json").write_text(json.dumps(config))
        command = [ENVOY, "--config-path", "envoy.json", "--admin-address-path", "admin"]
        command += ["--use-dynamic-base-id", "--concurrency", "1", "--log-level", "warning"]
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)

    def __enter__(self):
        wait_until(lambda: (self.folder / "admin").exists() or self.process.poll() is not None)
        assert self.process.poll() is None, (self.folder / "log").read_text()
        self.admin = (self.folder / "admin").read_text()
        wait_until(lambda: self.get("/ready") == "LIVE\n")
        statuses = json.loads(self.get("/listeners?format=json"))["listener_statuses"]
        bound = statuses[0]["local_address"]["socket_address"]
        self.address = f"{bound['address']}:{bound['port_value']}"
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=20)

    def get(self, path):
        try:
            return urllib.request.urlopen(f"http://{self.admin}{path}", timeout=10).read().decode()
        except urllib.error.HTTPError as error:
            return error.read().decode()

    def num_healthy(self):
        clusters = json.loads(self.get("/clusters?format=json"))["cluster_statuses"]
        hosts = clusters[0].get("host_statuses", [])
        return sum(host["health_status"].get("eds_health_status") == "HEALTHY"
                   and not host["health_status"].get("failed_active_health_check") for host in hosts)


def is_ready(server):
    answer = server.health.Check(health_pb2.HealthCheckRequest(), timeout=20)
    return answer.status == health_pb2.HealthCheckResponse.SERVING


def call_until_stopped(stub, stop):
    """Calls again and again, without a retry anywhere. Every stream must come to its good end."""
    count = 0
    while not stop.is_set():
        answer = Answer(stub.Generate(request(WORDS, max_tokens=8, ignore_eos=True), timeout=60))
        assert answer.finished[0].reason == event_pb2.FINISH_REASON_LENGTH
        count += 1
    return count


def test_a_rollout_loses_no_stream(tmp_path):
    drain = ["--drain-delay", f"{DRAIN_DELAY}s", "--drain-timeout", "60s"]
    new_address = (free_address(), free_address())
    stop = threading.Event()
    with (
        Server(*SMALL, *drain) as old,
        Envoy(service_config([(old.address, old.health_address), new_address]), tmp_path) as service,
        grpc.insecure_channel(service.address) as channel,
        futures.ThreadPoolExecutor() as pool,
    ):
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        wait_until(lambda: service.num_healthy() == 1)
        callers = [pool.submit(call_until_stopped, stub, stop) for _ in range(3)]
        try:
            wait_until(lambda: old.load().steps > 20)
            # Outlives the grace window: a long answer that began on the old server.
            long = stub.Generate(request(WORDS, max_tokens=1500, ignore_eos=True), timeout=120)
            assert next(long).WhichOneof("event") == "accepted"
            data, health = new_address
            with Server(*SMALL, listen=data, health_listen=health) as new:
                wait_until(lambda: service.num_healthy() == 2)
                old.process.terminate()
                told = time.monotonic()
                wait_until(lambda: not is_ready(old), seconds=1)
                wait_until(lambda: service.num_healthy() == 1)
                # Whoever has not heard yet is still served.
                late = Answer(old.generate(request(WORDS, max_tokens=4)))
                assert late.finished and time.monotonic() - told < DRAIN_DELAY
                assert event_pb2.FINISH_REASON_LENGTH == Answer(long).finished[0].reason
                assert old.process.wait(timeout=60) == 0
                before = new.load().steps
                wait_until(lambda: new.load().steps > before + 20)
                stop.set()
                assert all(caller.result() > 0 for caller in callers)
        finally:
            stop.set()


@pytest.fixture
def guarded(server, tmp_path):
    """The guard that images and chart bring, in front of a server."""
    config = yaml.safe_load(GUARD.read_text())
    listener, cluster = config["static_resources"]["listeners"][0], config["static_resources"]["clusters"][0]
    listener["address"] = address("127.0.0.1:0")
    (endpoints,) = cluster["load_assignment"]["endpoints"]
    endpoints["lb_endpoints"][0]["endpoint"]["address"] = address(server.address)
    with Envoy(config, tmp_path) as guard, grpc.insecure_channel(guard.address) as channel:
        yield inference_pb2_grpc.InferenceServiceStub(channel)


def test_the_guard_passes_calls_on(guarded):
    answer = Answer(guarded.Generate(request(WORDS, max_tokens=8, ignore_eos=True), timeout=60))
    assert answer.finished[0].reason == event_pb2.FINISH_REASON_LENGTH
    large = inference_pb2.TokenizeRequest(text=WORDS * 20000)
    assert len(guarded.Tokenize(large, timeout=60).ids) > 20000
