"""Prints how much pip would download for the given requirements, e.g. `2.70 GB in 21 packages`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from typing import Any

TIMEOUT_S = 20


def packages(requirements: list[str]) -> list[dict[str, Any]]:
    """What pip would install, as its report has it."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed", "--report", "-"]
    report = subprocess.run([*command, *requirements], capture_output=True, text=True, check=True).stdout
    install: list[dict[str, Any]] = json.loads(report)["install"]
    return install


def size(url: str) -> int:
    """Bytes of a file; 0 where its server does not say."""
    if url.startswith("file:"):
        return os.path.getsize(urllib.request.url2pathname(url.removeprefix("file://")))
    request = urllib.request.Request(url, method="HEAD")
    return int(urllib.request.urlopen(request, timeout=TIMEOUT_S).headers.get("Content-Length") or 0)


def main(requirements: list[str]) -> None:
    needed = packages(requirements)
    total = sum(size(package["download_info"]["url"]) for package in needed)
    print(f"{total / 1e9:.2f} GB in {len(needed)} packages")


if __name__ == "__main__":
    main(sys.argv[1:])
