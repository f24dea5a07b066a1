"""Who gets in, and into which account: what nats-server 2.15.2 does with the same configuration."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import nats
import pytest
from nats.errors import NoRespondersError

from streamd import Server
from streamd.config.models import AuthorizationConfig, Config, SystemUser
from streamd.core.access import Access, Login
from streamd.core.info import Connect

pytestmark = pytest.mark.anyio

USERS = (SystemUser(user="sys", password="pw"), SystemUser(user="open"))
COMMON, NOBODY = Login("$G", ""), None


@pytest.mark.parametrize(
    ("authorization", "users", "required", "anonymous"),
    [
        (None, (), False, True),
        (AuthorizationConfig(), (), False, True),
        (AuthorizationConfig(user="u", password="p"), (), True, False),
        (AuthorizationConfig(token="t"), (), True, False),
        (None, USERS, True, True),
        (AuthorizationConfig(), USERS, True, False),
    ],
)
def test_whether_credentials_are_asked_for(
    authorization: AuthorizationConfig | None, users: tuple[SystemUser, ...], required: bool, anonymous: bool
) -> None:
    """INFO asks for them beside users of the system account too, where one may do without."""
    access = Access(authorization, users)

    assert (access.required, access.anonymous) == (required, anonymous)


@pytest.mark.parametrize(
    ("authorization", "users", "connect", "login"),
    [
        (None, (), {}, COMMON),
        (None, (), {"user": "anybody", "password": "x"}, COMMON),
        (None, (), {"account": "A"}, NOBODY),
        (None, USERS, {}, COMMON),
        (None, USERS, {"user": "sys", "password": "pw"}, Login("$SYS", "sys")),
        (None, USERS, {"user": "sys", "password": "no"}, NOBODY),
        (None, USERS, {"user": "sys"}, NOBODY),
        (None, USERS, {"user": "open"}, Login("$SYS", "open")),
        (None, USERS, {"user": "nobody"}, NOBODY),
        (None, USERS, {"password": "pw"}, NOBODY),
        (None, USERS, {"auth_token": "pw"}, NOBODY),
        (None, USERS, {"user": "\ud800", "password": "\ud800"}, NOBODY),
        (None, USERS, {"account": "$SYS"}, NOBODY),
        (AuthorizationConfig(), USERS, {}, NOBODY),
        (AuthorizationConfig(), USERS, {"user": "sys", "password": "pw"}, Login("$SYS", "sys")),
        (AuthorizationConfig(user="u", password="p"), (), {"user": "u", "password": "p"}, Login("$G", "u")),
        (AuthorizationConfig(user="u", password="p"), (), {"user": "u"}, NOBODY),
        (AuthorizationConfig(token="t"), (), {"auth_token": "t"}, COMMON),
        (AuthorizationConfig(token="t"), (), {"user": "t"}, NOBODY),
    ],
)
def test_login(
    authorization: AuthorizationConfig | None,
    users: tuple[SystemUser, ...],
    connect: dict[str, str],
    login: Login | None,
) -> None:
    """Credentials lead into one account, or nowhere."""
    assert Access(authorization, users).login(Connect(**connect)) == login  # type: ignore[arg-type]


def config(**more: Any) -> Config:
    """A server whose system account has a user."""
    return Config(host="127.0.0.1", port=-1, system_users=USERS, **more)


async def test_accounts_are_apart() -> None:
    """Neither hears the other; who has no credentials is a common client."""
    async with Server(config()) as server:
        common = await nats.connect(server.client_url)
        system = await nats.connect(server.client_url, user="sys", password="pw")
        heard = await system.subscribe("*")
        await common.publish("a", b"from the common account")
        await common.flush()
        await system.publish("b", b"from the system account")
        message = await heard.next_msg(10)

        assert (message.subject, heard.pending_msgs) == ("b", 0)
        with pytest.raises(NoRespondersError):
            await common.request("$SYS.REQ.SERVER.PING", timeout=10)
        await common.close()
        await system.close()


async def _lines(server: Server, text: bytes, until: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(text)
    async with asyncio.timeout(10):
        got = await reader.readuntil(until)
    writer.close()
    await writer.wait_closed()
    return got


async def test_wrong_password() -> None:
    """No way round by the account that needs none."""
    async with Server(config()) as server:
        connect = b'CONNECT {"verbose":false,"user":"sys","pass":"no"}\r\nPING\r\n'
        got = await _lines(server, connect, b"-ERR 'Authorization Violation'\r\n")

        assert b"PONG" not in got


async def test_info_tells_the_account() -> None:
    """The INFO behind the first PONG says where one is, and still who one is."""
    async with Server(config()) as server:
        connect = b'CONNECT {"verbose":false,"protocol":1,"user":"sys","pass":"pw"}\r\nPING\r\n'
        got = await _lines(server, connect, b'"acc_is_sys":true} \r\n')
        first, _, pong = got.partition(b"\r\n")
        info = json.loads(pong.partition(b"INFO ")[2])

        assert json.loads(first.removeprefix(b"INFO "))["auth_required"] is True
        assert (info["remote_account"], info["connect_info"], info["client_ip"]) == ("$SYS", True, "127.0.0.1")


async def test_subscriptions_from_before_the_login_are_gone() -> None:
    """What was subscribed to in the common account doesn't reach into the system account, nor stay behind."""
    async with Server(config()) as server:
        common = await nats.connect(server.client_url)
        text = (
            b"SUB f 1\r\n"
            b'CONNECT {"verbose":false,"user":"sys","pass":"pw"}\r\n'
            b"PUB f 1\r\nx\r\nSUB g 2\r\nPUB g 1\r\ny\r\n"
        )
        got = await _lines(server, text, b"MSG g 2 1\r\ny\r\n")

        assert b"MSG f" not in got
        with pytest.raises(NoRespondersError):
            await common.request("f", timeout=10)
        await common.close()


async def test_who_says_nothing_is_sent_away() -> None:
    """A connection without a word is closed at the authentication timeout; one that speaks without CONNECT is not."""
    async with Server(config(authorization=AuthorizationConfig(timeout_ns=50_000_000))) as server:
        got = await _lines(server, b"", b"-ERR 'Authentication Timeout'\r\n")
        assert got.startswith(b"INFO ")
        got = await _lines(server, b"SUB a 1\r\n", b"-ERR 'Authorization Violation'\r\n")
        assert got.startswith(b"INFO ")
