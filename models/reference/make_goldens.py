"""Writes the golden files under tests/golden: fp32 results of the reference, from bf16 weights.

    python models/reference/make_goldens.py micro
    python models/reference/make_goldens.py tiny --held-out TEXT

`micro` makes two small checkpoints with random weights and their goldens; `tiny` the goldens of
models/yoio-tiny on held-out text, its greedy answer to a recall prompt, and tokenizer cases.
"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

import clsa

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
TINY = ROOT / "models" / "yoio-tiny"

MICRO = clsa.Config(
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=4,
    num_self_decoder_layers=2,
    num_attention_heads=4,
    num_key_value_heads=4,
    head_dim=16,
    vocab_size=256,
    max_position_embeddings=4096,
    sliding_window=24,
    index_head_dim=16,
    index_topk=32,
)
MICRO_GQA = clsa.Config(
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=5,
    num_self_decoder_layers=3,
    num_attention_heads=8,
    num_key_value_heads=4,
    head_dim=16,
    vocab_size=320,
    max_position_embeddings=4096,
    sliding_window=70,
    index_head_dim=16,
    index_topk=48,
    qk_norm=False,
    tie_word_embeddings=False,
)


def random_model(config, seed):
    """Weights of std 1/sqrt(fan_in), norms around 1, rounded to bf16."""
    generator = torch.Generator().manual_seed(seed)
    model = clsa.Clsa(config)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            value = noise * parameter.shape[-1] ** -0.5 if parameter.dim() == 2 else 1 + 0.2 * noise
            parameter.copy_(value.bfloat16().float())
    return model


@torch.no_grad()
def goldens(model, tokens, rows):
    """Logits, index and per-token losses of one sequence [n], sparse and dense."""
    n, top_k = len(tokens), model.config.index_topk
    scores = clsa.index_scores(model.self_decode(tokens[None])[1], rows)[0]
    result = {
        "tokens": tokens.int(),
        "rows": rows.int(),
        "index_positions": clsa.top_positions(scores, top_k).int(),
        "index_scores": scores,
    }
    for name, k in (("sparse", top_k), ("dense", 0)):
        logits = model(tokens[None], top_k=k)[0]
        result[f"logits_{name}"] = logits[rows].clone()
        result[f"nll_{name}"] = F.cross_entropy(logits[: n - 1], tokens[1:], reduction="none")
    return result


def write_micro():
    for name, config, seed in (("micro", MICRO, 1), ("micro_gqa", MICRO_GQA, 2)):
        clsa.save(random_model(config, seed), GOLDEN / name)
        model = clsa.load(GOLDEN / name)
        tokens = torch.randint(config.vocab_size, (400,), generator=torch.Generator().manual_seed(seed))
        k, w = config.index_topk, config.sliding_window
        early = [0, 1, 5, 17, w - 1, w, k - 1, k, k + 1]
        later = [63, 64, 65, 127, 128, 150, 191, 192, 200, 255, 256, 300, 350, 398, 399]
        rows = torch.tensor(sorted(early + later))
        clsa.write_tensors(goldens(model, tokens, rows), GOLDEN / name / "golden.safetensors")
        print(name, sum(p.numel() for p in model.parameters()), "parameters")


@torch.no_grad()
def greedy(model, prompt, steps):
    """The `steps` most likely tokens after `prompt`, end-of-text or not, and each one's lead over the next."""
    tokens, leads = prompt, []
    for _ in range(steps):
        logits = model(tokens[None], rows=torch.tensor([len(tokens) - 1]))[0, 0]
        best = logits.topk(2)
        leads.append(best.values[0] - best.values[1])
        tokens = torch.cat([tokens, best.indices[:1]])
    return tokens[len(prompt) :], torch.stack(leads)


def write_tiny():
    model, directory = clsa.load(TINY), GOLDEN / "tiny"
    directory.mkdir(exist_ok=True)
    tokenizer = Tokenizer.from_file(str(TINY / "tokenizer.json"))
    lines = (TINY / "demo" / "document.txt").read_text().splitlines(keepends=True)

    def encode(text):
        return torch.tensor(tokenizer.encode(text).ids)

    def lines_from(start, least_tokens):
        text = ""
        while len(encode(text)) < least_tokens:
            text, start = text + lines[start], start + 1
        return text

    text = lines_from(200, 1200)
    (directory / "heldout.txt").write_text(text)
    tokens = encode(text)
    n = len(tokens)
    rows = torch.tensor([0, 1, 127, 128, 255, 256, 257, 500, 700, 900, n - 2, n - 1])
    prompt = encode(
        lines_from(600, 400) + "Remember: the amber falcon code is 48213.\n" + lines_from(700, 600)
        + "\nThe amber falcon code is"
    )
    answer, leads = greedy(model, prompt, 48)
    print(n, "tokens; greedy:", repr(tokenizer.decode(answer.tolist(), skip_special_tokens=False)))
    tensors = goldens(model, tokens, rows)
    tensors |= {"greedy_prompt": prompt.int(), "greedy_tokens": answer.int(), "greedy_leads": leads}
    clsa.write_tensors(tensors, directory / "golden.safetensors")


if __name__ == "__main__":
    {"micro": write_micro, "tiny": write_tiny}[sys.argv[1]]()
