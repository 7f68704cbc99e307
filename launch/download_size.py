"""Prints how much pip would download for the given requirements, e.g. `2.7 GB in 21 packages`."""

import json
import subprocess
import sys
import urllib.request

report = subprocess.run(
    [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--dry-run",
        "--quiet",
        "--ignore-installed",
        "--report",
        "-",
        *sys.argv[1:],
    ],
    capture_output=True,
    text=True,
    check=True,
).stdout
packages = json.loads(report)["install"]
total = 0
for package in packages:
    url = package["download_info"]["url"]
    if url.startswith("file:"):
        import os

        total += os.path.getsize(urllib.request.url2pathname(url.removeprefix("file://")))
    else:
        request = urllib.request.Request(url, method="HEAD")
        total += int(urllib.request.urlopen(request, timeout=20).headers.get("Content-Length") or 0)
print(f"{total / 1e9:.2f} GB in {len(packages)} packages")
