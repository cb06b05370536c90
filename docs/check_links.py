"""Check the links of the built site: python docs/check_links.py FOLDER.

Every link and picture that points into the site must be there, with its anchor. What leads to
other hosts is not fetched. Ends with status 1 for a broken link, and for a site without links.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The anchors of one page, and what it points at."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.targets: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value is None:
                continue
            if name in ("id", "name"):
                self.anchors.add(value)
            elif name in ("href", "src"):
                self.targets.append(value)


def broken_links(site: Path) -> tuple[int, list[str]]:
    """How many links point into the site, and one line for each that leads nowhere."""
    pages = {path: Page(path) for path in sorted(site.rglob("*.html"))}
    checked, broken = 0, []
    for path, page in pages.items():
        for target in page.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            checked += 1
            found = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if found.is_dir():
                found /= "index.html"
            anchors = pages[found].anchors if found in pages else None
            missing = anchors is not None and parts.fragment and parts.fragment not in anchors
            if not found.is_file() or missing:
                broken.append(f"{path.relative_to(site)}: {target}")
    return checked, broken


def main() -> int:
    site = Path(sys.argv[1]).resolve()
    checked, broken = broken_links(site)
    print(f"{checked} links inside the site, {len(broken)} of them broken")
    print("".join(f"  {line}\n" for line in broken), end="")
    return 0 if checked and not broken else 1


if __name__ == "__main__":
    sys.exit(main())
