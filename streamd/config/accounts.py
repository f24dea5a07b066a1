"""The accounts block: the users of the system account. Other accounts come later, and are refused by name.

Source: nats-server 2.15.2, of which these are the rules and texts.
"""

from __future__ import annotations

from typing import Any, Final

from streamd import __version__
from streamd.config import reading
from streamd.config.fields import Problems, read_block, words
from streamd.config.models import SYSTEM_ACCOUNT, SystemUser
from streamd.config.tree import Entry, Node, describe

LATER_ACCOUNT: Final = words("default_permissions exports imports jetstream limits mappings maps msg_trace nkey")
LATER_USER: Final = words(
    "allowed_connection_types authorization clients connection_types nkey permission permissions proxy_required"
)


def read_accounts(entry: Entry, problems: Problems, values: dict[str, Any]) -> None:
    """Sets `system_users`."""
    accounts = entry.node.value
    if not isinstance(accounts, dict):
        problems.add(entry.position, f"{entry.name}: expected a map, got {describe(entry.node)}")
        return
    for account in accounts.values():
        if account.name != SYSTEM_ACCOUNT:
            problems.add(account.position, _not_yet(account.name))
        else:
            values["system_users"] = _users_of(account, problems)


def read_system_account(entry: Entry, problems: Problems, _values: dict[str, Any]) -> None:
    """The system account has one name."""
    try:
        name = reading.string(entry.node)
    except ValueError as error:
        problems.add(entry.position, f"{entry.name}: {error}")
        return
    if name != SYSTEM_ACCOUNT:
        problems.add(entry.position, _not_yet(name))


def _not_yet(account: str) -> str:
    return f'account "{account}": accounts other than "{SYSTEM_ACCOUNT}" are not supported yet by streamd {__version__}'


def _users_of(account: Entry, problems: Problems) -> tuple[SystemUser, ...]:
    if not isinstance(account.node.value, dict):
        problems.add(account.position, f"{account.name}: expected a map, got {describe(account.node)}")
        return ()
    users: tuple[SystemUser, ...] = ()
    for name, entry in account.node.value.items():
        if name.lower() == "users":
            users = _users(entry, problems)
        elif name.lower() in LATER_ACCOUNT:
            problems.add(entry.position, f'"{name.lower()}" is not supported yet by streamd {__version__}')
        else:
            problems.add(entry.position, f'unknown field "{name}"')
    return users


def _users(entry: Entry, problems: Problems) -> tuple[SystemUser, ...]:
    if not isinstance(entry.node.value, list):
        problems.add(entry.position, f"{entry.name}: expected an array, got {describe(entry.node)}")
        return ()
    users = dict[str, SystemUser]()
    for node in entry.node.value:
        user = _user(node, len(users), problems)
        if user is None:
            continue
        if user.user in users:
            problems.add(entry.position, f'duplicate user "{user.user}" detected')
        users[user.user] = user
    return tuple(users.values())


def _user(node: Node, number: int, problems: Problems) -> SystemUser | None:
    position = node.position
    if isinstance(node.value, dict) and not _named(node.value):
        first = next(iter(node.value.values()), None)
        problems.add(first.position if first is not None else position, "user entry requires a user")
        return None
    entry = Entry("users", position, node)
    return read_block(SystemUser, entry, problems, ("system_users", str(number)), LATER_USER, {})


def _named(fields: dict[str, Entry]) -> bool:
    """Whether there is a user, or an nkey that will be refused as such."""
    return any(name.lower() in ("user", "username", "nkey") for name in fields)
