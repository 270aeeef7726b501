"""The time from a key to the next item on the screen, of one rater in Chromium.

    PYTHONPATH=. python tests/benchmarks/label_browser.py WORK [--tasks 1000] [--votes 200]

WORK takes the database. Prints one JSON object. An item counts as painted when the frame after the
one that drew it begins.
"""

import argparse
import json
import sys
from contextlib import closing
from pathlib import Path
from statistics import median

from playwright.sync_api import Page, sync_playwright

from labeling_ui.accounts.users import Accounts
from labeling_ui.campaigns.service import Campaigns
from labeling_ui.campaigns.tasks import Settings, Task
from labeling_ui.db.store import Store
from tests.benchmarks.label_load import ENVIRONMENT, SECRET, made
from tests.load import Served

_WATCH = """
window.times = [];
let pressed = 0;
document.addEventListener("keydown", () => { pressed = performance.now(); }, true);
const painted = (then) => requestAnimationFrame(() => requestAnimationFrame(then));
new MutationObserver(() => painted(() => window.times.push(performance.now() - pressed)))
  .observe(document.querySelector(".rl-rate"), { attributeFilter: ["data-assignment"] });
"""


def timed(page: Page, votes: int) -> list[float]:
    """Milliseconds, vote by vote."""
    page.evaluate(_WATCH)
    for number in range(votes):
        page.keyboard.press("120b"[number % 4])
        page.wait_for_function(f"window.times.length > {number}")
    return page.evaluate("window.times")


def main() -> None:
    """Fill a database, serve it, and vote."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--votes", type=int, default=200)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    database = given.work / "browser.db"
    with closing(Store(database)) as store:
        Accounts(store, SECRET).add("ann", "correct horse", "rater")
        tasks = map(Task.of, made(given.tasks))
        Campaigns(store).add("timed", tasks, settings=Settings(overlap=3))
    with Served(str(database), ENVIRONMENT) as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(f"{server.url}/rate/")
        page.fill("#name", "ann")
        page.fill("#password", "correct horse")
        page.keyboard.press("Enter")
        page.wait_for_selector("[data-state=ready]")
        times = sorted(timed(page, given.votes))
        version = browser.version
        browser.close()
    facts = {
        "benchmark": "label browser",
        "chromium": version,
        "votes": len(times),
        "p50_ms": round(median(times), 1),
        "p95_ms": round(times[int(0.95 * len(times))], 1),
    }
    json.dump(facts, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
