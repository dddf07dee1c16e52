"""Access tokens: who presents one, peer or client, may use a node; others are refused (UNAUTHENTICATED, HTTP 401).

A file has one token a line. All of them are accepted; the first is what this node presents to its peers. The word
`anonymous` is one too: who presents no token, or another one, is let in. So tokens are changed while all goes on, by
files that follow each other on every node, each read again by a SIGHUP: `old, new`, then `new, old`, then `new`; and
`anonymous` stands for "no token" where there was or will be none.

A token is a bearer's (RFC 6750) and goes over the network in the clear, as all else does: it keeps out who can reach a
port, not who can listen.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rocinante.errors import ConfigError, InvalidArgument

ANONYMOUS: Final = "anonymous"
VARIABLE: Final = "ROCINANTE_TOKEN"
"""The environment of a client."""
REFUSAL: Final = "no access token, or one that is not (any more) accepted here"
METADATA: Final = "authorization"
ETCD_METADATA: Final = "token"
"""Under which etcd's clients present what Auth/Authenticate gave them."""
_CHARACTERS_MIN: Final = 16
_CHARACTERS_MAX: Final = 128
_TOKENS_MAX: Final = 8
"""Some clients that have one of their own, twice while they are changed."""
_FILE_BYTES_MAX: Final = 16 * 1024
_TOKEN: Final = re.compile(rf"[A-Za-z0-9._~+/-]{{{_CHARACTERS_MIN},{_CHARACTERS_MAX}}}=*")
"""RFC 6750's b64token, of a length that nobody guesses."""
_EXPECTED: Final = (
    f"{_CHARACTERS_MIN} to {_CHARACTERS_MAX} letters, digits and -._~+/ (openssl rand -base64 32 makes one)"
)


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a node accepts, and what it presents. The default: everybody is let in, as where no file is configured."""

    presented: str = ""
    """"": none."""
    accepted: tuple[str, ...] = ()
    anonymous: bool = True

    def allows(self, offered: str) -> bool:
        """Whether who presents this ("": nothing) is let in."""
        return self.anonymous or self.accepts(offered)

    def accepts(self, offered: str) -> bool:
        """Whether it is one of the tokens. Takes as long for a wrong one as for a right one."""
        mine = offered.encode(errors="surrogateescape")
        return max((hmac.compare_digest(mine, token.encode()) for token in self.accepted), default=False)

    @property
    def described(self) -> str:
        """How many, for people: never which."""
        presents = "presents the first" if self.presented else "presents none"
        return f"{len(self.accepted)} accepted{', and none needed' if self.anonymous else ''}; {presents}"

    def lets_in_fewer_than(self, before: Tokens) -> bool:
        """Somebody whom `before` let in is not any more."""
        return not self.anonymous and (before.anonymous or not set(before.accepted) <= set(self.accepted))


def read_tokens(path: Path) -> Tokens:
    """The tokens of a file. Raises ConfigError, which quotes no token; and where others than owner and group may read
    the file."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from None
    problems = []
    if mode & stat.S_IRWXO:
        problems.append(f"{path}: everybody on this host may use it: chmod o= {path}")
    if len(content) > _FILE_BYTES_MAX:
        raise ConfigError([*problems, f"{path}: has more than {_FILE_BYTES_MAX} bytes"])
    found: list[str] = []
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        word = line.strip()
        if not word or word.startswith("#"):
            continue
        if word != ANONYMOUS and not _TOKEN.fullmatch(word):
            problems.append(f"{path}:{number}: no token: expected {_EXPECTED}, or {ANONYMOUS}")
        elif word in found:
            problems.append(f"{path}:{number}: stands there twice")
        else:
            found.append(word)
    if not problems and not 1 <= len(found) <= _TOKENS_MAX:
        problems.append(f"{path}: has {len(found)} tokens, expected 1 to {_TOKENS_MAX}")
    if problems:
        raise ConfigError(problems)
    accepted = tuple(token for token in found if token != ANONYMOUS)
    return Tokens("" if found[0] == ANONYMOUS else found[0], accepted, anonymous=ANONYMOUS in found)


def client_token(path: Path) -> str:
    """What a client on this host presents: the first token of a node's file; "": it has none. Raises ConfigError."""
    return next(iter(read_tokens(path).accepted), "")


def check_token(token: str) -> str:
    """The same. Raises InvalidArgument, which does not quote it."""
    if token and not _TOKEN.fullmatch(token):
        raise InvalidArgument("token", f"expected {_EXPECTED}")
    return token


def own_token(given: str | None) -> str:
    """A client's: the one that it was given, or that of its environment. Raises InvalidArgument."""
    return check_token(os.environ.get(VARIABLE, "") if given is None else given)


def bearer(token: str) -> dict[str, str]:
    """The header or metadata of a client that presents it; none for ""."""
    return {METADATA: f"Bearer {token}"} if token else {}


def bearer_metadata(token: str) -> tuple[tuple[str, str], ...]:
    """The same as gRPC takes it."""
    return tuple(bearer(token).items())


def own_metadata() -> tuple[tuple[str, str], ...]:
    """That of this process's environment."""
    return bearer_metadata(own_token(None))


def offered_in_header(value: str) -> str:
    """What an Authorization header presents: `Bearer TOKEN`, or the password of `Basic` (RFC 7617), for which a browser
    asks its user; whatever the user's name. "" without."""
    scheme, _, rest = value.partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(rest.strip(), validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""


def offered_in_metadata(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """What a gRPC call presents; "" without."""
    for key, value in metadata:
        if key == METADATA:
            return offered_in_header(value if isinstance(value, str) else value.decode("ascii", "replace"))
        if key == ETCD_METADATA:
            return value if isinstance(value, str) else value.decode("ascii", "replace")
    return ""


class Keyring:
    """The tokens that a node goes by now. For any thread: they are replaced as a whole."""

    def __init__(self, tokens: Tokens | None = None) -> None:
        self.tokens = tokens or Tokens()
        self.refused = 0
        """Requests, of gRPC and REST."""
