"""The guard: Envoy takes its configuration, and carries calls to a server (SERVER_BINARY, CLIENT_BINARY, MODEL_DIR)."""

import contextlib
import itertools
import os
import re
import signal
import socket
import subprocess
import time

import pytest

from programs import envoy_binary
from rendered import objects, one

PLAIN, MUTUAL_TLS = "guard", "guard-mutual-tls"
SERVER, CLIENT, MODEL = (os.environ.get(name, "") for name in ("SERVER_BINARY", "CLIENT_BINARY", "MODEL_DIR"))
with_server = pytest.mark.skipif(
    not (SERVER and CLIENT and MODEL), reason="SERVER_BINARY and the like are not set"
)
START_SECONDS = 60


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def make_authority(folder):
    openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", 2),
        *("-subj", "/CN=authority", "-keyout", folder / "ca.key", "-out", folder / "ca.crt"),
    )


def sign(folder, out, serial):
    """tls.crt and tls.key in `out`, for 127.0.0.1."""
    out.mkdir(exist_ok=True)
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    openssl(
        *("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
        *("-subj", "/CN=yoio", "-keyout", out / "tls.key", "-out", folder / "request"),
    )
    openssl(
        *("x509", "-req", "-in", folder / "request", "-CA", folder / "ca.crt", "-CAkey", folder / "ca.key"),
        *("-extfile", folder / "names", "-set_serial", serial, "-days", 2, "-out", out / "tls.crt"),
    )


class MountedSecret:
    """A directory as Kubernetes mounts a Secret: links through `..data`, which is switched over in one step."""

    def __init__(self, folder, files):
        self.folder, self.version = folder, 0
        folder.mkdir()
        for name in files:
            (folder / name).symlink_to(f"..data/{name}")

    def next_version(self):
        """The directory to write into; shown once `switch` is called."""
        self.version += 1
        version = self.folder / f"..version{self.version}"
        version.mkdir()
        return version

    def switch(self):
        (self.folder / "..next").symlink_to(f"..version{self.version}")
        (self.folder / "..next").rename(self.folder / "..data")


@pytest.fixture
def secrets(tmp_path):
    """What the guard mounts below /etc/yoio; returns the server's certificate."""
    make_authority(tmp_path)
    certificate = MountedSecret(tmp_path / "tls", ["tls.crt", "tls.key"])
    sign(tmp_path, certificate.next_version(), 1)
    certificate.switch()
    clients = MountedSecret(tmp_path / "client-ca", ["ca.crt"])
    (clients.next_version() / "ca.crt").write_bytes((tmp_path / "ca.crt").read_bytes())
    clients.switch()
    return certificate


def write_configuration(name, folder, listen=50051, server=50061):
    """The guard's files as the ConfigMap has them, with its paths below `folder` and other ports."""
    for file, text in one(objects(4, name), "ConfigMap", "release-yoio")["data"].items():
        text = text.replace("/etc/envoy", str(folder)).replace("/etc/yoio", str(folder))
        text = (
            text.replace("0.0.0.0", "127.0.0.1").replace("50051", str(listen)).replace("50061", str(server))
        )
        (folder / file).write_text(text, encoding="utf-8")
    return folder / "envoy.yaml"


def envoy_command(configuration, *more):
    return [
        envoy_binary(),
        "--config-path",
        configuration,
        "--disable-hot-restart",
        "--concurrency",
        "1",
        *more,
    ]


@pytest.mark.parametrize("name", [PLAIN, MUTUAL_TLS])
def test_envoy_takes_the_configuration(name, tmp_path, secrets):
    configuration = write_configuration(name, tmp_path)
    done = subprocess.run(
        envoy_command(configuration, "--mode", "validate"), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "OK" in done.stdout + done.stderr


@contextlib.contextmanager
def process(command):
    """Runs until the block ends."""
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield running
    finally:
        running.kill()
        running.wait()


@pytest.fixture
def server():
    command = [
        SERVER,
        "--model",
        MODEL,
        "--listen=127.0.0.1:0",
        "--health-listen=off",
        "--metrics-listen=off",
    ]
    command += ["--drain-timeout=60s"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        yield running, int(re.search(r" listen=127\.0\.0\.1:(\d+) ", running.stdout.readline())[1])
    finally:
        running.kill()
        running.wait()


# Below those that the kernel gives to connections: nobody takes one before the guard does, and nobody who waits for the
# guard to listen is connected to himself.
_ports = itertools.count(30000 + os.getpid() % 2000)


def free_port():
    for port in _ports:
        with socket.socket() as trial, contextlib.suppress(OSError):
            trial.bind(("127.0.0.1", port))
            return port


@contextlib.contextmanager
def guard(name, folder, server_port):
    port = free_port()
    with process(envoy_command(write_configuration(name, folder, port, server_port))) as running:
        deadline = time.monotonic() + START_SECONDS
        while socket.socket().connect_ex(("127.0.0.1", port)) != 0:
            assert running.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        yield port


def generate(port, *options, tokens=8):
    command = [
        CLIENT,
        "generate",
        f"--server=127.0.0.1:{port}",
        "--temperature=0",
        "--ignore-eos",
        "--timeout=60",
    ]
    return subprocess.Popen(
        [*map(str, command + [f"--max-tokens={tokens}", *options]), "Once upon a time"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"]},
    )


def text_of(call):
    """The rest of what it prints. Not by communicate(), which forgets what a read before it has buffered."""
    out = call.stdout.read()
    assert call.wait(timeout=120) == 0, call.stderr.read()
    return out


@with_server
def test_calls_go_through_it_and_running_ones_outlast_a_drain(server, tmp_path):
    running, server_port = server
    with guard(PLAIN, tmp_path, server_port) as port:
        direct = text_of(generate(server_port, tokens=1500))
        call = generate(port, tokens=1500)
        first = call.stdout.read(1)
        assert first, call.stderr.read()
        running.send_signal(signal.SIGTERM)
        assert first + text_of(call) == direct
        assert running.wait(timeout=60) == 0
        refused = generate(port)
        assert refused.wait(timeout=120) == 3 and "no answer" in refused.stderr.read()


def serial_shown(port, folder):
    shown = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-alpn", "h2"]
        + ["-cert", folder / "client" / "tls.crt", "-key", folder / "client" / "tls.key"],
        input=b"",
        capture_output=True,
        timeout=60,
    ).stdout
    printed = subprocess.run(
        ["openssl", "x509", "-noout", "-serial"], input=shown, capture_output=True
    ).stdout
    return int(printed.decode().strip().removeprefix("serial="), 16)


@with_server
def test_it_asks_for_certificates_and_takes_up_renewed_ones(server, tmp_path, secrets):
    sign(tmp_path, tmp_path / "client", 2)
    with guard(MUTUAL_TLS, tmp_path, server[1]) as port:
        trust = f"--tls-ca={tmp_path / 'ca.crt'}"
        identity = [f"--tls-cert={tmp_path}/client/tls.crt", f"--tls-key={tmp_path}/client/tls.key"]
        assert text_of(generate(port, trust, *identity))
        stranger = generate(port, trust)
        assert stranger.wait(timeout=120) != 0
        assert serial_shown(port, tmp_path) == 1
        sign(tmp_path, secrets.next_version(), 3)
        secrets.switch()
        deadline = time.monotonic() + START_SECONDS
        while serial_shown(port, tmp_path) != 3:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert text_of(generate(port, trust, *identity))
