"""Builds the programs of examples/ as their first lines say, and the servers that their tests talk to."""

import os
import shutil
import subprocess
import sys
import threading
from concurrent import futures
from pathlib import Path

import grpc
from google.protobuf import any_pb2
from yoio_server import (
    PROTO,
    clean_environment,
    error_details_pb2,
    event_pb2,
    inference_pb2,
    inference_pb2_grpc,
    status_pb2,
)

EXAMPLES = PROTO.parent / "examples"
SCHEMA = sorted(str(path.relative_to(PROTO)) for path in PROTO.glob("yoio/v1/*.proto"))
DETAILS = ["google/rpc/error_details.proto", "google/rpc/status.proto"]

JARS = [
    "geronimo-annotation-1.3-spec gson guava netty-tcnative perfmark-api protobuf",
    "grpc-api grpc-context grpc-core grpc-netty grpc-protobuf grpc-protobuf-lite grpc-stub",
    "netty-buffer netty-codec netty-codec-http netty-codec-http2 netty-codec-socks netty-common netty-handler",
    "netty-handler-proxy netty-resolver netty-transport",
]
CLASS_PATH = ":".join(f"/usr/share/java/{name}.jar" for name in " ".join(JARS).split())


def build_python(folder):
    run = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", "--python_out=.", "--grpc_python_out=."]
    subprocess.run([*run, *SCHEMA, *DETAILS], cwd=folder, check=True)
    return [sys.executable, str(EXAMPLES / "python" / "generate.py")], {"PYTHONPATH": str(folder)}


def build_java(folder):
    stubs, classes = folder / "stubs", folder / "classes"
    stubs.mkdir()
    plugin = subprocess.run(
        ["sh", "-c", "command -v grpc_java_plugin"], check=True, capture_output=True, text=True
    )
    protoc = ["protoc", f"-I{PROTO}", f"--java_out={stubs}", f"--grpc-java_out={stubs}"]
    protoc.append(f"--plugin=protoc-gen-grpc-java={plugin.stdout.strip()}")
    subprocess.run([*protoc, *SCHEMA, *DETAILS], check=True)
    javac = ["javac", "-proc:none", "-cp", CLASS_PATH, "-sourcepath", str(stubs), "-d", str(classes)]
    subprocess.run([*javac, str(EXAMPLES / "java" / "Generate.java")], check=True)
    # Debian's Netty speaks TLS through this library alone, and looks for it under another name.
    (library,) = Path("/usr/lib").glob("*/jni/libnetty-tcnative.so")
    shutil.copy(library, folder / "libnetty_tcnative.so")
    # The program is short: no time goes into compiling it well.
    java = ["java", "-XX:TieredStopAtLevel=1", f"-Djava.library.path={folder}"]
    return [*java, "-cp", f"{classes}:{CLASS_PATH}", "Generate"], {}


def build_go(folder):
    source = folder / "src"
    source.mkdir()
    protoc = ["protoc", f"-I{PROTO}", f"--go_out={source}", f"--go-grpc_out={source}"]
    subprocess.run([*protoc, *SCHEMA], check=True)
    program, binary = EXAMPLES / "go" / "generate.go", folder / "generate"
    unformatted = subprocess.run(["gofmt", "-l", program], check=True, capture_output=True)
    assert unformatted.stdout == b"", "gofmt would change generate.go"
    environment = {
        "GO111MODULE": "off",
        "GOFLAGS": "",
        "GOPATH": f"{folder}:/usr/share/gocode",  # the distribution's packages
        "GOCACHE": os.environ["GO_CACHE_DIR"],
    }
    build = ["go", "build", "-o", binary, program]
    subprocess.run(build, cwd=folder, env={**os.environ, **environment}, check=True)
    return [str(binary)], {"GRPC_GO_RETRY": "on"}  # the distribution's gRPC is older than 1.40


class Program:
    """A program that has been built. Its environment holds no setting of a server."""

    def __init__(self, name, folder):
        self.name = name
        self.command, environment = {"python": build_python, "java": build_java, "go": build_go}[name](folder)
        self.environment = {**clean_environment(), **environment}

    def arguments(self, server, *flags, prompt):
        # Java has no names of several addresses, and its gRPC none without a scheme.
        return [*self.command, "--server", f"dns:///{server}", *map(str, flags), prompt]

    def run(self, server, *flags, prompt="hello"):
        return subprocess.run(
            self.arguments(server, *flags, prompt=prompt),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def start(self, server, *flags, prompt="hello"):
        return subprocess.Popen(
            self.arguments(server, *flags, prompt=prompt),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def fail(context, code, message, reason, metadata, retry_seconds=0):
    """Ends a call as a yoio server does."""
    status = status_pb2.Status(code=code.value[0], message=message)
    info = error_details_pb2.ErrorInfo(domain="yoio.v1", reason=reason, metadata=metadata)
    details = [info]
    if retry_seconds:
        details.append(error_details_pb2.RetryInfo())
        details[-1].retry_delay.FromMilliseconds(int(1000 * retry_seconds))
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    context.set_trailing_metadata([("grpc-status-details-bin", status.SerializeToString())])
    context.abort(code, message)


class ScriptedServer(inference_pb2_grpc.InferenceServiceServicer):
    """A server whose tokens are the bytes of a text: id and character are the same number.

    Each stream goes on with the text where its prompt ends. `breaks` says after how many tokens the first streams
    break; None stands for a refusal before `accepted`. A `suspect` request is told that it may be why.
    """

    TEXT = "The caf\u00e9 code is 48213."

    def __init__(self, breaks=(), suspect=False):
        self.breaks, self.suspect = list(breaks), suspect
        self.requests, self.lock = [], threading.Lock()
        self.server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
        inference_pb2_grpc.add_InferenceServiceServicer_to_server(self, self.server)
        self.address = f"localhost:{self.server.add_insecure_port('localhost:0')}"

    def __enter__(self):
        self.server.start()
        return self

    def __exit__(self, *_):
        self.server.stop(grace=None).wait()

    def Tokenize(self, request, _):
        return inference_pb2.TokenizeResponse(ids=request.text.encode())

    def Detokenize(self, request, _):
        return inference_pb2.DetokenizeResponse(text=bytes(request.token_ids.ids).decode(errors="replace"))

    def Generate(self, request, context):
        with self.lock:
            self.requests.append(request)
            tokens_left = self.breaks.pop(0) if self.breaks else len(self.TEXT) * 2
        code = grpc.StatusCode.UNAVAILABLE
        if tokens_left is None:
            fail(context, code, "draining", "DRAINING", {"accepted": "false"})
        yield event_pb2.GenerateResponse(accepted=event_pb2.Accepted(request_id=request.request_id))
        prompt, text = bytes(request.token_ids.ids), self.TEXT.encode()
        done = len(prompt) - len(b"hello")
        held, sent = b"", 0
        for byte in text[done : done + request.stop.max_tokens]:
            if sent == tokens_left:
                metadata = {"accepted": "true", "tokens_sent": str(sent)}
                if self.suspect:
                    metadata["suspect"] = "true"
                fail(context, code, "the engine failed", "ENGINE_FAILED", metadata, retry_seconds=0.01)
            held += bytes([byte])
            whole = held.decode(errors="ignore")
            yield event_pb2.GenerateResponse(delta=event_pb2.Delta(text=whole, ids=[byte]))
            held, sent = b"" if whole else held, sent + 1
        finished = event_pb2.Finished(reason=event_pb2.FINISH_REASON_EOS)
        yield event_pb2.GenerateResponse(finished=finished)
        yield event_pb2.GenerateResponse(summary=event_pb2.Summary())
