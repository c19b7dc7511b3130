"""Nothing that a caller sends comes out again, except to that caller."""

import grpc
import pytest
from yoio_server import inference_pb2, request, request_pb2

CANARY = "xyzzy-canary-9137"


def attempts():
    """Calls that carry the canary, in every field that takes a string. Some succeed and some fail.

    A valid request id is left out: it names its request in logs, which is what it is for.
    """
    yield request(CANARY, max_tokens=3)
    yield request(CANARY * 3, max_tokens=1 << 30)
    yield request("x", max_tokens=3, stop_strings=[CANARY])
    yield request("x", stop_strings=[CANARY] * 100)
    yield request("x", model=CANARY)
    yield request("x", request_id=CANARY + " ")
    yield request("x", regex=CANARY)
    yield request("x", json_schema=CANARY)
    yield request("x", choice=request_pb2.ChoiceConstraint(values=[CANARY]))
    yield request("x", cache=request_pb2.CacheOptions(salt=CANARY))


def tolerate(call, *arguments):
    """Makes a call whose success does not matter."""
    try:
        call(*arguments)
    except grpc.RpcError:
        pass


def test_no_field_reaches_the_output_of_the_process(server):
    for wanted in attempts():
        tolerate(lambda message: list(server.generate(message)), wanted)
        tolerate(server.stub.GenerateOnce, request_pb2.GenerateOnceRequest(request=wanted), 10)
    for metadata in (("authorization", f"Bearer {CANARY}"), ("x-yoio-tenant", CANARY), ("x-trace", CANARY)):
        list(server.generate(request("x", max_tokens=2), metadata=[metadata]))
    list(server.stub.Score(request_pb2.ScoreRequest(text=CANARY), timeout=10))
    server.stub.Tokenize(inference_pb2.TokenizeRequest(text=CANARY), timeout=10)
    with pytest.raises(grpc.RpcError):
        server.stub.GetModelInfo(inference_pb2.GetModelInfoRequest(model=CANARY), timeout=10)
    with pytest.raises(grpc.RpcError):
        server.stub.Abort(inference_pb2.AbortRequest(request_id=CANARY + " "), timeout=10)
    server.wait_until_idle()
    output = server.output()
    assert "Generate" in output  # the calls are in the log; their contents are not
    assert CANARY not in output
    assert CANARY.split("-")[0] not in output


def test_a_refusal_does_not_repeat_the_prompt(server):
    with pytest.raises(grpc.RpcError) as caught:
        list(server.generate(request(CANARY, max_tokens=1 << 30)))
    assert CANARY not in caught.value.details()
