"""Keys: every call but health needs one, and the file that names them is read again."""

import hashlib
import json

import grpc
import pytest
from yoio_server import (
    Answer,
    Server,
    expect_error,
    health_pb2,
    inference_pb2,
    last_two_lines,
    request,
    request_pb2,
    run_to_end,
    wait_until,
)

TEXT = "A socket is an endpoint of communication. "
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
SEARCH, MAIL = "key-of-search-0123456789", "key-of-mail-0123456789"


def entry(key, tenant, **fields):
    return {"sha256": hashlib.sha256(key.encode()).hexdigest(), "tenant": tenant, **fields}


def bearer(key):
    return [("authorization", f"Bearer {key}")]


@pytest.fixture()
def keys(tmp_path):
    path = tmp_path / "keys.json"
    path.write_text(json.dumps([entry(SEARCH, "search"), entry(MAIL, "mail", max_priority="high")]))
    return path


@pytest.fixture()
def server(keys):
    with Server("--api-keys", str(keys)) as running:
        yield running


def load(server, key):
    return server.stub.GetLoad(inference_pb2.GetLoadRequest(), timeout=10, metadata=bearer(key))


def reflect(server, **options):
    call = server.channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
    list_services = b"\x3a\x01*"  # field 7, "*"
    return list(call(iter([list_services]), timeout=10, **options))


CALLS = [
    ("Generate", lambda s, **o: list(s.stub.Generate(request(TEXT, max_tokens=2), **o))),
    (
        "GenerateOnce",
        lambda s, **o: s.stub.GenerateOnce(
            request_pb2.GenerateOnceRequest(request=request(TEXT, max_tokens=2)), **o
        ),
    ),
    ("Score", lambda s, **o: list(s.stub.Score(request_pb2.ScoreRequest(text=TEXT), **o))),
    ("Tokenize", lambda s, **o: s.stub.Tokenize(inference_pb2.TokenizeRequest(text=TEXT), **o)),
    (
        "Detokenize",
        lambda s, **o: s.stub.Detokenize(inference_pb2.DetokenizeRequest(token_ids={"ids": [5]}), **o),
    ),
    ("GetModelInfo", lambda s, **o: s.stub.GetModelInfo(inference_pb2.GetModelInfoRequest(), **o)),
    ("GetServerInfo", lambda s, **o: s.stub.GetServerInfo(inference_pb2.GetServerInfoRequest(), **o)),
    ("GetLoad", lambda s, **o: s.stub.GetLoad(inference_pb2.GetLoadRequest(), **o)),
    ("Reflection", lambda s, **o: reflect(s, **{n: v for n, v in o.items() if n != "timeout"})),
]
BAD_METADATA = [
    None,
    bearer("wrong"),
    bearer(SEARCH + "x"),
    bearer(""),
    [("authorization", SEARCH)],
    bearer(SEARCH) * 2,
]


def test_every_call_but_health_needs_a_key(server):
    methods = {name for name, _ in CALLS} - {"Reflection"} | {"Abort"}
    service = inference_pb2.DESCRIPTOR.services_by_name["InferenceService"]
    assert methods == {method.name for method in service.methods}
    for _, call in CALLS:
        for metadata in BAD_METADATA:
            expect_error(
                lambda: call(server, metadata=metadata, timeout=10), UNAUTHENTICATED, "BAD_CREDENTIAL"
            )
        assert call(server, metadata=bearer(SEARCH), timeout=10)
    abort = inference_pb2.AbortRequest(request_id="a")
    expect_error(lambda: server.stub.Abort(abort, timeout=10), UNAUTHENTICATED, "BAD_CREDENTIAL")
    check = server.health.Check(health_pb2.HealthCheckRequest(), timeout=10)
    assert check.status == health_pb2.HealthCheckResponse.SERVING
    assert SEARCH not in server.output() and "wrong" not in server.output()


def test_a_refused_call_is_not_looked_at(server):
    # With a key this would be INVALID_ARGUMENT.
    expect_error(lambda: list(server.stub.Generate(request(), timeout=10)), UNAUTHENTICATED)


def start_stream(server, key, **fields):
    stream = server.generate(
        request(TEXT, temperature=0, ignore_eos=True, max_tokens=3000, **fields), metadata=bearer(key)
    )
    return stream, [next(stream), next(stream)]


def abort(server, key, request_id):
    server.stub.Abort(inference_pb2.AbortRequest(request_id=request_id), timeout=10, metadata=bearer(key))


def test_ids_belong_to_their_tenant(server):
    searching, _ = start_stream(server, SEARCH, request_id="same")
    mailing, _ = start_stream(server, MAIL, request_id="same")
    expect_error(
        lambda: start_stream(server, SEARCH, request_id="same"), grpc.StatusCode.ALREADY_EXISTS
    )
    abort(server, MAIL, "same")
    expect_error(lambda: list(mailing), grpc.StatusCode.CANCELLED, "ABORTED_BY_CALL")
    expect_error(lambda: abort(server, MAIL, "same"), grpc.StatusCode.NOT_FOUND)
    next(searching)
    abort(server, SEARCH, "same")
    expect_error(lambda: list(searching), grpc.StatusCode.CANCELLED, "ABORTED_BY_CALL")


def test_keys_are_exchanged_while_a_stream_runs(server, keys):
    stream, events = start_stream(server, SEARCH)
    # Both keys are good while callers change over, then the old one goes.
    keys.write_text(json.dumps([entry(SEARCH, "search"), entry("new" * 8, "search")]))
    wait_until(lambda: '"reloaded"' in server.errors())
    load(server, SEARCH), load(server, "new" * 8)
    expect_error(lambda: load(server, MAIL), UNAUTHENTICATED)
    keys.write_text(json.dumps([entry("new" * 8, "search")]))
    wait_until(lambda: server.errors().count('"reloaded"') == 2)
    expect_error(lambda: load(server, SEARCH), UNAUTHENTICATED)
    load(server, "new" * 8)
    events.append(next(stream))
    stream.cancel()


@pytest.mark.parametrize("spoil", [lambda f: f.write_text("[{"), lambda f: f.chmod(0o666), lambda f: f.unlink()])
def test_a_spoilt_file_changes_nothing(server, keys, spoil):
    good = keys.read_bytes()
    spoil(keys)
    wait_until(lambda: '"not reloaded"' in server.errors())
    load(server, SEARCH), load(server, MAIL)
    keys.unlink(missing_ok=True)
    keys.write_bytes(good.replace(b"search", b"lookup"))
    wait_until(lambda: '"reloaded"' in server.errors())
    stream, _ = start_stream(server, SEARCH)
    stream.cancel()
    wait_until(lambda: '"tenant":"lookup"' in server.errors())


@pytest.mark.parametrize(
    ("entries", "named"),
    [
        ({}, "array"),
        ([{}], "tenant"),
        ([{"tenant": "a"}], "sha256"),
        ([{"tenant": "a", "sha256": SEARCH}], "sha256"),
        ([entry(SEARCH, "a b")], "tenant"),
        ([entry(SEARCH, "a", limit=1)], "'limit'"),
        ([entry(SEARCH, "a", limits={"weight": 0})], "weight"),
        ([entry(SEARCH, "a", limits={"max_requests": -1})], "max_requests"),
        ([entry(SEARCH, "a", limits={"max_cache_share": 1.5})], "max_cache_share"),
        ([entry(SEARCH, "a", max_priority="highest")], "max_priority"),
        ([entry(SEARCH, "a"), entry(SEARCH, "b")], "sha256"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, entries, named):
    path = tmp_path / "keys.json"
    path.write_text(json.dumps(entries))
    code, errors = run_to_end("--api-keys", str(path))
    what, _ = last_two_lines(errors)
    assert code == 1 and what.startswith(f"yoio-server: --api-keys {path}") and named in what
    assert SEARCH not in errors


def test_a_file_that_cannot_be_trusted_is_refused(keys, tmp_path):
    code, errors = run_to_end("--api-keys", str(tmp_path / "nowhere"))
    assert code == 1 and "--api-keys" in last_two_lines(errors)[0]
    keys.chmod(0o646)
    code, errors = run_to_end("--api-keys", str(keys))
    assert code == 1 and "everybody may write" in last_two_lines(errors)[0]


def tenant_seen(flags, metadata):
    """Whose a request is in the log of a server with `flags`."""
    with Server(*flags) as server:
        Answer(server.generate(request(TEXT, max_tokens=2), metadata=metadata))
        wait_until(lambda: '"event":"request"' in server.errors())
        line = next(text for text in server.errors().splitlines() if '"event":"request"' in text)
        return json.loads(line)["tenant"]


def test_the_tenant_of_the_header_counts_only_when_trusted(keys):
    header = [("x-yoio-tenant", "from-header")]
    assert tenant_seen([], header) == "default"
    assert tenant_seen(["--trust-tenant-header"], header) == "from-header"
    with_keys = ["--api-keys", str(keys)]
    assert tenant_seen(with_keys, header + bearer(SEARCH)) == "search"
    assert tenant_seen([*with_keys, "--trust-tenant-header"], header + bearer(SEARCH)) == "from-header"


def test_a_header_that_names_no_tenant_is_refused():
    with Server("--trust-tenant-header") as server:
        for bad in ("", "a b", "x" * 129):
            expect_error(
                lambda: list(server.generate(request(TEXT), metadata=[("x-yoio-tenant", bad)])),
                grpc.StatusCode.INVALID_ARGUMENT,
                "BAD_VALUE",
            )
