#!/usr/bin/env python3
"""Checks that no page has a dead link: files, anchors, and the table of contents of the book."""

import pathlib
import re
import subprocess
import sys

root = pathlib.Path(__file__).parent.parent
names = subprocess.run(["git", "ls-files", "*.md"], cwd=root, check=True, capture_output=True, text=True).stdout
pages = [root / name for name in names.split()]


def prose(page):
    """The page without its code blocks."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page):
    """The anchors that GitHub and mdBook give the headings of the page."""
    headings = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


dead = []
for page in pages:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists():
            dead.append(f"{page.relative_to(root)}: {target} does not exist")
        elif anchor and anchor not in anchors(file):
            dead.append(f"{page.relative_to(root)}: {target} has no such heading")

contents = root / "docs" / "SUMMARY.md"
listed = set(re.findall(r"\]\(([^)]+)\)", contents.read_text()))
for page in pages:
    if page.is_relative_to(contents.parent) and page != contents:
        name = page.relative_to(contents.parent).as_posix()
        if name not in listed:
            dead.append(f"docs/SUMMARY.md does not list {name}")
sys.exit("\n".join(dead) or 0)
