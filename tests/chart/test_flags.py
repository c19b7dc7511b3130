"""What the chart passes is what yoio-server takes. SERVER_BINARY names one; without it these tests are skipped."""

import json
import os
import re
import subprocess

import pytest

from programs import CHART
from rendered import VALUE_SETS, objects, pod_templates, server

BINARY = os.environ.get("SERVER_BINARY", "")
pytestmark = pytest.mark.skipif(not BINARY, reason="SERVER_BINARY is not set")

# Flags that a release has no use for.
UNUSED = {"dry-run", "help", "version"}
SERVERS = [
    pytest.param(pod, id=f"{name}-{role}")
    for name in VALUE_SETS
    for role, pod in pod_templates(objects(4, name))
    if role != "test"
]
# What the LeaderWorkerSet puts into a follower's environment.
GROUP = {"LWS_WORKER_INDEX": "1", "LWS_LEADER_ADDRESS": "release-yoio-nodes-0.release-yoio-nodes.serving"}


def run(arguments, environment=None):
    return subprocess.run(
        [BINARY, *arguments], env=environment or {}, capture_output=True, text=True, timeout=60
    )


def flags_of_help():
    return set(re.findall(r"^  --([a-z-]+)", run(["--help"]).stdout, re.MULTILINE))


def flags_of_values():
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    return set(schema["properties"]["flags"]["properties"])


def flags_of_chart():
    text = (CHART / "templates" / "_args.tpl").read_text(encoding="utf-8")
    return set(re.findall(r"^- --([a-z-]+)", text, re.MULTILINE))


def test_every_flag_is_either_the_charts_or_a_value():
    assert flags_of_values().isdisjoint(flags_of_chart())
    assert flags_of_values() | flags_of_chart() | UNUSED == flags_of_help()


@pytest.mark.parametrize("pod", SERVERS)
def test_the_server_takes_its_arguments_and_environment(pod):
    container = server(pod)
    # What comes from elsewhere may be a name or a list of headers.
    environment = {variable["name"]: variable.get("value", "name=value") for variable in container["env"]}
    arguments = [re.sub(r"\$\((\w+)\)", lambda found: GROUP[found[1]], arg) for arg in container["args"]]
    arguments = ["--model=/nonexistent" if arg.startswith("--model=") else arg for arg in arguments]
    done = run(arguments, environment)
    # All settings are checked, alone and together, before the model is looked for.
    assert done.returncode == 1
    assert "/nonexistent" in done.stderr, done.stderr
