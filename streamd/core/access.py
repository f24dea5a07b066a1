"""Who may come in, and into which account.

Source: nats-server 2.15.2. Where only the system account has users, and there is no authorization block, whoever names none
is in the common account: with the first thing it says, CONNECT or not.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from streamd.config.models import SYSTEM_ACCOUNT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamd.config.models import AuthorizationConfig, SystemUser
    from streamd.core.info import Connect

DEFAULT_ACCOUNT: Final = "$G"


class Login(NamedTuple):
    """Where a client has been let in. Shapes: `user` is empty for a token, and for one that named none."""

    account: str
    user: str

    def told(self) -> dict[str, Any]:
        """What the INFO behind the first PONG says of it."""
        told: dict[str, Any] = {"remote_account": self.account}
        if self.account == SYSTEM_ACCOUNT:
            told["acc_is_sys"] = True
        return told


NOBODY: Final = Login(DEFAULT_ACCOUNT, "")


class Access:
    """What the configuration says about logins."""

    def __init__(
        self, authorization: AuthorizationConfig | None = None, system_users: Iterable[SystemUser] = ()
    ) -> None:
        self._token = authorization.token if authorization is not None else None
        self._user = authorization.user if authorization is not None else None
        self._password = (authorization.password if authorization is not None else None) or ""
        self._system = {user.user: user.password for user in system_users}
        #: Whether INFO asks for credentials.
        self.required = bool(self._token is not None or self._user is not None or self._system)
        #: Whether a client that gives none is let in.
        self.anonymous = not self.required or authorization is None

    def login(self, connect: Connect) -> Login | None:
        """Where a CONNECT leads; None: nowhere."""
        # Naming an account in CONNECT is a way in that nats-server has closed long ago.
        if connect.account or connect.new_account:
            return None
        if not self.required:
            return NOBODY
        if self._token is not None:
            return NOBODY if _same(connect.auth_token, self._token) else None
        if self._user is not None:
            right = _same(connect.user, self._user) & _same(connect.password, self._password)
            return Login(DEFAULT_ACCOUNT, self._user) if right else None
        if not (connect.user or connect.password or connect.auth_token):
            return NOBODY if self.anonymous else None
        password = self._system.get(connect.user)
        if password is None or not _same(connect.password, password):
            return None
        return Login(SYSTEM_ACCOUNT, connect.user)


def _same(given: str, wanted: str) -> bool:
    # JSON may name half a surrogate pair, which is no text.
    return hmac.compare_digest(given.encode(errors="surrogatepass"), wanted.encode(errors="surrogatepass"))
