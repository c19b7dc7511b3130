"""The sets that matter render to what is committed. `make chart UPDATE_SNAPSHOTS=1` writes the files anew."""

import difflib
import os
from pathlib import Path

import pytest
import yaml

from rendered import objects

SNAPSHOTS = Path(__file__).resolve().parent / "snapshots"
SETS = ["default", "gpu", "multi-node-tls", "mutual-tls-and-keys", "guard-mutual-tls", "download-to-claim"]


def as_text(items):
    items = sorted(items, key=lambda item: (item["kind"], item["metadata"]["name"]))
    return yaml.safe_dump_all(items, sort_keys=True, width=110)


@pytest.mark.parametrize("name", SETS)
def test_snapshot(name):
    file = SNAPSHOTS / f"{name}.yaml"
    rendered = as_text(objects(4, name))
    if os.environ.get("UPDATE_SNAPSHOTS"):
        file.write_text(rendered, encoding="utf-8")
    committed = file.read_text(encoding="utf-8")
    difference = difflib.unified_diff(
        committed.splitlines(), rendered.splitlines(), "committed", "rendered", lineterm=""
    )
    assert rendered == committed, "\n".join(difference)


def test_every_file_belongs_to_a_set():
    assert {file.stem for file in SNAPSHOTS.iterdir()} == set(SETS)
