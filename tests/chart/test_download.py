"""files/download.sh against a hub on loopback."""

import hashlib
import http.server
import shutil
import subprocess
import threading

import pytest

from programs import CHART

SCRIPT = CHART / "files" / "download.sh"
FILES = {"config.json": b"{}", "nested/model.safetensors": b"weights" * 1000}


class Hub(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get("Authorization")))
        contents = self.server.files.get(self.path.removeprefix("/o/n/resolve/r/"))
        self.send_response(200 if contents is not None else 404)
        self.send_header("Content-Length", str(len(contents or b"")))
        self.end_headers()
        self.wfile.write(contents or b"")

    def log_message(self, *arguments):
        pass


@pytest.fixture
def hub():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        server.files, server.asked = dict(FILES), []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def download(hub, tmp_path):
    (tmp_path / "model").mkdir()
    sums = "".join(f"{hashlib.sha256(contents).hexdigest()}  {path}\n" for path, contents in FILES.items())
    (tmp_path / "SHA256SUMS").write_text(sums)
    environment = {
        "PATH": "/usr/bin:/bin",
        "MODEL_URL": f"http://127.0.0.1:{hub.server_address[1]}/o/n/resolve/r",
        "MODEL_DIRECTORY": str(tmp_path / "model"),
        "CHECKSUMS": str(tmp_path / "SHA256SUMS"),
        "TIMEOUT_SECONDS": "30",
    }

    def run(**more):
        return subprocess.run(
            ["sh", SCRIPT], env=environment | more, capture_output=True, text=True, timeout=60
        )

    return run


def lying_in(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_every_file_is_fetched_once(hub, download, tmp_path):
    assert shutil.which("curl"), "curl is missing"
    assert download().returncode == 0
    assert lying_in(tmp_path / "model") == FILES
    assert len(hub.asked) == len(FILES)
    again = download()
    assert again.returncode == 0 and again.stdout.count("is there") == len(FILES)
    assert len(hub.asked) == len(FILES)


def test_a_file_that_was_cut_off_is_fetched_again(download, tmp_path):
    (tmp_path / "model" / "config.json").write_bytes(b"{")
    assert download().returncode == 0
    assert lying_in(tmp_path / "model") == FILES


def test_what_is_not_of_its_checksum_is_not_kept(hub, download, tmp_path):
    hub.files["config.json"] = b'{"changed": true}'
    done = download()
    assert done.returncode == 1
    assert "config.json: its SHA-256 is" in done.stderr and "model.download.revision" in done.stderr
    assert lying_in(tmp_path / "model") == {}


def test_a_file_that_the_hub_lacks_ends_the_container(hub, download, tmp_path):
    del hub.files["nested/model.safetensors"]
    done = download()
    assert done.returncode != 0 and "404" in done.stderr
    assert set(lying_in(tmp_path / "model")) == {"config.json"}


def test_the_token_is_sent_and_shown_nowhere(hub, download, tmp_path):
    (tmp_path / "token").write_text("secret-token\n")
    done = download(TOKEN_FILE=str(tmp_path / "token"))
    assert done.returncode == 0
    assert {header for _, header in hub.asked} == {"Bearer secret-token"}
    assert "secret-token" not in done.stdout + done.stderr
