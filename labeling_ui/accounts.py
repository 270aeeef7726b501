"""Who may sign in, as what, and how often somebody may guess a password."""

import os
import re
import secrets
import stat
import threading
import time
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, cast, get_args

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from itsdangerous import BadSignature, URLSafeTimedSerializer
from sqlalchemy import func, select

from labeling_ui.store import Conflict, Store
from labeling_ui.tables import UserRow
from rlhf.errors import ConfigError, DataError, RLHFError

UserRole = Literal["rater", "admin"]

SESSION_SECONDS = 30 * 24 * 3600
SECRET_VARIABLE = "RLHF_LABEL_SECRET"
_NAME = re.compile(r"\w[\w .@+-]{0,63}")
_MIN_PASSWORD, _MAX_PASSWORD = 8, 256
_MIN_SECRET = 16


class Throttled(RLHFError):  # noqa: N818 - 429
    """Too many wrong passwords; ``seconds`` says how long to wait."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"too many wrong passwords; try again in {seconds} s")
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who is signed in."""

    id: int
    name: str
    role: UserRole


class Throttle:
    """After a few free tries each further one must wait twice as long, up to ``longest`` s."""

    def __init__(
        self, *, free: int = 5, longest: float = 300.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._free, self._longest, self._clock = free, longest, clock
        self._failures: dict[str, tuple[int, float]] = {}
        self._lock = threading.Lock()

    def try_at(self, key: str) -> None:
        """Count a try at ``key`` as failed until it succeeds; refuse it while ``key`` must wait."""
        now = self._clock()
        with self._lock:
            for old in [k for k, (_, at) in self._failures.items() if now - at > 3600]:
                del self._failures[old]
            failures, last = self._failures.get(key, (0, now))
            wait = min(self._longest, 2.0 ** min(failures - self._free, 30)) - (now - last)
            if failures >= self._free and wait > 0:
                raise Throttled(int(wait) + 1)
            self._failures[key] = (failures + 1, now)

    def succeeded(self, key: str) -> None:
        """Forget the failures of ``key``."""
        with self._lock:
            self._failures.pop(key, None)


class Accounts:
    """The users of one store, and their sessions.

    A session is a signed cookie that names the user; role and existence are read from the
    store at every request, so that a change acts at once.
    """

    def __init__(
        self,
        store: Store,
        secret: str,
        *,
        hasher: PasswordHasher | None = None,
        throttle: Throttle | None = None,
    ) -> None:
        self._store = store
        self._hasher = hasher or PasswordHasher()
        self._throttle = throttle or Throttle()
        self._signer = URLSafeTimedSerializer(secret, salt="rlhf-label-session")
        # Verified when the name is unknown, so that the time taken does not tell which names exist.
        self._nobody = self._hasher.hash(secrets.token_hex(16))

    def add(self, name: str, password: str, role: str) -> Account:
        """A new user.

        Raises:
            DataError: if name, password or role is not acceptable.
            Conflict: if the name is taken, in whatever case.
        """
        name = _plain(name)
        if not _NAME.fullmatch(name):
            raise DataError(
                "a user name has 1 to 64 letters, digits, spaces or . @ + - _, and starts with a "
                "letter or digit"
            )
        if not _MIN_PASSWORD <= len(password) <= _MAX_PASSWORD:
            raise DataError(f"a password has {_MIN_PASSWORD} to {_MAX_PASSWORD} characters")
        if role not in get_args(UserRole):
            raise DataError(f"role {role!r} is unknown; use rater or admin")
        row = UserRow(
            name=name,
            handle=name.lower(),
            role=role,
            password_hash=self._hasher.hash(password),
            created_at=datetime.now(UTC).isoformat(),
        )
        with self._store.write() as session:
            if session.scalar(select(UserRow.id).where(UserRow.handle == name.lower())) is not None:
                raise Conflict(f"user {name!r} exists already")
            session.add(row)
        return _account(row)

    def sign_in(self, name: str, password: str, address: str) -> Account | None:
        """The account, or None if name or password is wrong.

        Raises:
            Throttled: after several wrong tries at this name from this address.
        """
        name = _plain(name)
        key = f"{address} {name.lower()}"
        self._throttle.try_at(key)
        with self._store.read() as session:
            row = session.scalar(select(UserRow).where(UserRow.handle == name.lower()))
        try:
            self._hasher.verify(row.password_hash if row else self._nobody, password)
        except VerifyMismatchError:
            row = None
        if row is None:
            return None
        self._throttle.succeeded(key)
        return _account(row)

    def cookie(self, account: Account) -> str:
        """A signed session for ``account``."""
        return self._signer.dumps(account.id)

    def of_cookie(self, cookie: str | None) -> Account | None:
        """Who sent ``cookie``; None if it is missing, forged, expired or of nobody."""
        try:
            user = self._signer.loads(cookie or "", max_age=SESSION_SECONDS)
        except BadSignature:
            return None
        with self._store.read() as session:
            row = session.get(UserRow, user)
        return _account(row) if row else None

    def count(self) -> int:
        """How many users there are."""
        with self._store.read() as session:
            return session.scalar(select(func.count()).select_from(UserRow)) or 0


def _plain(name: str) -> str:
    return unicodedata.normalize("NFKC", name).strip()


def _account(row: UserRow) -> Account:
    return Account(row.id, row.name, cast("UserRole", row.role))


def session_secret(database: Path, secret_file: Path | None = None) -> str:
    """The key that signs sessions: from the environment, or from a file only we can read.

    The file lies beside the database unless named, and is made on first use.
    """
    if secret := os.environ.get(SECRET_VARIABLE):
        return _long_enough(secret, SECRET_VARIABLE)
    path = secret_file or database.with_name(database.name + ".secret")
    if not path.exists():
        _write_secret(path)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ConfigError(f"{path}: others can read this secret; run `chmod 600 {path}`")
    return _long_enough(path.read_text().strip(), str(path))


def _write_secret(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise ConfigError(
            f"{path}: the session secret cannot be written ({error.strerror}); make its folder "
            f"writable or set {SECRET_VARIABLE}"
        ) from error
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(32))


def _long_enough(secret: str, place: str) -> str:
    if len(secret) < _MIN_SECRET:
        raise ConfigError(f"{place}: the session secret needs at least {_MIN_SECRET} characters")
    return secret
