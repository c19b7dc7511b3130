"""docs/operations.md knows every flag of --help, and its default."""

import os
import re
import subprocess
from pathlib import Path

import pytest

BINARY = os.environ["SERVER_BINARY"]
PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "operations.md"

# "  --flag VALUE   What it does. [default]"; a long flag has one space before its description.
HELP_LINE = re.compile(r"^  --(?P<flag>[a-z-]+)\b.*?(?:\[(?P<default>[^\]]*)\])?$", re.MULTILINE)
ROW = re.compile(r"^\| `--(?P<flag>[a-z-]+)` \| (?P<default>[^|]*?)\s*\|", re.MULTILINE)
# What the page says where --help says nothing.
WITHOUT_DEFAULT = {"model": "required", "served-model-name": "DIR's own name"}


def flags_of_help():
    text = subprocess.run([BINARY, "--help"], capture_output=True, check=True, timeout=60).stdout.decode()
    flags = {found["flag"]: found["default"] or "" for found in HELP_LINE.finditer(text)}
    return {flag: default for flag, default in flags.items() if flag not in ("help", "version")}


def flags_of_page():
    section = PAGE.read_text(encoding="utf-8").split("## Every flag", 1)[1].split("\n## ", 1)[0]
    return {found["flag"]: found["default"] for found in ROW.finditer(section)}


FLAGS = flags_of_help()


def test_help_was_understood():
    assert len(FLAGS) > 30 and FLAGS["max-sequences"] == "64"


@pytest.mark.parametrize("flag", FLAGS)
def test_the_page_names_the_flag_and_its_default(flag):
    page = flags_of_page()
    assert flag in page, f"docs/operations.md, 'Every flag', has no row for --{flag}"
    assert page[flag] == (FLAGS[flag] or WITHOUT_DEFAULT.get(flag, "")), flag
