"""docs/deploy.md: its values are the chart's, and its helm commands render."""

import re
import shlex

import pytest
import yaml

from programs import CHART, template

PAGE = CHART.parent.parent / "docs" / "deploy.md"
TEXT = PAGE.read_text(encoding="utf-8")

# What the page leaves out of hashes.
ELIDED = {r'"[0-9a-f]{4}\.\.\."': f'"{"0" * 64}"', r"sha256:\.\.\.": "sha256:" + "0" * 64}


def with_hashes(text):
    for pattern, whole in ELIDED.items():
        text = re.sub(pattern, whole, text)
    return text


BLOCKS = [with_hashes(block) for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)]
NAMED = {found[1]: block for block in BLOCKS if (found := re.match(r"# (\S+\.yaml)\n", block))}
CHART_VALUES = set(yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8")))
OF_THE_CHART = [block for block in BLOCKS if set(yaml.safe_load(block)) <= CHART_VALUES]
COMMANDS = [
    with_hashes(line.replace("\\\n", " ").strip())
    for line in re.findall(r"^    (helm (?:install|upgrade) (?:.*\\\n)*.*)$", TEXT, re.MULTILINE)
]


def test_the_page_was_understood():
    assert set(NAMED) == {"gpu.yaml", "nodes.yaml"} and len(OF_THE_CHART) >= 5 and len(COMMANDS) >= 6


@pytest.mark.parametrize("block", OF_THE_CHART)
def test_values_render(block, tmp_path):
    files = [NAMED["gpu.yaml"], block] if block == NAMED["nodes.yaml"] else [block]
    options = []
    for number, text in enumerate(files):
        (tmp_path / f"{number}.yaml").write_text(text, encoding="utf-8")
        options += ["-f", tmp_path / f"{number}.yaml"]
    done = template(4, *options)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_render(command, tmp_path):
    for name, text in NAMED.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    words = shlex.split(command)
    assert words[2:4] == ["documents", "helm/yoio"]
    options = [tmp_path / word if word in NAMED else word for word in words[4:] if word != "--reuse-values"]
    done = template(4, *options)
    assert done.returncode == 0, done.stderr
