"""The commands of ``rlhf label`` and their options."""

import argparse
import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

from labeling_ui.accounts.users import ROLES
from labeling_ui.campaigns.importers import SOURCES
from labeling_ui.campaigns.tasks import Settings
from labeling_ui.results.formats import FORMATS

DATABASE_VARIABLE = "RLHF_LABEL_DB"


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(prog="rlhf label", description="People compare responses, blind.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, summary: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=summary, description=summary)
        sub.add_argument(
            "--db",
            default=os.environ.get(DATABASE_VARIABLE, "label.db"),
            help="label database: a file, or postgresql://USER:PASSWORD@HOST/NAME "
            f"(default: ${DATABASE_VARIABLE}, else label.db)",
        )
        return sub

    serve = command("serve", "Run the server.")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on")
    serve.add_argument("--port", type=int, default=7860, help="0 picks a free one")
    serve.add_argument(
        "--policies",
        type=Path,
        nargs="+",
        default=[],
        metavar="RUN",
        help="for the arena, at /compare",
    )
    serve.add_argument("--secret-file", type=Path, help="session secret (default: DB.secret)")
    serve.add_argument("--keymap", type=Path, help="keys of your own, as JSON")
    serve.add_argument(
        "--behind-proxy",
        nargs="?",
        const="127.0.0.1",
        metavar="ADDRESS",
        help="a proxy there (default: 127.0.0.1) speaks TLS, keeps Host, sets X-Forwarded-*",
    )
    serve.add_argument(
        "--insecure-http", action="store_true", help="listen on a network that may read along"
    )
    _people(command)
    bring = command("import", "Add tasks to a campaign.")
    bring.add_argument("campaign")
    bring.add_argument("file", type=Path, help="a comparison or task per line, as JSON")
    bring.add_argument(
        "--from",
        dest="source",
        choices=SOURCES,
        default="records",
        help="the tool that wrote FILE (default: records, our own); arena: files of Chatbot Arena",
    )
    bring.add_argument(
        "--names",
        nargs="+",
        default=[],
        metavar="KEY=COLUMN",
        help="columns of argilla or label-studio, as in prompt=instruction responses=r-1,r-2",
    )
    bring.add_argument("--overlap", type=int, help="raters per task (default: 1)")
    bring.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="rules of a new campaign, as in kind=ranking 'aspects=[helpful, honest]'; keys: "
        + ", ".join(f.name for f in fields(Settings)),
    )
    bring.add_argument("--guidelines", type=Path, help="Markdown that raters see")
    take = command("export", "Write what the votes of a campaign amount to.")
    take.add_argument("campaign")
    take.add_argument("folder", type=Path)
    take.add_argument(
        "--format",
        choices=FORMATS,
        default="records",
        help="records (default): all that was said; trl-paired: for TRL's DPO and reward trainers; "
        "trl-unpaired: for KTO; trl-ranked: rankings with ties, and the pairs in them",
    )
    take.add_argument(
        "--as",
        dest="container",
        choices=("jsonl", "parquet", "datasets"),
        default="jsonl",
        help="files of JSON lines (default), of Parquet, or folders for datasets.load_from_disk",
    )
    rank = command("rank", "Hand out first what is least certain.")
    rank.add_argument("campaign")
    rank.add_argument(
        "--by",
        required=True,
        metavar="RUN",
        help="a reward run: tasks whose responses it scores alike come first; or the word "
        "disagreement: those on which raters differ so far",
    )
    command("status", "How far every campaign is.")
    command("doctor", "Prove that the database holds together; exit 1 if it does not.")
    keep = command("backup", "Copy the database into a new file, while the server runs.")
    keep.add_argument("file", type=Path)
    back = command("restore", "Fill a new database, of either kind, from a backup.")
    back.add_argument("file", type=Path)
    return top


def _people(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """The commands about who may sign in."""
    user = command("add-user", "Add somebody who may sign in.")
    other = command("password", "Give somebody another password; their sessions end.")
    for sub in (user, other):
        sub.add_argument("name")
        sub.add_argument("--password-stdin", action="store_true", help="read it from stdin")
    role = user.add_mutually_exclusive_group()
    role.add_argument("--role", choices=ROLES, default="rater", help="default: rater")
    role.add_argument("--admin", action="store_const", const="admin", dest="role")
    token = command("token", "Make a token with which a program signs in as somebody.")
    token.add_argument("name")
    token.add_argument("--revoke", action="store_true", help="make all tokens of NAME useless")
    link = command("invite", "Make a link with which people make their own accounts.")
    link.add_argument("--role", choices=ROLES, default="rater", help="default: rater")
    link.add_argument("--uses", type=int, default=1, help="how many people (default: 1)")
    link.add_argument("--days", type=float, default=7.0, help="how long (default: 7)")
