"""Score against the losses that the PyTorch reference computed."""

import pytest
from yoio_server import GOLDEN, inference_pb2, read_safetensors, request_pb2

GOLDENS = read_safetensors(GOLDEN / "golden.safetensors")
TOKENS = list(GOLDENS["tokens"][1])
LOSSES = list(GOLDENS["nll_sparse"][1])
TEXT = (GOLDEN / "heldout.txt").read_text()


def score(server, wanted):
    events = list(server.stub.Score(wanted, timeout=60))
    assert events[0].WhichOneof("event") == "accepted" and events[-1].WhichOneof("event") == "summary"
    records, position = [], 1
    for event in events[1:-1]:
        assert event.scores.first_position == position
        assert len(event.scores.tokens) <= 1024
        records += event.scores.tokens
        position += len(event.scores.tokens)
    return records, events[-1].summary


def test_the_sum_is_the_loss_of_the_reference(server):
    records, summary = score(server, request_pb2.ScoreRequest(token_ids={"ids": TOKENS}))
    assert [record.id for record in records] == TOKENS[1:]
    assert summary.usage.prompt_tokens == len(TOKENS)
    # The reference computes in fp32, as a CPU does; a GPU's activations are bf16.
    on_cpu = server.stub.GetServerInfo(inference_pb2.GetServerInfoRequest()).device == "cpu"
    assert -sum(record.logprob for record in records) == pytest.approx(
        sum(LOSSES), rel=1e-5 if on_cpu else 1e-3
    )
    worst = max(abs(record.logprob + loss) for record, loss in zip(records, LOSSES, strict=False))
    assert worst < (2e-3 if on_cpu else 0.5)


def test_text_scores_as_its_tokens(server):
    ids = server.stub.Tokenize(inference_pb2.TokenizeRequest(text=TEXT), timeout=10).ids
    assert list(ids) == TOKENS
    by_text, _ = score(server, request_pb2.ScoreRequest(text=TEXT))
    by_ids, _ = score(server, request_pb2.ScoreRequest(token_ids={"ids": TOKENS}))
    assert [(r.id, r.logprob) for r in by_text] == [(r.id, r.logprob) for r in by_ids]


def test_alternatives_are_sorted_and_hold_likely_tokens(server):
    records, _ = score(server, request_pb2.ScoreRequest(token_ids={"ids": TOKENS[:300]}, top_logprobs=3))
    for record in records:
        likely = [alternative.logprob for alternative in record.top]
        assert len(likely) == 3 and likely == sorted(likely, reverse=True)
        assert likely[0] >= record.logprob
        assert all(
            alternative.logprob == record.logprob for alternative in record.top if alternative.id == record.id
        )
