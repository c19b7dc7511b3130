"""Continues a prompt on yoio servers, with all that a client needs in production.

Deadline and time budget, Ctrl-C as a cancel, gRPC's own retries, decoded error details, a generation that is taken
up again on another server when its stream broke, TLS and an API key. From the root of the project:

    python3 -m venv venv && venv/bin/pip install grpcio-tools
    venv/bin/python -m grpc_tools.protoc -I proto --python_out=. --grpc_python_out=. \\
        proto/yoio/v1/*.proto proto/google/rpc/*.proto
    PYTHONPATH=. venv/bin/python examples/python/generate.py 'Once upon a time'
"""

import argparse
import signal
import sys
import time
import uuid
from pathlib import Path

import grpc
from google.rpc import error_details_pb2, status_pb2
from yoio.v1 import event_pb2, inference_pb2, inference_pb2_grpc, request_pb2

# As in docs/clients.md.
SERVICE_CONFIG = """{
  "loadBalancingConfig": [{"round_robin": {}}],
  "methodConfig": [{
    "name": [{"service": "yoio.v1.InferenceService"}],
    "retryPolicy": {
      "maxAttempts": 4,
      "initialBackoff": "0.2s",
      "maxBackoff": "5s",
      "backoffMultiplier": 2,
      "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"]
    }
  }],
  "retryThrottling": {"maxTokens": 100, "tokenRatio": 1}
}"""

MOST_RESUMES = 3


def say(text):
    print(f"generate: {text}", file=sys.stderr)


def connect(options):
    """One channel for the whole program: it holds a connection to every address behind the name."""
    settings = [
        ("grpc.service_config", SERVICE_CONFIG),
        ("grpc.per_rpc_retry_buffer_size", 17 << 20),  # else gRPC retries no request above 256 KiB
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
    ]
    if not options.tls_ca:
        return grpc.insecure_channel(options.server, settings)

    def content(file):
        return file.read_bytes() if file else None

    credentials = grpc.ssl_channel_credentials(
        content(options.tls_ca), content(options.tls_key), content(options.tls_cert)
    )
    return grpc.secure_channel(options.server, credentials, settings)


class Failure:
    """What a failed call says."""

    def __init__(self, error):
        self.code, self.message = error.code(), error.details()
        self.reason, self.metadata, self.retry_after = "", {}, None
        for name, value in error.trailing_metadata() or ():
            if name != "grpc-status-details-bin":
                continue
            for detail in status_pb2.Status.FromString(value).details:
                info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
                if detail.Unpack(info):
                    self.reason, self.metadata = info.reason, dict(info.metadata)
                elif detail.Unpack(retry):
                    self.retry_after = retry.retry_delay.ToTimedelta().total_seconds()

    @property
    def suspect(self):
        """The request was in a batch that broke the engine, and may be why."""
        return self.metadata.get("suspect") == "true"

    def __str__(self):
        text = ", ".join(filter(None, [self.code.name, self.reason])) + f": {self.message}"
        notes = [f"{key}={value}" for key, value in sorted(self.metadata.items())]
        if self.retry_after is not None:
            notes.append(f"retry_after={self.retry_after:g}s")
        return f"{text} ({', '.join(notes)})" if notes else text


class Interrupt:
    """Ctrl-C as a cancel. KeyboardInterrupt will not do: raised in the middle of gRPC's own code it can be lost there,
    or leave a channel behind that never closes."""

    def __init__(self):
        self.came, self.call = False, None
        signal.signal(signal.SIGINT, self._on_signal)

    def watch(self, call):
        """The call to cancel from now on."""
        self.call = call
        if self.came:
            call.cancel()

    def _on_signal(self, *_):
        self.came = True
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one ends the program
        if self.call:
            self.call.cancel()  # the server frees what the request held


class Generation:
    """One output, whatever number of streams it takes."""

    def __init__(self, stub, options, interrupt):
        self.stub, self.options, self.interrupt = stub, options, interrupt
        self.deadline = time.monotonic() + options.timeout
        self.metadata = []
        if options.api_key_file:
            self.metadata.append(("authorization", f"Bearer {options.api_key_file.read_text().strip()}"))
        self.name = uuid.uuid4().hex  # names the request in the server's log
        self.prompt = self.call(stub.Tokenize, inference_pb2.TokenizeRequest(text=options.prompt)).ids
        self.ids, self.shown, self.reason = [], "", None

    def call(self, method, request):
        """Every call ends by the deadline, retries included."""
        return method(request, timeout=max(0, self.deadline - time.monotonic()), metadata=self.metadata)

    def run(self):
        resumes = suspects = 0
        while True:
            try:
                return self.stream(resumes)
            except grpc.RpcError as error:
                failure = Failure(error)
                suspects += failure.suspect
                # Before the first token gRPC has tried again already. After it only we know what is missing.
                broke = failure.code == grpc.StatusCode.UNAVAILABLE and self.ids
                if not broke or resumes == MOST_RESUMES or suspects > 1:
                    raise
                time.sleep(failure.retry_after or 0.2)
                resumes += 1
                self.mend_text()
                say(f"the stream broke ({failure}); going on after {len(self.ids)} tokens")

    def stream(self, resumes):
        """Asks for what is missing, and shows it as it comes."""
        if self.reason or len(self.ids) == self.options.max_tokens:
            return  # the stream broke behind the last token
        request = request_pb2.GenerateRequest(request_id=f"{self.name}.{resumes}")
        request.token_ids.ids.extend([*self.prompt, *self.ids])
        request.sampling.temperature = 0  # else what follows is another sample
        request.stop.max_tokens = self.options.max_tokens - len(self.ids)
        request.output.ids = True
        # The budget ends the stream well, with what is ready. It is spent before the deadline, which is an error.
        left = self.deadline - time.monotonic()
        request.time_budget.FromMilliseconds(max(1, int(1000 * min(self.options.time_budget, 0.9 * left))))
        events = self.call(self.stub.Generate, request)
        self.interrupt.watch(events)
        for event in events:
            self.ids.extend(event.delta.ids)
            self.show(event.delta.text)
            if event.HasField("finished"):
                self.reason = event.finished.reason

    def show(self, text):
        self.shown += text
        print(text, end="", flush=True)

    def mend_text(self):
        """Shows what has come as ids and not yet as text. A character that came by half is generated anew."""
        for _ in range(4):
            request = inference_pb2.DetokenizeRequest(token_ids=request_pb2.TokenIds(ids=self.ids))
            text = self.call(self.stub.Detokenize, request).text
            if not text.endswith("\ufffd"):
                break
            self.ids.pop()
        self.show(text[len(self.shown) :])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--server", default="dns:///127.0.0.1:50051", help="all addresses behind it take calls in turn"
    )
    parser.add_argument("--tls-ca", type=Path, help="PEM; asks for TLS")
    parser.add_argument("--tls-cert", type=Path, help="PEM, for servers that ask for it")
    parser.add_argument("--tls-key", type=Path, help="PEM")
    parser.add_argument("--api-key-file", type=Path)
    parser.add_argument("--timeout", type=float, default=60, help="seconds for everything together")
    parser.add_argument("--time-budget", type=float, default=3600, help="seconds for one stream")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("prompt")
    options = parser.parse_args()
    interrupt = Interrupt()
    with connect(options) as channel:
        try:
            generation = Generation(inference_pb2_grpc.InferenceServiceStub(channel), options, interrupt)
            generation.run()
        except grpc.RpcError as error:
            if interrupt.came:
                return 130
            say(Failure(error))
            return 1
    print()
    reason = event_pb2.FinishReason.Name(generation.reason or event_pb2.FINISH_REASON_LENGTH)
    say(f"{reason}, {len(generation.ids)} tokens")
    return 0


if __name__ == "__main__":
    sys.exit(main())
