"""Writes tests/golden/tokenizer_cases.json: texts and their ids by the `tokenizers` library.

    python models/reference/make_tokenizer_cases.py
"""

import json
import random
from pathlib import Path

from tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parents[2]

TEXTS = [
    "",
    " ",
    "  ",
    "\n",
    "\n\n",
    "\t",
    "\r\n",
    " \n",
    "\n ",
    "a",
    " a",
    "  a",
    "a ",
    "a  ",
    "a\n",
    "Hello, world!",
    "Hello,world!",
    "hello   world",
    "hello\n\n\nworld",
    "hello \n \n world",
    "hello\r\nworld\r\n",
    "\tindented\twith\ttabs\n\t\tdeeper",
    "    four spaces\n        eight spaces\n",
    "trailing spaces   \nand more   ",
    "0",
    "7 8 9",
    "48213",
    "00000",
    "3.14159",
    "1,234,567.89",
    "-42 +17 1e-9 0x1F",
    "2026-11-22T13:15:14Z",
    "v1.2.3-rc4",
    "Remember: the amber falcon code is 48213.",
    "Remember: the amber falcon code is the same as the ruby otter code.\n",
    "\nThe amber falcon code is",
    "The amber falcon code is 48213.<|endoftext|>",
    "<|endoftext|>",
    "<|endoftext|><|endoftext|>",
    "<|pad|>",
    "a<|endoftext|>b",
    "a <|endoftext|> b",
    "\n<|endoftext|>\n",
    "<|pad|><|endoftext|><|pad|>",
    "<|endoftext|",
    "|endoftext|>",
    "<|endoftext |>",
    "<<|endoftext|>>",
    "<|ENDOFTEXT|>",
    "I'm you're he's we've they'll I'd don't",
    "I'M YOU'RE HE'S WE'VE THEY'LL I'D DON'T",
    "'s't're've'm'll'd",
    "'S 'T 'x ''s '' '",
    "'\u017f long s after an apostrophe: it'\u017f",
    "rock'n'roll o'clock 'tis",
    "snake_case camelCase PascalCase SCREAMING_CASE kebab-case",
    "int main(void) { return 0; }\n",
    "for (size_t i = 0; i < n; ++i) {\n    sum += x[i] * y[i];\n}\n",
    "#include <vector>\n\ntemplate <class T>\nstd::vector<T> f(const T& t);\n",
    'print("hello, %s" % name)  # comment\n',
    "SELECT * FROM t WHERE a <> 'b' AND c >= 10;",
    "https://example.org/a/b?c=d&e=f#g",
    "user@example.org",
    "/usr/share/doc/package/README.gz",
    "C:\\Windows\\System32",
    "a...b....c.....",
    "!!! ??? ;;; :::",
    "!\n\n?",
    ".\n",
    ".\r\n\r\n",
    "--------------------------------",
    "================\n================\n",
    "( [ { < > } ] )",
    "$100 50% #1 @you ^caret ~tilde `tick`",
    "naïve café résumé Zürich Ångström",
    "na\u0069\u0308ve cafe\u0301",
    "e\u0301\u0301\u0301",
    "\u0301 a mark alone",
    "Z\u0351\u036b\u0343\u036a\u0302a\u036b\u033d\u034f\u0334l\u034dg\u0333o",
    "Straße, GROẞE",
    "Ελληνικά κείμενο",
    "Русский текст, ещё один.",
    "Українська мова",
    "עברית בלי ניקוד",
    "שָׁלוֹם",
    "العربية نص",
    "हिन्दी पाठ",
    "ภาษาไทยไม่มีช่องว่าง",
    "Tiếng Việt có dấu",
    "한국어 문장입니다",
    "한글 자모",
    "日本語の文章です。",
    "カタカナとひらがな",
    "中文句子，没有空格。",
    "繁體中文「引號」",
    "中文 with English 混合 text 123 数字",
    "１２３ full-width digits",
    "٣٤٥ Arabic digits",
    "Ⅷ ½ ² ₃ ① numbers of other kinds",
    "𝟙𝟚𝟛 𝒜𝓁𝓅𝒽𝒶",
    "𐍈 Gothic, 𓀀 hieroglyph",
    "😀",
    "😀😃😄",
    "text😀text",
    " 😀 spaced 🎉 ",
    "👩‍👩‍👧‍👦 family with joiners",
    "🇩🇪🇫🇷 flags",
    "👍🏽 skin tone",
    "❤️ with a variation selector",
    "1️⃣2️⃣ keycaps",
    "\u00a0no-break\u00a0space\u00a0",
    "\u2003em space\u2009thin\u3000ideographic",
    "a\u2028b\u2029c line and paragraph separators",
    "a\u0085b next line",
    "a\u000bb\u000cc vertical tab and form feed",
    "zero\u200bwidth\u200cnon\u200djoiner",
    "\ufeffbyte order mark",
    "soft\u00adhyphen",
    "\u202eright to left override\u202c",
    "\u0000 nul \u0001 control \u001f and \u007f delete",
    "\ue000 private use \uffff noncharacter \U0010ffff last",
    "\ufffd replacement",
    "“curly” ‘quotes’ — dash – en … ellipsis",
    "€ £ ¥ ₿ © ® ™ § ¶ † ‡",
    "∀x∈ℝ: x² ≥ 0 ⇒ √x² = |x| ≠ −1",
    "← ↑ → ↓ ⇄ ░▒▓█ ┌─┐│└┘",
    "ﬁ ﬂ ligatures",
    "İstanbul ıI",
    "K (Kelvin sign) Å (Angstrom sign)",
    "ǅ title case ªº ordinal",
    "ʰʲˠ modifier letters",
    "   \n   \n   ",
    " \t \t \n\t \t ",
    "\n\n\n\n\n\n\n\n",
    "x" * 1000,
    " " * 1000,
    "\n" * 500,
    "ab " * 500,
    "1234567890" * 100,
    "é" * 300,
    "日本" * 200,
    "😀" * 100,
    "<|endoftext|>" * 50,
    "a\n" * 300,
    "!?" * 300,
    " word" * 400,
]


def random_text(rng, length):
    alphabets = ["abcdefgh", "ABCDE", "0123456789", "    \n\t", ".,;:!?'\"()"]
    alphabets += ["éüñçß", "日本語中文", "😀🎉👍", "\u0301\u0308"]
    return "".join(rng.choice(rng.choice(alphabets)) for _ in range(length))


def main():
    tokenizer = Tokenizer.from_file(str(ROOT / "models" / "yoio-tiny" / "tokenizer.json"))
    rng = random.Random(0)
    document = (ROOT / "models" / "yoio-tiny" / "demo" / "document.txt").read_text()
    texts = TEXTS + [random_text(rng, n) for n in (5, 10, 20, 50, 100, 200, 500, 1000)]
    texts += [document[:3000], document[9000:12000]]
    cases = [{"text": text, "ids": tokenizer.encode(text).ids} for text in texts]
    for case in cases:
        assert tokenizer.decode(case["ids"], skip_special_tokens=False) == case["text"], case["text"]
    path = ROOT / "tests" / "golden" / "tokenizer_cases.json"
    path.write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
    print(len(cases), "cases,", path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
