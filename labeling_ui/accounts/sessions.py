"""Sessions of browsers: the cookie that names who is signed in, and the secret that signs it."""

import os
import secrets
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

from labeling_ui.accounts.users import Account, Accounts
from rlhf.errors import ConfigError

COOKIE = "rlhf_label_session"
SECRET_VARIABLE = "RLHF_LABEL_SECRET"
_MIN_SECRET = 16


def signed_in(accounts: Accounts, cookies: Mapping[str, str]) -> Account | None:
    """Who sent a request with these cookies, if anybody."""
    return accounts.of_cookie(cookies.get(COOKIE))


def session_secret(database: Path, secret_file: Path | None = None) -> str:
    """The key that signs sessions: from the environment, or from a file only we can read.

    The file lies beside the database unless named, and is made on first use.
    """
    if secret := os.environ.get(SECRET_VARIABLE):
        return _long_enough(secret, SECRET_VARIABLE)
    path = secret_file or database.with_name(database.name + ".secret")
    if not path.exists():
        _write_secret(path)
    try:
        mode, secret = path.stat().st_mode, path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path}: the session secret cannot be read ({error.strerror}); name a file with "
            "--secret-file"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: the session secret is not UTF-8 text; name another file with --secret-file"
        ) from error
    if stat.S_IMODE(mode) & 0o077:
        raise ConfigError(f"{path}: others can read this secret; run `chmod 600 {path}`")
    return _long_enough(secret.strip(), str(path))


def _write_secret(path: Path) -> None:
    """Write a new secret, unless another process was faster; nobody reads half of one."""
    try:
        with NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.") as file:  # 0600
            file.write(secrets.token_urlsafe(32))
            file.flush()
            with suppress(FileExistsError):
                os.link(file.name, path)
    except OSError as error:
        raise ConfigError(
            f"{path}: the session secret cannot be written ({error.strerror}); make its folder "
            f"writable or set {SECRET_VARIABLE}"
        ) from error


def _long_enough(secret: str, place: str) -> str:
    if len(secret) < _MIN_SECRET:
        raise ConfigError(f"{place}: the session secret needs at least {_MIN_SECRET} characters")
    return secret
