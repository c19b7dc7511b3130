import pytest
from yoio_server import Server


@pytest.fixture(scope="module")
def server():
    """One server for the tests of a file."""
    with Server("--kv-cache-bytes", "256MiB") as running:
        yield running
