"""What axe, the checker of accessibility, finds on a page."""

from typing import Any

from axe_playwright_python.sync_playwright import Axe


def violations(tab: Any) -> list[str]:
    """The serious and the critical, one for each element."""
    found = Axe().run(tab).response["violations"]
    return [
        f"{one['id']}: {node['html'][:120]}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
