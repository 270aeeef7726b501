"""People as judges: a labelling campaign on a running server, asked for and waited for."""

import getpass
import os
import sys
import time
from dataclasses import dataclass

from tqdm.auto import tqdm

from rlhf.errors import ConfigError, RunError
from rlhf.label_client.client import LabelClient

PASSWORD = "RLHF_LABEL_PASSWORD"
_POLL_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Campaign:
    """Where people are asked."""

    server: str
    user: str
    name: str
    overlap: int = 1


def sign_in(server: str | None, user: str | None) -> LabelClient:
    """An admin's session with a labelling server.

    The password comes from the environment or is typed at the terminal; it is never stored.

    Raises:
        ConfigError: the server or the user is not named.
        RunError: there is no password, no server, or the user is not an admin there.
    """
    if server is None or user is None:
        raise ConfigError("people are asked on a labelling server; give --server URL --user NAME")
    client = LabelClient(server, user, _password(user))
    if client.role != "admin":
        with client:
            raise RunError(f"{user} is a {client.role} at {server}; a campaign needs an admin")
    return client


def wait_for(client: LabelClient, campaign: Campaign) -> None:
    """Return once every comparison of ``campaign`` has its votes."""
    with tqdm(desc="votes complete", disable=None, dynamic_ncols=True) as bar:
        while True:
            status = client.status(campaign.name)
            bar.total = status.comparisons
            bar.update(status.complete - bar.n)
            if status.complete >= status.comparisons:
                return
            time.sleep(_POLL_SECONDS)


def _password(user: str) -> str:
    given = os.environ.get(PASSWORD)
    if given is not None:
        return given
    if not sys.stdin.isatty():
        raise RunError(f"no password for {user}; set {PASSWORD}")
    return getpass.getpass(f"Password of {user}: ")
