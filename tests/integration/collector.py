"""A collector of spans, made of the published protocol definitions (opentelemetry-proto), which does as it is told."""

import threading
import time
from concurrent import futures

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1 import trace_pb2


def value_of(value):
    """An AnyValue as Python has it."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [value_of(one) for one in value.array_value.values]
    return getattr(value, kind) if kind else None


def attributes_of(message):
    """The attributes of a span, event, link or resource. Keys are unique."""
    attributes = {attribute.key: value_of(attribute.value) for attribute in message.attributes}
    assert len(attributes) == len(message.attributes), f"a key twice: {message.attributes}"
    return attributes


def traceparent(trace_id, span_id, sampled=True):
    """What a caller sends: the ids as bytes."""
    return f"00-{trace_id.hex()}-{span_id.hex()}-{'01' if sampled else '00'}"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes spans on a port of its own choice; `target` is HOST:PORT. Use it in a `with`, which ends it.

    These can be changed at any time, and hold for calls that come later:
    delay: seconds before a call is answered. code: refuse with this status. After hang() none is answered before
    release().
    """

    def __init__(self, credentials=None, address="127.0.0.1:0"):
        self.delay, self.code = 0, None
        self.resource_spans, self.metadata, self.calls = [], [], 0
        self._changed = threading.Condition()
        self._released = threading.Event()
        self._released.set()
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)
        if credentials is None:
            port = self._server.add_insecure_port(address)
        else:
            port = self._server.add_secure_port(address, credentials)
        self.target = f"{address.rsplit(':', 1)[0]}:{port}"

    def __enter__(self):
        self._server.start()
        return self

    def __exit__(self, *_):
        self.release()
        self._server.stop(grace=None).wait()

    def hang(self):
        self._released.clear()

    def release(self):
        self._released.set()

    def environment(self, **more):
        """What makes a process send its spans here at once."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{self.target}",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        } | more

    def Export(self, request, context):
        with self._changed:
            self.calls += 1
            self.metadata.append(dict(context.invocation_metadata()))
            self._changed.notify_all()
        self._released.wait()
        time.sleep(self.delay)
        if self.code is not None:
            context.abort(self.code, "as the test wants it")
        with self._changed:
            self.resource_spans.extend(request.resource_spans)
            self._changed.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    def spans(self):
        """All spans that were taken, in the order of their arrival."""
        with self._changed:
            return [
                span for process in self.resource_spans for scope in process.scope_spans for span in scope.spans
            ]

    def trace(self, trace_id):
        """The spans of one trace."""
        return [span for span in self.spans() if span.trace_id == trace_id]

    def wait_for(self, condition, seconds=20):
        """Returns what `condition()` gives once that is true; it is asked when something comes."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while not (found := condition()):
                left = deadline - time.monotonic()
                names = [span.name for span in self.spans()]
                assert left > 0, f"it did not come in {seconds} s; calls {self.calls}, spans {names}"
                self._changed.wait(left)
            return found

    def wait_for_span(self, name, trace_id=None, seconds=20):
        """The first span of that name (of that trace) that comes, or has come."""

        def find():
            spans = self.spans() if trace_id is None else self.trace(trace_id)
            return next((span for span in spans if span.name == name), None)

        return self.wait_for(find, seconds)


SERVER, INTERNAL = trace_pb2.Span.SPAN_KIND_SERVER, trace_pb2.Span.SPAN_KIND_INTERNAL
ERROR = trace_pb2.Status.STATUS_CODE_ERROR
