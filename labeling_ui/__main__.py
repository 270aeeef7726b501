"""``python -m labeling_ui``: serve the app, add users, import, export, status."""

import argparse
import asyncio
import getpass
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from tqdm.auto import tqdm

from labeling_ui.accounts.audit import note
from labeling_ui.accounts.invitations import Invitations
from labeling_ui.accounts.sessions import SECRET_VARIABLE, session_secret
from labeling_ui.accounts.tokens import Tokens
from labeling_ui.accounts.users import Accounts
from labeling_ui.campaigns.active_learning import rank_by_disagreement, rank_by_reward
from labeling_ui.campaigns.importers import read_incoming, read_text, told
from labeling_ui.campaigns.service import Campaigns
from labeling_ui.campaigns.tasks import Settings
from labeling_ui.db.store import Store, StoreError
from labeling_ui.http.listen import check_exposure, listen
from labeling_ui.maintenance.backup import copy_to_file, fill_from_file, new_or_empty
from labeling_ui.maintenance.integrity import examine
from labeling_ui.options import parser
from labeling_ui.pages.keymap import Keymap, load_keymap
from labeling_ui.results.answers import all_status
from labeling_ui.results.export import export
from labeling_ui.results.export_folder import write_folder
from labeling_ui.results.formats import lists_of
from rlhf.config import build
from rlhf.errors import ConfigError, RLHFError

LAST_SECONDS = 10
"""How long a server that is to end waits for what is being answered."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    options = parser().parse_args(arguments)
    commands = {
        "serve": serve,
        "add-user": add_user,
        "password": set_password,
        "token": token,
        "invite": invite,
        "import": import_file,
        "export": export_folder,
        "rank": rank_tasks,
        "status": status,
        "doctor": doctor,
        "backup": backup,
        "restore": restore,
    }
    try:
        commands[options.command](options)
    except RLHFError as error:
        print(f"rlhf label: {error}", file=sys.stderr)
        return 1
    return 0


def serve(options: argparse.Namespace) -> None:
    """Listen, say where, and answer until interrupted."""
    check_exposure(
        options.host,
        behind_proxy=options.behind_proxy is not None,
        insecure_http=options.insecure_http,
    )
    keys = load_keymap(options.keymap)
    with closing(Store(options.db)) as store:
        accounts = Accounts(store, _secret(options))
        with closing(listen(options.host, options.port)) as listener, suppress(KeyboardInterrupt):
            asyncio.run(_answer(store, accounts, listener, options, keys))


async def _answer(
    store: Store,
    accounts: Accounts,
    listener: socket.socket,
    options: argparse.Namespace,
    keymap: Keymap,
) -> None:
    import uvicorn

    from labeling_ui.app import Serving, create_app  # Gradio takes seconds to import

    serving = Serving(policies=options.policies, keymap=keymap, proxy=options.behind_proxy)
    # Built inside the loop, because outside one Gradio opens loops that it never closes.
    app = create_app(store, accounts, serving)
    if not accounts.count():
        print("nobody can sign in yet: `rlhf label add-user NAME --admin`", file=sys.stderr)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        proxy_headers=False,  # the app reads them itself
        server_header=False,
        timeout_graceful_shutdown=LAST_SECONDS,
    )
    host = f"[{options.host}]" if ":" in options.host else options.host
    url = f"http://{host}:{listener.getsockname()[1]}"

    class Server(uvicorn.Server):
        """Says where it is once it answers, and can be told to end."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            print(url, flush=True)

    # uvicorn ends well at the signal of systemd and docker, too, and then sends it once more
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    await Server(config).serve(sockets=[listener])


def add_user(options: argparse.Namespace) -> None:
    """Add a user with a password from stdin or a prompt."""
    # Sessions are not touched here, so any secret will do.
    with closing(Store(options.db)) as store:
        account = Accounts(store, "").add(options.name, _password(options), options.role)
        print(f"{account.role} {account.name} added to {store.name}")


def _password(options: argparse.Namespace) -> str:
    try:
        if options.password_stdin:
            given = sys.stdin.readline().rstrip("\n")
        else:
            given = getpass.getpass(f"Password for {options.name}: ")
        given.encode()
    except (EOFError, UnicodeError) as error:
        raise ConfigError(
            "no password was given; type one, or pipe it in as UTF-8 text with --password-stdin"
        ) from error
    return given


def set_password(options: argparse.Namespace) -> None:
    """Give a user another password."""
    with closing(Store(options.db, create=False)) as store:
        Accounts(store, "").set_password(options.name, _password(options), None)
    print(f"{options.name} has another password")


def token(options: argparse.Namespace) -> None:
    """Print a new token of a user, or revoke all."""
    with closing(Store(options.db, create=False)) as store:
        tokens = Tokens(store, Accounts(store, ""))
        if options.revoke:
            print(f"{tokens.revoke_all(options.name, None)} tokens of {options.name} revoked")
        else:
            print(tokens.make(options.name, None))


def invite(options: argparse.Namespace) -> None:
    """Print the path of a new invitation."""
    with closing(Store(options.db, create=False)) as store:
        invitations = Invitations(store, Accounts(store, ""))
        code = invitations.make(options.role, uses=options.uses, days=options.days, actor=None)
    print(f"/join#{code}")


def import_file(options: argparse.Namespace) -> None:
    """Add the tasks in a JSONL file."""
    found = read_incoming(options.file, options.source, options.names)
    guidelines = read_text(options.guidelines) if options.guidelines else ""
    settings = _settings(options)
    with closing(Store(options.db)) as store:
        added = Campaigns(store).add(
            options.campaign, found.tasks, settings=settings, guidelines=guidelines
        )
        with store.write() as session:
            note(session, None, "add tasks", {"campaign": options.campaign, **asdict(added)})
    print(f"{options.campaign}: {added.added} tasks added, {added.duplicates} known already")
    if found.left_out:
        print(told(found.left_out))
    if found.votes:
        print(f"{found.votes} votes in it are not this campaign's; stages train on the file itself")


def _settings(options: argparse.Namespace) -> Settings | None:
    """The rules that were given; None if there were none."""
    given: dict[str, Any] = {} if options.overlap is None else {"overlap": options.overlap}
    for pair in options.set:
        key, sign, value = pair.partition("=")
        if not sign:
            raise ConfigError(f"--set: {pair!r} is not KEY=VALUE")
        try:
            given[key] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise ConfigError(
                f"--set: {pair!r} holds no YAML; write it as in 'aspects=[helpful, honest]'"
            ) from error
    return build(Settings, given, where="--set") if given else None


def _secret(options: argparse.Namespace) -> str:
    if "://" in options.db and options.secret_file is None and SECRET_VARIABLE not in os.environ:
        raise ConfigError(
            f"name a file for the session secret: --secret-file, or {SECRET_VARIABLE}"
        )
    return session_secret(Path(options.db), options.secret_file)


def export_folder(options: argparse.Namespace) -> None:
    """Write a campaign's export."""
    with closing(Store(options.db, create=False)) as store:
        result = export(store, options.campaign)
    write_folder(result, options.folder, options.format, options.container)
    held = lists_of(result, options.format)
    print(f"{options.folder}: " + ", ".join(f"{len(rows)} {name}" for name, rows in held.items()))


def rank_tasks(options: argparse.Namespace) -> None:
    """Put the tasks that are least certain first."""
    with closing(Store(options.db, create=False)) as store:
        if options.by == "disagreement":
            ranked = rank_by_disagreement(store, options.campaign)
        else:
            with tqdm(desc="scores", disable=None, dynamic_ncols=True) as bar:
                ranked = rank_by_reward(store, options.campaign, options.by, bar.update)
        with store.write() as session:
            note(session, None, "rank tasks", {"campaign": options.campaign, "by": options.by})
    print(f"{options.campaign}: {ranked} tasks in another order")


def doctor(options: argparse.Namespace) -> None:
    """Prove that the counts and contents hold together, or say where they do not."""
    with closing(Store(options.db, create=False)) as store:
        found = examine(store)
        name = store.name
    for sentence in found.problems:
        print(f"rlhf label: {sentence}", file=sys.stderr)
    if found.problems:
        raise StoreError(f"{name}: is not sound; restore it from a backup")
    counts = ", ".join(f"{count} {what}" for what, count in found.counts.items())
    print(f"{name}: sound; {counts}")


def backup(options: argparse.Namespace) -> None:
    """Copy the database as of one moment."""
    with closing(Store(options.db, create=False)) as store:
        rows = copy_to_file(store, options.file)
        print(f"{options.file}: {rows} rows of {store.name}")


def restore(options: argparse.Namespace) -> None:
    """Fill an empty database from a backup."""
    with new_or_empty(options.db) as store:
        rows = fill_from_file(store, options.file)
    print(f"{store.name}: {rows} rows of {options.file}")


def status(options: argparse.Namespace) -> None:
    """Print how far every campaign is."""
    with closing(Store(options.db, create=False)) as store:
        campaigns = all_status(store)
    if not campaigns:
        print("no campaigns yet: `rlhf label import CAMPAIGN FILE.jsonl`")
    for campaign in campaigns:
        agreement = "" if campaign.agreement is None else f", agreement {campaign.agreement:.1%}"
        print(
            f"{campaign.name}: {campaign.complete} of {campaign.comparisons} comparisons complete "
            f"(overlap {campaign.overlap}), {campaign.votes} votes, {campaign.skips} skips"
            f"{agreement}"
        )
        for rater in campaign.raters:
            print(f"  {rater.name}: {rater.votes} votes, {rater.skips} skips")


if __name__ == "__main__":
    sys.exit(main())
