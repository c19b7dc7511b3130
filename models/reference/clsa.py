"""CLSA ("You Only Index Once") in PyTorch: the definition the C++ engine is tested against.

A decoder-decoder model. The self-decoder's sliding-window layers read the tokens; its output is
written once, as one shared key/value memory and one index key per token. Every cross-decoder layer
reads that memory, at the positions one indexer picked once for the row: You Only Index Once.

Shapes: B sequences of L tokens, R output rows a sequence, H hidden, D head_dim, C = index_head_dim.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn


@dataclass
class Config:
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_self_decoder_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    max_position_embeddings: int
    sliding_window: int
    index_head_dim: int
    index_topk: int  # 0: dense YOCO
    index_n_heads: int = 1
    qk_norm: bool = True
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    tie_word_embeddings: bool = True
    eos_token_id: int = 0
    model_type: str = "clsa"
    architectures: list = field(default_factory=lambda: ["ClsaForCausalLM"])
    torch_dtype: str = "bfloat16"

    @staticmethod
    def load(directory):
        return Config(**json.loads((Path(directory) / "config.json").read_text()))


class Memory(NamedTuple):
    """What the self-decoder leaves behind; the cross-decoder reads nothing else of the past."""

    key: Tensor  # [B, kv_heads, L, D]
    value: Tensor  # [B, kv_heads, L, D]
    index_key: Tensor  # [B, L, C]
    index_query: Tensor  # [B, L, C]


class RMSNorm(nn.Module):
    def __init__(self, size, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x):
        x32 = x.float()
        return x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + self.eps) * self.weight


class Window(NamedTuple):
    """What every self-decoder layer needs to know about positions; the same for all of them."""

    size: int
    cos: Tensor  # [L, D / 2], the RoPE angle of each position
    sin: Tensor  # [L, D / 2]
    mask: Tensor  # bool [blocks, 1, size, 2 * size]: query of a block x key of that block or the one before


def make_window(config, length, device, sequences=1):
    """For `sequences` of `length` tokens laid end to end; several only in lengths that fill whole blocks."""
    size, dim = config.sliding_window, config.head_dim
    assert sequences == 1 or length % size == 0
    position = torch.arange(length, device=device, dtype=torch.float64).repeat(sequences)
    frequency = config.rope_theta ** (-torch.arange(0, dim, 2, device=device, dtype=torch.float64) / dim)
    angle = position[:, None] * frequency
    blocks = -(-length // size)
    i, j = torch.arange(size, device=device)[:, None], torch.arange(2 * size, device=device)
    mask = ((j > i) & (j <= i + size)).repeat(sequences * blocks, 1, 1, 1)
    mask[::blocks, :, :, :size] = False  # nothing precedes a sequence's first block
    return Window(size, angle.cos().float(), angle.sin().float(), mask)


def rotate(x, window):
    """Half-split RoPE on [B, heads, L, D]."""
    a, b = x.float().chunk(2, dim=-1)
    cos, sin = window.cos, window.sin
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).to(x.dtype)


def window_attention(q, k, v, window):
    """Causal attention over the last `window.size` tokens, the current one included: [B, heads, L, D].

    In blocks of that size, so that it costs O(L): a block's queries need its own keys and those before.
    """
    batch, heads, length, dim = q.shape
    blocks, _, size, _ = window.mask.shape

    def split(t):
        t = F.pad(t, (0, 0, 0, blocks * size - length))
        return t.view(batch, heads, blocks, size, dim).transpose(1, 2)

    def with_previous(t):
        t = split(t)
        return torch.cat([F.pad(t, (0, 0, 0, 0, 0, 0, 1, 0))[:, :-1], t], dim=3).flatten(0, 1)

    mask = window.mask if batch == 1 else window.mask.repeat(batch, 1, 1, 1)
    out = F.scaled_dot_product_attention(
        split(q).flatten(0, 1), with_previous(k), with_previous(v), attn_mask=mask
    )
    out = out.view(batch, blocks, heads, size, dim).transpose(1, 2)
    return out.reshape(batch, heads, blocks * size, dim)[:, :, :length]


class Attention(nn.Module):
    """Projections of one attention; a cross-decoder layer has none for keys and values."""

    def __init__(self, c: Config, cross: bool):
        super().__init__()
        self.head_dim, self.groups = c.head_dim, c.num_attention_heads // c.num_key_value_heads
        width, kv_width = c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim
        self.q_proj = nn.Linear(c.hidden_size, width, bias=False)
        self.o_proj = nn.Linear(width, c.hidden_size, bias=False)
        self.q_norm = RMSNorm(c.head_dim, c.rms_norm_eps) if c.qk_norm else nn.Identity()
        if not cross:
            self.k_proj = nn.Linear(c.hidden_size, kv_width, bias=False)
            self.v_proj = nn.Linear(c.hidden_size, kv_width, bias=False)
            self.k_norm = RMSNorm(c.head_dim, c.rms_norm_eps) if c.qk_norm else nn.Identity()

    def heads(self, x):
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def query(self, h):
        q = self.q_proj(h)
        return self.q_norm(self.heads(q)).to(q.dtype)

    def key_value(self, h):
        k, v = self.k_proj(h), self.v_proj(h)
        return self.k_norm(self.heads(k)).to(k.dtype), self.heads(v)

    def per_query_head(self, t):
        return t if self.groups == 1 else t.repeat_interleave(self.groups, dim=1)

    def output(self, x):
        return self.o_proj(x.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.gate_proj = nn.Linear(c.hidden_size, c.intermediate_size, bias=False)
        self.up_proj = nn.Linear(c.hidden_size, c.intermediate_size, bias=False)
        self.down_proj = nn.Linear(c.intermediate_size, c.hidden_size, bias=False)

    def forward(self, h):
        return self.down_proj(F.silu(self.gate_proj(h)) * self.up_proj(h))


class SelfLayer(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.input_layernorm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.self_attn = Attention(c, cross=False)
        self.post_attention_layernorm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.mlp = MLP(c)

    def forward(self, x, window):
        a, h = self.self_attn, self.input_layernorm(x)
        q, (k, v) = rotate(a.query(h), window), a.key_value(h)
        k, v = a.per_query_head(rotate(k, window)), a.per_query_head(v)
        x = x + a.output(window_attention(q, k, v, window))
        return x + self.mlp(self.post_attention_layernorm(x))


class CrossLayer(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.input_layernorm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.cross_attn = Attention(c, cross=True)
        self.post_attention_layernorm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.mlp = MLP(c)

    def forward(self, x, key, value, mask):
        """x [B, R, H]; mask bool [B, 1, R, L], or None when the rows are 0..L-1 and all attend causally."""
        a = self.cross_attn
        k, v = a.per_query_head(key), a.per_query_head(value)
        q = a.query(self.input_layernorm(x))
        x = x + a.output(F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None))
        return x + self.mlp(self.post_attention_layernorm(x))


class SharedMemory(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        width = c.num_key_value_heads * c.head_dim
        self.norm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.k_proj = nn.Linear(c.hidden_size, width, bias=False)
        self.v_proj = nn.Linear(c.hidden_size, width, bias=False)
        self.k_norm = RMSNorm(c.head_dim, c.rms_norm_eps) if c.qk_norm else nn.Identity()


class Indexer(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.q_proj = nn.Linear(c.hidden_size, c.index_head_dim, bias=False)
        self.k_proj = nn.Linear(c.hidden_size, c.index_head_dim, bias=False)


class Decoder(nn.Module):
    """The parameters under `model.`, named as in the checkpoint."""

    def __init__(self, c: Config):
        super().__init__()
        self.embed_tokens = nn.Embedding(c.vocab_size, c.hidden_size)
        self.layers = nn.ModuleList(
            SelfLayer(c) if i < c.num_self_decoder_layers else CrossLayer(c) for i in range(c.num_hidden_layers)
        )
        self.memory = SharedMemory(c)
        self.indexer = Indexer(c)
        self.norm = RMSNorm(c.hidden_size, c.rms_norm_eps)


class Clsa(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        assert config.index_n_heads == 1
        self.config = config
        self.model = Decoder(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def self_layers(self):
        return self.model.layers[: self.config.num_self_decoder_layers]

    def cross_layers(self):
        return self.model.layers[self.config.num_self_decoder_layers :]

    def self_decode(self, tokens):
        """tokens [B, L] -> (x [B, L, H], Memory). Sequences of whole window blocks are laid end to end."""
        batch, length = tokens.shape
        packed = batch if length % self.config.sliding_window == 0 else 1
        window = make_window(self.config, length, tokens.device, sequences=packed)
        x = self.model.embed_tokens(tokens.view(batch // packed, packed * length))
        for layer in self.self_layers():
            x = layer(x, window)
        x = x.view(batch, length, -1)
        return x, self.remember(x)

    def remember(self, x):
        store, indexer = self.model.memory, self.model.indexer
        m = store.norm(x)

        def heads(t):
            return t.unflatten(-1, (-1, self.config.head_dim)).transpose(1, 2)

        k = store.k_proj(m)
        return Memory(
            key=store.k_norm(heads(k)).to(k.dtype),
            value=heads(store.v_proj(m)),
            index_key=indexer.k_proj(m.detach()),  # the indexer learns from its own loss alone
            index_query=indexer.q_proj(m.detach()),
        )

    def cross_decode(self, x, memory, mask=None):
        """x [B, R, H]: self-decoder output of the rows -> logits [B, R, vocab]. Mask: see CrossLayer."""
        for layer in self.cross_layers():
            x = layer(x, memory.key, memory.value, mask)
        return self.lm_head(self.model.norm(x))

    def forward(self, tokens, rows=None, top_k=None):
        """Logits [B, R, vocab] of `rows` (all when None), reading `top_k` tokens a row (config's when None)."""
        top_k = self.config.index_topk if top_k is None else top_k
        rows = torch.arange(tokens.shape[1], device=tokens.device) if rows is None else rows
        x, memory = self.self_decode(tokens)
        if top_k == 0:
            mask = causal_mask(rows, tokens.shape[1])[None]
        else:
            mask = mask_of(top_positions(index_scores(memory, rows), top_k), tokens.shape[1])
        return self.cross_decode(x[:, rows], memory, mask[:, None])


def causal_mask(rows, length):
    """bool [..., R, L]: which positions each row may see."""
    return torch.arange(length, device=rows.device) <= rows[..., None]


def exact_scores(query, key):
    """query key^T with fp32 products, whatever autocast says."""
    with torch.autocast(query.device.type, enabled=False):
        return query.float() @ key.float().transpose(-1, -2)


def index_scores(memory, rows):
    """The indexer's score of every token for each row [R], -inf past the row itself: [B, R, L]."""
    scores = exact_scores(memory.index_query[:, rows], memory.index_key)
    return scores.masked_fill(~causal_mask(rows, scores.shape[-1]), float("-inf"))


def top_positions(scores, top_k):
    """The top_k best positions of each row, ties to the lowest, ascending, padded with -1: [B, R, top_k]."""
    scores = F.pad(scores, (0, max(0, top_k - scores.shape[-1])), value=float("-inf"))
    best, position = scores.sort(dim=-1, descending=True, stable=True)
    beyond = scores.shape[-1]
    position = position.masked_fill(best == float("-inf"), beyond)[..., :top_k].sort(dim=-1).values
    return position.masked_fill(position == beyond, -1)


def mask_of(positions, length):
    """bool [B, R, L] with the given positions set."""
    mask = torch.zeros(*positions.shape[:-1], length + 1, dtype=torch.bool, device=positions.device)
    return mask.scatter_(-1, positions.where(positions >= 0, length), True)[..., :length]


def load(directory):
    """A Clsa in fp32 from a Hugging Face directory."""
    model = Clsa(Config.load(directory))
    tensors = {}
    for path in sorted(Path(directory).glob("model*.safetensors")):
        with safe_open(path, "pt") as file:
            tensors |= {name: file.get_tensor(name) for name in file.keys()}
    if model.config.tie_word_embeddings:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    model.load_state_dict(tensors)
    return model


def save(model, directory, shard_bytes=16 * 2**20):
    """Writes config.json and bf16 safetensors of at most `shard_bytes` each, with an index if several."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(asdict(model.config), indent=2) + "\n")
    shards, room = [], 0
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        tensor = tensor.detach().to("cpu", torch.bfloat16).contiguous()
        size = tensor.nbytes + 256  # an upper bound of the tensor's entry in the header
        if size > room:
            shards.append({})
            room = shard_bytes
        shards[-1][name] = tensor
        room -= size
    if len(shards) == 1:
        write_tensors(shards[0], directory / "model.safetensors")
        return
    where = {}
    for i, shard in enumerate(shards):
        path = f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors"
        write_tensors(shard, directory / path)
        where |= {name: path for name in shard}
    total = sum(t.nbytes for shard in shards for t in shard.values())
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def write_tensors(tensors, path):
    save_file(tensors, path, {"format": "pt"})
    path.chmod(0o644)
