"""Writes small tokenizers of every supported style, with texts and what the reference library makes of them.

    pip install tokenizers==0.23.3 && python tests/engine/testdata/make_tokenizers.py

For each style: STYLE.json, a tokenizer.json, and STYLE_cases.json:
{"encode": [{"text", "ids"}], "decode": [{"ids", "text", "plain"}]}, plain being without special tokens.
"""

import json
import random
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

HERE = Path(__file__).parent

CORPUS = """The quick brown fox jumps over the lazy dog. It's 1999, isn't it? They've said we'll see 31,415,926 things.
def main(argv):\n    for i in range(100):\n        print(f"{i:03d}\\t{argv[i]}")\n\n\nif __name__ == "__main__":\n    main()
Größe, naïve café, déjà vu, señor. Привет, мир! Как дела? 你好,世界。今日は良い天気ですね。 مرحبا بالعالم 🙂👍🏽 👨‍👩‍👧
hello hello HELLO Hello hello's hello   world    and     more      spaces\n \n  \n\t\ttabs\r\nwindows\r\n\r\nlines
"""

TEXTS = [
    "",
    " ",
    "  ",
    "\n",
    "\r\n\r\n",
    " \n \n x",
    "hello",
    " hello",
    "hello world",
    "hello   world  ",
    "It's, they've, WE'LL, i'M, 'tis 'S 'ſ",
    "1234567890 12 1 123 1,234.50 ½ Ⅷ ٣٤٥ 2²",
    "tabs\t\tand\n\n\nlines \r\n \r\n end \t ",
    "a\u0085b\u00a0c\u2003d\u2028e\u3000f\u180eg\u200bh\ufeffi",
    "!!! ... ?? -- __ ## $$ %% ^^ && ** (()) [[]] {{}} <<>> // \\\\ || ~~ `` @@",
    "Größe naïve café e\u0301 ﬁ ß ẞ İ ı K",
    "Привет, мир! Как дела? 123",
    "你好,世界。今日は良い天気ですね。カタカナ 한국어",
    "مرحبا بالعالم हिन्दी ไทย",
    "🙂👍🏽👨‍👩‍👧 🏳️‍🌈 \U0001f1e9\U0001f1ea",
    "\x00\x01\x1f\x7f",
    "\U0010ffff\ufffd\ufffe\ue000",
    "<|start|>hello<|end|>",
    "hello <|start|> world",
    "<|start|><|start|><|end|><|end",
    "<|start|><|end|><|start|",
    "<|sta<|start|>rt|>",
    "x<tool>y<tool_call>z<tool_c<tool>",
    "x <tool> y",
    "naïvely<tool>naïve",
    "def main(argv):\n    return argv[0]\n\n\n\nclass X:\n\tpass\n",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "hellohellohellohellohellohellohellohellohellohellohello",
    "." * 70 + "x" + " " * 70 + "y" + "\n" * 70,
    "0" * 70,
]

ALPHABET = (
    "aabeehlorstwHT  \t\n\r'0127.,!_-<|>é߀ß你好界日мир\u0301\u00a0\u2003\u3000\u0085🙂👍\u200d½Ⅷ٣"
)

LLAMA = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def byte_level(space=False, regex=False):
    return pre_tokenizers.ByteLevel(add_prefix_space=space, use_regex=regex)


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(pattern, behavior=behavior, invert=invert)


PRE_TOKENIZERS = {
    "gpt2": byte_level(regex=True),
    "llama": pre_tokenizers.Sequence([split(Regex(LLAMA)), byte_level()]),
    "digits": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level(regex=True)]),
    "runs": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=False), byte_level(space=True)]),
    "deepseek": pre_tokenizers.Sequence(
        [
            split(Regex(r"\p{N}{1,3}")),
            split(Regex("[一-龥\u3040-ゟ゠-ヿ]+")),
            split(Regex(DEEPSEEK)),
            byte_level(),
        ]
    ),
    "removed": pre_tokenizers.Sequence(
        [
            split(Regex(r"[^\S\n]+|\x{2028}"), "removed"),
            split(Regex(r"^\p{Lu}.*$|[\s\d]+|\S"), "removed", invert=True),
            split(".", "removed"),
            byte_level(),
        ]
    ),
}


def build(style):
    tokenizer = Tokenizer(models.BPE(ignore_merges=style == "llama"))
    tokenizer.pre_tokenizer = PRE_TOKENIZERS[style]
    tokenizer.decoder = decoders.ByteLevel()
    in_vocabulary = [] if style == "llama" else [AddedToken("<|end|>", special=True, normalized=False)]
    tokenizer.train_from_iterator(
        [CORPUS],
        trainers.BpeTrainer(
            vocab_size=420,
            min_frequency=2,
            special_tokens=in_vocabulary,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.add_special_tokens(["<|start|>", "<|end|>", "<|start|><|end|>"])
    tokenizer.add_tokens(
        ["<tool>", AddedToken("<tool_call>", normalized=False), AddedToken(" <tool> ", normalized=True), "naïve"]
    )
    if style == "llama":
        template = processors.TemplateProcessing(single="<|start|> $A", special_tokens=[("<|start|>", 421)])
        tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    if style == "runs":
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def as_json(tokenizer, style):
    document = json.loads(tokenizer.to_str())
    if style in ("gpt2", "digits"):  # the older way to write merges
        document["model"]["merges"] = [" ".join(merge) for merge in document["model"]["merges"]]
    return document


def main():
    for style in PRE_TOKENIZERS:
        tokenizer = build(style)
        document = as_json(tokenizer, style)
        (HERE / f"{style}.json").write_text(json.dumps(document, separators=(",", ":")) + "\n")
        tokenizer = Tokenizer.from_str(json.dumps(document))

        rng = random.Random(7)
        texts = TEXTS + ["".join(rng.choices(ALPHABET, k=rng.randint(1, 40))) for _ in range(60)]
        encode = [{"text": t, "ids": tokenizer.encode(t, add_special_tokens=False).ids} for t in texts]
        decode = []
        for _ in range(60):
            # Not naïve: the reference decodes that added token as if its characters spelt bytes.
            ids = rng.choices(range(tokenizer.get_vocab_size()), k=rng.randint(1, 30))
            ids = [i for i in ids if tokenizer.id_to_token(i) != "naïve"]
            plain = tokenizer.decode(ids, skip_special_tokens=True)
            decode.append({"ids": ids, "text": tokenizer.decode(ids, skip_special_tokens=False), "plain": plain})
        cases = {"encode": encode, "decode": decode}
        (HERE / f"{style}_cases.json").write_text(json.dumps(cases, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
