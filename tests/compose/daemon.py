"""A Docker daemon to run containers with, and an image with Python to build on.

Guarantee: what is here already is used; a daemon that is started here ends with the block, and its images and
containers with it. NotRun says what is missing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

START_SECONDS: Final = 30
SUITE: Final = "bookworm"
MIRROR: Final = "http://deb.debian.org/debian"
#: What the Dockerfile builds on where its own defaults can't be had.
BASE: Final = "streamd-test-base"
CERTIFICATES: Final = Path("/etc/ssl/certs/ca-certificates.crt")


class NotRun(Exception):
    """This machine can't run containers; the text says why."""


def need(program: str) -> str:
    """The path of a program. Errors: NotRun."""
    found = shutil.which(program)
    if found is None:
        raise NotRun(f"there is no `{program}` here")
    return found


def succeeds(*command: str) -> bool:
    """Whether a command ends well."""
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def compose() -> list[str]:
    """How Compose is called: a part of docker, or the program of its own that it was before. Errors: NotRun."""
    docker = need("docker")
    return [docker, "compose"] if succeeds(docker, "compose", "version") else [need("docker-compose")]


@contextmanager
def daemon() -> Iterator[None]:
    """The environment names a daemon that answers. Errors: NotRun."""
    docker = need("docker")
    if succeeds(docker, "info"):
        yield
        return
    program = need("dockerd")
    if os.geteuid():
        raise NotRun("no Docker daemon answers, and only root may start one")
    # Not below the temporary directory of this test: the path of a socket has to be short.
    with tempfile.TemporaryDirectory(prefix="dockerd-") as home:
        socket = f"unix://{home}/docker.sock"
        options = ["--data-root", f"{home}/data", "--exec-root", f"{home}/exec", "--pidfile", f"{home}/pid"]
        log_path = Path(home) / "log"
        with log_path.open("wb") as log:
            process = subprocess.Popen([program, "-H", socket, *options], stdout=log, stderr=log)
        before = os.environ.get("DOCKER_HOST")
        os.environ["DOCKER_HOST"] = socket
        try:
            deadline = time.monotonic() + START_SECONDS
            while not succeeds(docker, "info"):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise NotRun(f"dockerd doesn't start: {log_path.read_text(errors='replace')[-500:]}")
                time.sleep(0.1)
            yield
        finally:
            process.terminate()
            process.wait(60)
            unmount(home)
            os.environ.pop("DOCKER_HOST")
            if before is not None:
                os.environ["DOCKER_HOST"] = before


def unmount(home: str) -> None:
    """Whatever the daemon has left mounted below its directory, the innermost first."""
    points = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for point in sorted((point for point in points if point.startswith(f"{home}/")), reverse=True):
        subprocess.run([need("umount"), point], check=True)


def base() -> str:
    """An image of Debian with Python, made without an image registry. Errors: NotRun, or what the tools say."""
    docker = need("docker")
    if succeeds(docker, "image", "inspect", BASE):
        return BASE
    debootstrap = need("debootstrap")
    if os.geteuid():
        raise NotRun("a base image is made with debootstrap, which only root may run")
    with tempfile.TemporaryDirectory(prefix="debootstrap-") as home:
        root = Path(home) / "root"
        packages = "--include=python3-venv,ca-certificates"
        command = [debootstrap, "--variant=minbase", packages, SUITE, str(root), MIRROR]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            raise NotRun(f"debootstrap makes no base image: {(made.stdout + made.stderr)[-500:]}")
        trusted = []
        if CERTIFICATES.exists():
            # pip in the container trusts whom this machine trusts.
            shutil.copy(CERTIFICATES, root / CERTIFICATES.relative_to("/"))
            trusted = ["--change", f"ENV PIP_CERT={CERTIFICATES}"]
        with subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE) as tar:
            subprocess.run(
                [docker, "import", *trusted, "-", BASE], stdin=tar.stdout, stdout=subprocess.DEVNULL, check=True
            )
    return BASE
