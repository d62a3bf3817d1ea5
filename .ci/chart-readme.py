#!/usr/bin/env python3
"""Prints the README of the chart CHART with its table of values, made from the comments in values.yaml.

Each value has its description in the comment line right above it. A key without a value is a group.
"""

import pathlib
import re
import sys

if len(sys.argv) != 2:
    sys.exit("usage: chart-readme.py CHART")
chart = pathlib.Path(__file__).parent.parent / "charts" / sys.argv[1]
table = ["| value | default | description |", "|---|---|---|"]
groups: list[str] = []
description = ""
for number, line in enumerate((chart / "values.yaml").read_text().splitlines(), 1):
    indent = len(line) - len(line.lstrip())
    text = line.strip()
    if text.startswith("# "):
        description = text[2:]
        continue
    if not text:
        continue
    match = re.fullmatch(r"(\w+):(?: (.+))?", text)
    if not match:
        sys.exit(f"{chart}/values.yaml:{number}: write one `name: value` a line, lists and maps in flow style")
    name, default = match.groups()
    groups = groups[: indent // 2] + [name]
    if default is None:
        continue
    if not description:
        sys.exit(f"{chart}/values.yaml:{number}: describe {name} in a comment line above it")
    table.append(f"| `{'.'.join(groups)}` | `{default}` | {description} |")
    description = ""

readme = (chart / "README.md").read_text()
print(readme.split("\n| value |")[0].rstrip("\n") + "\n\n" + "\n".join(table))
