"""People as judges: a labelling campaign on a running server, over its HTTP API."""

import getpass
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tqdm.auto import tqdm

from rlhf.errors import RunError
from rlhf.records import Comparison, Vote, from_json
from rlhf.stages.label_client import LabelClient

PASSWORD = "RLHF_LABEL_PASSWORD"
_POLL_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Campaign:
    """Where people are asked."""

    server: str
    user: str
    name: str
    overlap: int = 1


def password_of(user: str) -> str:
    """The password from the environment, or typed at the terminal; it is never stored.

    Raises:
        RunError: it is in neither place.
    """
    given = os.environ.get(PASSWORD)
    if given is not None:
        return given
    if not sys.stdin.isatty():
        raise RunError(f"no password for {user}; set {PASSWORD}")
    return getpass.getpass(f"Password of {user}: ")


class Desk(LabelClient):
    """An admin's session with a labelling server."""

    def __init__(self, server: str, user: str, password: str) -> None:
        super().__init__(server, user, password)
        if self.role != "admin":
            self.__exit__()
            raise RunError(f"{user} is a {self.role} at {server}; a campaign needs an admin")

    def ask(self, campaign: Campaign, comparisons: Sequence[Comparison], guidelines: str) -> None:
        """Put comparisons before people; those that are there already are not doubled."""
        self.add_campaign(
            campaign.name, comparisons, overlap=campaign.overlap, guidelines=guidelines
        )

    def wait(self, campaign: Campaign) -> None:
        """Return once every comparison has its votes."""
        with tqdm(desc="votes complete", disable=None, dynamic_ncols=True) as bar:
            while True:
                complete, bar.total = self.progress(campaign.name)
                bar.update(complete - bar.n)
                if complete >= bar.total:
                    return
                time.sleep(_POLL_SECONDS)

    def votes(self, campaign: Campaign) -> list[Vote]:
        """Every vote so far."""
        return [from_json(Vote, vote) for vote in self.export(campaign.name)["votes"]]
