"""Twelve ways in which a file can be broken."""

import json
import zlib


def scalars(change):
    """Rewrites each scalar of the JSON in a file, line by line where it has one object a line."""

    def rewrite(path):
        def walk(value):
            if isinstance(value, dict):
                return {k: walk(v) for k, v in value.items()}
            return [walk(v) for v in value] if isinstance(value, list) else change(value)

        text = path.read_text(encoding="utf-8")
        if path.suffix == ".jsonl":
            path.write_text("".join(json.dumps(walk(json.loads(line))) + "\n" for line in text.splitlines()))
        else:
            path.write_text(json.dumps(walk(json.loads(text))))

    return rewrite


def older(path):
    """As a version wrote it that knew fewer fields."""

    def fewer(found):
        return {k: v for n, (k, v) in enumerate(sorted(found.items())) if n % 2}

    text = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(fewer(json.loads(line))) + "\n" for line in text.splitlines()))
    else:
        path.write_text(json.dumps(fewer(json.loads(text))))


def folder(path):
    path.unlink()
    path.mkdir()


KINDS = {
    "absent": lambda p: p.unlink(),
    "empty": lambda p: p.write_bytes(b""),
    "a folder": folder,
    "UTF-16": lambda p: p.write_bytes("{}".encode("utf-16")),
    "Latin-1": lambda p: p.write_bytes(b'{"a": "caf\xe9"}\n'),
    "binary": lambda p: p.write_bytes(b"\x1f\x8b" + zlib.compress(b"x" * 1000)),
    "truncated": lambda p: p.write_bytes(p.read_bytes()[: p.stat().st_size * 3 // 5]),
    "a list": lambda p: p.write_bytes(b"[1, 2]\n"),
    "foreign": lambda p: p.write_bytes(b'{"a": 1}\n'),
    "older": older,
    "other types": scalars(lambda v: v if v is None else [v]),
    "too deep": lambda p: p.write_bytes(b"[" * 200_000 + b"\n"),
}
