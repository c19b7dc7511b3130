"""Wrong checkpoints and settings: the server exits with 1 and names the file and the key."""

import json
import shutil

import pytest
from yoio_server import MODEL, last_two_lines, run_to_end

SHARD = "model-00001-of-00002.safetensors"


@pytest.fixture()
def checkpoint(tmp_path):
    """A copy of the shipped model, to be spoiled."""
    copy = tmp_path / "spoiled"
    shutil.copytree(MODEL, copy, ignore=shutil.ignore_patterns("demo", "README.md"))
    return copy


def expect_refusal(model, *named):
    code, errors = run_to_end(model=model)
    what, _ = last_two_lines(errors)
    assert code == 1, errors
    for word in named:
        assert word in what, what


def edit_json(path, edit):
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value))


def edit_header(path, edit):
    """Rewrites the header of a safetensors file and leaves its data alone."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    edit(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


def first_tensor(header):
    return next(entry for name, entry in header.items() if name != "__metadata__")


def test_no_such_directory(tmp_path):
    expect_refusal(tmp_path / "nowhere", "nowhere")


@pytest.mark.parametrize("name", ["config.json", SHARD])
def test_a_missing_file(checkpoint, name):
    (checkpoint / name).unlink()
    expect_refusal(checkpoint, name)


def test_a_truncated_file(checkpoint):
    data = (checkpoint / SHARD).read_bytes()
    (checkpoint / SHARD).write_bytes(data[:-1000])
    expect_refusal(checkpoint, SHARD)


def test_a_file_shorter_than_its_header(checkpoint):
    (checkpoint / SHARD).write_bytes(b"\x10\x00")
    expect_refusal(checkpoint, SHARD)


def test_a_header_length_past_the_file(checkpoint):
    data = (checkpoint / SHARD).read_bytes()
    (checkpoint / SHARD).write_bytes((1 << 62).to_bytes(8, "little") + data[8:])
    expect_refusal(checkpoint, SHARD)


def test_offsets_past_the_file(checkpoint):
    def lie(header):
        entry = first_tensor(header)
        entry["data_offsets"] = [offset + (1 << 40) for offset in entry["data_offsets"]]

    edit_header(checkpoint / SHARD, lie)
    expect_refusal(checkpoint, SHARD)


def test_a_shape_that_does_not_fill_its_bytes(checkpoint):
    def lie(header):
        first_tensor(header)["shape"][0] += 1

    edit_header(checkpoint / SHARD, lie)
    expect_refusal(checkpoint, SHARD)


def test_a_tensor_that_is_missing(checkpoint):
    name = "model.norm.weight"
    for shard in checkpoint.glob("*.safetensors"):
        edit_header(shard, lambda header: header.pop(name, None))
    edit_json(checkpoint / "model.safetensors.index.json", lambda index: index["weight_map"].pop(name))
    expect_refusal(checkpoint, name)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_size", "320"),
        ("num_hidden_layers", 10.5),
        ("num_attention_heads", None),
        ("rms_norm_eps", "small"),
        ("qk_norm", 1),
        ("vocab_size", -4096),
        ("sliding_window", 0),
        ("index_n_heads", 2),
        ("num_self_decoder_layers", 11),
        ("model_type", "unheard-of"),
        ("rope_scaling", {"type": "linear", "factor": 2}),
    ],
)
def test_a_config_key_with_a_wrong_value(checkpoint, key, value):
    edit_json(checkpoint / "config.json", lambda config: config.update({key: value}))
    expect_refusal(checkpoint, "config.json", key)


def test_a_config_key_that_is_missing(checkpoint):
    edit_json(checkpoint / "config.json", lambda config: config.pop("index_topk"))
    expect_refusal(checkpoint, "config.json", "index_topk")


def test_a_config_that_is_no_json(checkpoint):
    (checkpoint / "config.json").write_text('{"hidden_size": 320,')
    expect_refusal(checkpoint, "config.json")


def test_a_shape_that_is_not_the_config_s(checkpoint):
    edit_json(checkpoint / "config.json", lambda config: config.update(intermediate_size=1024))
    expect_refusal(checkpoint, "mlp", "1024")


def test_a_tokenizer_of_another_kind(checkpoint):
    edit_json(checkpoint / "tokenizer.json", lambda tokenizer: tokenizer["model"].update(type="Unigram"))
    expect_refusal(checkpoint, "tokenizer.json", "Unigram")


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--no-such-flag", "1"], "--no-such-flag"),
        (["--max-sequences", "0"], "--max-sequences"),
        (["--max-sequences", "many"], "--max-sequences"),
        (["--tensor-parallel-size", "3"], "tensor parallel size"),
        (["--kv-cache-bytes", "1"], "--kv-cache-bytes"),
    ],
)
def test_a_wrong_setting(flags, named):
    code, errors = run_to_end(*flags)
    what, _ = last_two_lines(errors)
    assert code == 1 and named in what
