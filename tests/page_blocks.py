"""What stands in the blocks of a page, without a browser."""

import base64
import gzip
import json
import re


def block(path, name):
    """The data of one block of a page."""
    [packed] = re.findall(rf'data-block="{re.escape(name)}">([^<]+)<', path.read_text(encoding="utf-8"))
    return json.loads(gzip.decompress(base64.b64decode(packed)))
