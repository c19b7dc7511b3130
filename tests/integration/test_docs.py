"""The Python client of README.md and docs/clients.md, as it stands there."""

import re
import subprocess
import sys

import pytest

from yoio_server import PROTO, clean_environment

ADDRESS = "127.0.0.1:50051"


@pytest.mark.parametrize("page", ["README.md", "docs/clients.md"])
def test_the_python_client_runs(server, tmp_path, page):
    text = (PROTO.parent / page).read_text()
    code = re.search(r"```python\n(import grpc\n.*?)```", text, re.DOTALL).group(1)
    assert len(code.splitlines()) == 12 and ADDRESS in code
    files = sorted(str(path.relative_to(PROTO)) for path in PROTO.glob("yoio/v1/*.proto"))
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", "-I", PROTO, "--python_out=.", "--grpc_python_out=."]
        + files,
        cwd=tmp_path,
        check=True,
    )
    (tmp_path / "client.py").write_text(code.replace(ADDRESS, server.address))
    done = subprocess.run(
        [sys.executable, "client.py"],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.decode().startswith(" 48213"), done
