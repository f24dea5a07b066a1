"""Routes under TLS: both sides show a certificate, and strangers stay outside."""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import TYPE_CHECKING

import pytest

from tests.cluster.authority import Authority
from tests.cluster.members import ByHand, cluster_of, member, meshed, names, seed, until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ours")


async def test_mesh_under_tls(authority: Authority) -> None:
    """By gossip, too, which tells bare addresses: there the name of the seed counts."""
    tls = {name: authority.settings(name, "localhost") for name in "abc"}
    async with member("a", tls=tls["a"]) as a:
        dialed = seed(a).replace("127.0.0.1", "localhost")
        async with member("b", dialed, tls=tls["b"]) as b, member("c", dialed, tls=tls["c"]) as c:
            await meshed(a, b, c)
            (route, *_) = cluster_of(c).routes.values()

            assert route.transport.get_extra_info("cipher") is not None


async def test_certificate_of_another_authority_is_refused(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path, "theirs")
    ours = authority.settings("a", "127.0.0.1")
    mixed = {**other.settings("b", "127.0.0.1"), "ca_file": authority.ca_file}  # they know us, we don't know them
    good = authority.settings("c", "127.0.0.1")
    async with member("a", tls=ours) as a, member("b", seed(a), tls=mixed) as b, member("c", seed(a), tls=good) as c:
        await meshed(a, c)

        assert names(b) == []
        with pytest.raises((ssl.SSLError, EOFError, ConnectionError)):
            await _without_certificate(a.cluster_url or "", authority.ca_file)


async def _without_certificate(url: str, ca_file: str) -> None:
    context = ssl.create_default_context(cafile=ca_file)
    host, _, port = url.removeprefix("nats://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
    try:
        # With TLS 1.3 the client learns that it is refused when it reads.
        if not await reader.read(1):
            raise EOFError
    finally:
        writer.close()


async def test_name_in_the_certificate_counts(authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "streamd")
    wrong = authority.settings("a", "elsewhere.example")
    async with member("a", tls=wrong) as a, member("b", seed(a), tls=authority.settings("b", "127.0.0.1")) as b:
        await until(lambda: any("IP address mismatch" in record.getMessage() for record in caplog.records))

        assert names(b) == []
        lax = {**authority.settings("c", "127.0.0.1"), "insecure": True}
        async with member("c", seed(a), tls=lax) as c:
            await until(lambda: names(c) == ["a"])


async def test_without_tls_nobody_is_heard(authority: Authority) -> None:
    async with member("a", tls=authority.settings("a", "127.0.0.1")) as a, ByHand.dial(a) as hand:
        hand.connect()
        hand.info()

        assert "INFO" not in await hand.ended()
        assert names(a) == []


async def test_files_that_cannot_be_read_end_the_start(tmp_path: Path) -> None:
    settings = {"cert_file": str(tmp_path / "none"), "key_file": str(tmp_path / "none")}
    with pytest.raises(OSError, match="No such file"):
        await member("a", tls=settings).__aenter__()
