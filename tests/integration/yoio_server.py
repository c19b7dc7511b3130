"""Starts yoio-server as an operator does, and talks to it as a caller does.

The environment names what is tested: SERVER_BINARY, SERVER_HAS_CUDA (0 or 1), MODEL_DIR, PROTO_DIR, GOLDEN_DIR.
"""

import array
import contextlib
import itertools
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import grpc
import pytest
from grpc_tools import protoc

BINARY = os.environ["SERVER_BINARY"]
HAS_CUDA = os.environ["SERVER_HAS_CUDA"] == "1"
MODEL = Path(os.environ["MODEL_DIR"])
PROTO = Path(os.environ["PROTO_DIR"])
GOLDEN = Path(os.environ["GOLDEN_DIR"])

START_SECONDS = 60  # with sanitizers; a second without
CALL_SECONDS = 60


def _generate_stubs():
    """Makes the Python stubs of the schema, as a caller would, and lets them be imported.

    Not of opentelemetry: spans are read with the published package, which has the same names."""
    out = tempfile.TemporaryDirectory(prefix="yoio-stubs-")
    files = [str(path.relative_to(PROTO)) for path in sorted(PROTO.rglob("*.proto"))]
    files = [file for file in files if not file.startswith("opentelemetry/")]
    well_known = Path(protoc.__file__).parent / "_proto"
    arguments = [
        "protoc",
        f"-I{PROTO}",
        f"-I{well_known}",
        f"--python_out={out.name}",
        f"--grpc_python_out={out.name}",
    ]
    if protoc.main(arguments + files) != 0:
        raise RuntimeError(f"protoc failed on {files}")
    sys.path.insert(0, out.name)
    # The package of grpc.health.v1 has the name of the library's own: let that one find it.
    grpc.__path__.append(str(Path(out.name) / "grpc"))
    return out


_stubs = _generate_stubs()

# Tests import these from here.
# ruff: noqa: E402, F401
from google.rpc import error_details_pb2, status_pb2
from grpc.health.v1 import health_pb2, health_pb2_grpc
from yoio.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    errors_pb2,
    event_pb2,
    inference_pb2,
    inference_pb2_grpc,
    request_pb2,
    timing_pb2,
)


# Below those that the kernel gives to connections: nobody else takes one in the meantime. Each process of
# tests begins elsewhere.
_ports = itertools.count(20000 + os.getpid() * 16 % 10000)


def free_address():
    """A loopback address that nobody listens on."""
    for port in _ports:
        with socket.socket() as trial, contextlib.suppress(OSError):
            trial.bind(("127.0.0.1", port))
            return f"127.0.0.1:{port}"


class Process:
    """A running yoio-server and what it prints. Use it in a `with`, which ends it.

    Its standard error goes to a file, which errors() reads, or to `stderr`, a file descriptor."""

    environment = {}  # what it has beside this process's

    def __init__(self, *flags, model=MODEL, stderr=None):
        self.files = tempfile.TemporaryDirectory(prefix="yoio-server-")
        self.out_path, self.err_path = Path(self.files.name) / "out", Path(self.files.name) / "err"
        with self.out_path.open("wb") as out, self.err_path.open("wb") as err:
            environment = clean_environment() | {"TMPDIR": self.files.name} | self.environment
            self.process = subprocess.Popen(
                [BINARY, "--model", str(model), *flags],
                stdout=out,
                stderr=err if stderr is None else stderr,
                env=environment,
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(timeout=20)
        finally:
            self.process.kill()

    def wait_for_line(self, pattern):
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            found = re.search(pattern, self.out_path.read_text(), re.MULTILINE)
            if found:
                return found
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(
            f"no line {pattern!r}; exit code {self.process.poll()}; stderr:\n{self.errors()}"
        )

    def output(self):
        return self.out_path.read_text() + self.errors()

    def errors(self):
        return self.err_path.read_text()


class Server(Process):
    """A server that takes calls, on loopback ports of its own choice unless flags name others."""

    def __init__(
        self,
        *flags,
        listen="127.0.0.1:0",
        health_listen="127.0.0.1:0",
        model=MODEL,
        open_channel=grpc.insecure_channel,
        stderr=None,
    ):
        others = ["--health-listen", health_listen, "--metrics-listen", "127.0.0.1:0"]
        super().__init__("--listen", listen, *others, *flags, model=model, stderr=stderr)
        self.open_channel = lambda: open_channel(self.address)

    def __enter__(self):
        ready = self.wait_for_line(
            r"^yoio-server ready listen=(\S+) health=(\S+)(?: admin=(\S+))? metrics=(\S+) model=(\S+)$"
        )
        self.address, self.health_address, self.admin_address, self.metrics_address = ready.groups()[:4]
        self.model_name = ready[5]
        self.channel = self.open_channel()
        self.stub = inference_pb2_grpc.InferenceServiceStub(self.channel)
        self.health = health_pb2_grpc.HealthStub(grpc.insecure_channel(self.health_address))
        return self

    def __exit__(self, *exception):
        self.channel.close()
        super().__exit__(*exception)

    def generate(self, request, **options):
        return self.stub.Generate(request, timeout=options.pop("timeout", CALL_SECONDS), **options)

    def load(self):
        return self.stub.GetLoad(inference_pb2.GetLoadRequest(), timeout=CALL_SECONDS)

    def wait_until_idle(self, seconds=10):
        """Returns the load once nothing runs, nothing waits and every block is free."""
        deadline = time.monotonic() + seconds
        while True:
            load = self.load()
            idle = load.running == 0 and load.waiting == 0 and load.free_blocks == load.total_blocks
            if idle or time.monotonic() > deadline:
                assert idle, f"the server still holds something: {load}"
                return load
            time.sleep(0.02)


def wait_until(condition, seconds=20):
    """Returns once `condition()` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.02)


def run_to_end(*flags, model=MODEL, listen="127.0.0.1:0", metrics_listen="127.0.0.1:0"):
    """Runs a server that is expected to refuse its configuration. Returns exit code and standard error."""
    listeners = ["--listen", listen, "--health-listen", "127.0.0.1:0", "--metrics-listen", metrics_listen]
    command = [BINARY, "--model", str(model), *listeners, *flags]
    done = subprocess.run(
        command,
        capture_output=True,
        env=clean_environment(),
        timeout=START_SECONDS,
        check=False,
    )
    return done.returncode, done.stderr.decode()


def clean_environment():
    """This environment less every setting of a server."""
    return {name: value for name, value in os.environ.items() if not name.startswith("YOIO_")}


def last_two_lines(errors):
    """What happened, and what to do: how a server that cannot start ends its standard error."""
    lines = errors.splitlines()
    assert len(lines) >= 2 and lines[-2].startswith("yoio-server: "), errors
    return lines[-2], lines[-1]


def request(text=None, prompt_ids=None, **fields):
    """A GenerateRequest; keywords are fields of the request or of its `sampling`, `stop` and `output`."""
    message = request_pb2.GenerateRequest()
    if text is not None:
        message.text = text
    if prompt_ids is not None:
        message.token_ids.ids.extend(prompt_ids)
    for name, value in fields.items():
        set_field(message, name, value)
    return message


def set_field(message, name, value):
    for owner in (message, message.sampling, message.stop, message.output):
        field = owner.DESCRIPTOR.fields_by_name.get(name)
        if field is None:
            continue
        if isinstance(value, dict):
            getattr(owner, name).update(value)
        elif isinstance(value, list):
            getattr(owner, name).extend(value)
        elif field.message_type is not None:
            getattr(owner, name).CopyFrom(value)
        else:
            setattr(owner, name, value)
        return
    raise KeyError(name)


class Answer:
    """The whole of one stream: events by kind, and each choice's text and ids."""

    def __init__(self, events):
        self.events = list(events)
        self.kinds = [event.WhichOneof("event") for event in self.events]
        self.accepted = self.events[0].accepted
        self.summary = self.events[-1].summary
        self.finished = {e.finished.choice: e.finished for e in self.events if e.HasField("finished")}
        self.texts, self.ids = {}, {}
        for event in self.events:
            if event.HasField("delta"):
                delta = event.delta
                self.texts[delta.choice] = self.texts.get(delta.choice, "") + delta.text
                self.ids[delta.choice] = self.ids.get(delta.choice, []) + list(delta.ids)

    @property
    def text(self):
        return self.texts.get(0, "")


def error_info(error):
    """The ErrorInfo of a failed call."""
    for name, value in error.trailing_metadata():
        if name == "grpc-status-details-bin":
            status = status_pb2.Status.FromString(value)
            for detail in status.details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    return info
    raise AssertionError(f"no ErrorInfo in {error}")


def expect_error(call, code, reason=None):
    """Runs `call`, which must fail with `code` and ErrorInfo `reason`. Returns the error."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error = caught.value
    assert error.code() == code, error
    if reason is not None:
        info = error_info(error)
        assert (info.domain, info.reason) == ("yoio.v1", reason), error
    return error


def read_safetensors(path):
    """The tensors of a file as {name: (shape, array)}; 32-bit types only."""
    data = Path(path).read_bytes()
    header_bytes = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + header_bytes])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = (8 + header_bytes + offset for offset in entry["data_offsets"])
        values = array.array({"F32": "f", "I32": "i"}[entry["dtype"]])
        values.frombytes(data[begin:end])
        tensors[name] = (entry["shape"], values)
    return tensors
