"""Runs what an image holds as a careful cluster would: try_image.py cpu|cuda CONFIG ROOT.

As the image's own user, who is not root; with a root file system that cannot be written; without capabilities, in a
network of its own. CONFIG is what `buildah inspect` says of the image, ROOT where its files lie. Needs root. Exits 1,
with a sentence, at the first thing that is not as it should be. Ends with sizes and times.
"""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

MOST_BYTES = 250_000_000  # without the model
START_SECONDS = 60
PROMPT = "Remember: the amber falcon code is 48213.\n\nThe amber falcon code is"

# In new namespaces: the root is bound read-only with a small /tmp, loopback comes up, and the user gives up what
# only root may, for good.
ENTER = """
import fcntl, os, socket, struct, subprocess, sys
root, user, *command = sys.argv[1:]
for mount in (["--bind", root, root], ["-o", "remount,ro,bind", root], ["-t", "tmpfs", "tmpfs", root + "/tmp"],
              ["-t", "proc", "proc", root + "/proc"]):
    subprocess.run(["mount", *mount], check=True)
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
    SIOCSIFFLAGS, UP_AND_RUNNING = 0x8914, 0x1 | 0x40
    fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh", b"lo", UP_AND_RUNNING))
os.execvp("setpriv", ["setpriv", "--no-new-privs", "--", "chroot", "--userspec=" + user, root, *command])
"""


def fail(sentence):
    sys.exit(f"try_image: {sentence}")


def check(holds, sentence):
    if not holds:
        fail(sentence)


class Image:
    def __init__(self, config_file, root):
        image = json.loads(Path(config_file).read_text())["Docker"]
        self.config, self.root = image["config"], Path(root)
        self.user = self.config["User"]

    def check_config(self):
        check(re.fullmatch(r"[1-9]\d*:[1-9]\d*", self.user), f"its user is {self.user}: not a number other than root's")
        check(self.config.get("StopSignal") == "SIGTERM", "its stop signal is not SIGTERM")
        check(self.config["Healthcheck"]["Test"][0] == "CMD", "its health check needs a shell")
        for name in ("title", "version", "revision", "licenses"):
            check(self.config["Labels"].get(f"org.opencontainers.image.{name}"), f"it has no label {name}")

    def check_files(self):
        for name in ("packages.tsv", "linked-packages.tsv"):
            check((self.root / "usr/share/doc/yoio" / name).stat().st_size > 500, f"its {name} says too little")
        server = (self.root / "usr/local/bin/yoio-server").read_bytes()
        check(b".symtab\0" in server, "its server has no function names for the record of a failure")
        for name in ("cc", "g++", "ninja", "cmake"):
            check(shutil.which(name, path=str(self.root / "usr/bin")) is None, f"it holds a compiler's {name}")

    def enter(self, *command):
        """What runs the command inside."""
        unshare = ["unshare", "--mount", "--net", "--propagation", "private"]
        return [*unshare, sys.executable, "-c", ENTER, str(self.root), self.user, *command]

    def bytes_of(self, folder):
        command = ["du", "--summarize", "--block-size=1", "--one-file-system", str(self.root / folder)]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[0])


class Container:
    """The image's own command, running."""

    def __init__(self, image):
        self.image = image
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            image.enter(*image.config["Entrypoint"], *image.config["Cmd"]),
            env=dict(variable.split("=", 1) for variable in image.config["Env"]),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )

    def run(self, *command, seconds=60):
        """A command beside it, as `docker exec`."""
        enter = ["nsenter", f"--target={self.process.pid}", "--mount", "--net", "chroot", f"--userspec={self.image.user}"]
        return subprocess.run([*enter, str(self.image.root), *command], capture_output=True, text=True, timeout=seconds)

    def until(self, what, holds):
        while not (answer := holds()):
            if self.process.poll() is not None or time.monotonic() - self.began > START_SECONDS:
                self.process.kill()
                fail(f"{what} did not come: {self.process.communicate()}")
            time.sleep(0.02)
        return answer

    def status(self, key):
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return re.search(rf"^{key}:\s*(.*)$", text, re.MULTILINE)[1].split()


def try_cpu(image):
    container = Container(image)
    try:
        health = image.config["Healthcheck"]["Test"][1:]
        container.until("health", lambda: container.run(*health).returncode == 0)
        ready = time.monotonic() - container.began
        answer = container.run("/usr/local/bin/yoio", "generate", "--temperature", "0", "--max-tokens", "8", PROMPT)
        first_answer = time.monotonic() - container.began
        check("48213" in answer.stdout, f"the client got no good answer: {answer}")
        check(container.status("Uid") == [image.user.split(":")[0]] * 4, "it runs as another user than it should")
        check(int(container.status("CapEff")[0], 16) == 0, "it has capabilities")
        check(container.run("/usr/bin/touch", "/usr/x").returncode != 0, "its root file system can be written")

        # SIGTERM while a stream runs: the stream ends well, then the process.
        long = ["/usr/local/bin/yoio", "generate", "--max-tokens", "400", "--ignore-eos", "Once upon a time"]
        stream = subprocess.Popen(
            ["nsenter", f"--target={container.process.pid}", "--mount", "--net", "chroot", str(image.root), *long],
            stdout=subprocess.PIPE, text=True)
        stream.stdout.read(1)
        container.process.send_signal(signal.SIGTERM)
        check(stream.wait(timeout=60) == 0, "SIGTERM broke a stream")
        check(container.process.wait(timeout=60) == 0, "SIGTERM did not drain it")
    finally:
        container.process.kill()
        container.process.wait()
    size = image.bytes_of("") - image.bytes_of("models")
    check(size <= MOST_BYTES, f"it has {size} bytes without the model, more than {MOST_BYTES}")
    print(f"cpu: {size / 1e6:.0f} MB without the model, {image.bytes_of('models') / 1e6:.0f} MB of model; "
          f"healthy after {ready:.2f} s, first answer after {first_answer:.2f} s")


def try_cuda(image):
    """Without a GPU and NVIDIA's base the program can only be looked at."""
    list_libraries = ["/usr/bin/env", "LD_TRACE_LOADED_OBJECTS=1", "/usr/local/bin/yoio-server"]
    found = subprocess.run(image.enter(*list_libraries), capture_output=True, text=True)
    check("libc.so.6 => /" in found.stdout, f"its libraries cannot be listed: {found}")
    missing = set(re.findall(r"^\s*(\S+) => not found", found.stdout, re.MULTILINE))
    strange = {name for name in missing if not re.match(r"lib(cuda|cublas|cublasLt|cudart|nccl)\.so", name)}
    check(not strange, f"its server needs {strange}")
    check("libyoio_blas.so => /usr/local/bin/" in found.stdout, "its server does not find what lies beside it")
    print(f"cuda: {image.bytes_of('') / 1e6:.0f} MB without NVIDIA's libraries; not run; still to come from NVIDIA's "
          f"base: {', '.join(sorted(missing)) or 'nothing'}")


def main():
    target, config_file, root = sys.argv[1:]
    image = Image(config_file, root)
    image.check_config()
    image.check_files()
    {"cpu": try_cpu, "cuda": try_cuda}[target](image)


if __name__ == "__main__":
    main()
