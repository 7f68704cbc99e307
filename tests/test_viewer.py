"""The pieces that pages are made of, in a real browser: blocks unpack, lists filter and step, curves have their colours."""

import ast
import hashlib
import itertools
import json
import re
from pathlib import Path

import pytest
from chromium import BINARY, REASON, Chromium

from slime_tau2.viewer import blocks, document, talk

ROOT = Path(__file__).parents[1]
browser = pytest.mark.skipif(BINARY is None, reason=REASON)
TEMPLATE = """{% extends "base.html" %}{% block title %}{{ title }}{% endblock %}
{% block body %}<h1>{{ title }}</h1><div id="list" style="height: 300px"></div><div id="chart"></div><div id="talk"></div>{% endblock %}"""
SCRIPT = """
window.opened = [];
(async () => {
  window.index = await Viewer.block("index");
  window.list = await Viewer.list(document.getElementById("list"), {
    columns: [{ title: "n", field: "n" }], rows: window.index.map((n) => ({ key: n, n })), open: (row) => window.opened.push(row.key) });
  window.chart = Viewer.chart(document.getElementById("chart"), { title: "a chart", x: "k", y: "%", curves:
    [0, 1].map((n) => ({ name: "run" + n, colour: n, points: [[1, 10 + n], [2, 20 + n]], band: [[5, 15], [15, 25]] })) });
  window.ready = true;
})();
"""
ODD = 'half a pair \ud83d, <script>window.pwned = 1</script></script>, "quotes" and ünïcode'


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    directory = tmp_path_factory.mktemp("page")
    (directory / "page.html").write_text(TEMPLATE)
    (directory / "page.js").write_text(SCRIPT)
    html = document.render(
        directory / "page.html",
        values={"title": "A <b>page</b>"},
        scripts=[directory / "page.js"],
        first={"index": list(range(5000))},
        later={f"b{n}": [n, ODD] for n in range(30)},
    )
    (directory / "out.html").write_text(html, encoding="utf-8")
    return directory / "out.html"


def test_the_libraries_are_those_that_their_list_says():
    rows = re.findall(r"^\| `([\w.]+)` .*\| (\w{64}) \|$", (document.VENDOR / "README.md").read_text(), re.MULTILINE)
    assert {name for name, _ in rows} == {
        f.name for f in document.VENDOR.iterdir() if f.suffix in (".js", ".css")
    } and len(rows) == 4
    for name, digest in rows:
        assert hashlib.sha256((document.VENDOR / name).read_bytes()).hexdigest() == digest, name
    assert "MIT License" in (document.VENDOR / "tabulator.LICENSE").read_text()


def test_a_block_has_each_long_text_once_and_keeps_groups_together():
    said = {"role": "user", "by": "user", "text": "x" * 60, "calls": [], "error": False}
    packed = talk.block([{"messages": [said, {**said, "text": "yes"}], "checks": [], "faults": [], "facts": []}] * 2)
    assert packed["texts"] == ["x" * 60]
    assert [[m["text"] for m in t["messages"]] for t in packed["talks"]] == [[0, "yes"]] * 2
    big = ["y" * (blocks.ENOUGH // 2 + 1)] * 3
    assert [len(block) for block in blocks.in_blocks([big, ["z"], ["z"]])] == [3, 2]


def test_a_script_that_would_end_its_element_is_refused(tmp_path):
    (tmp_path / "evil.js").write_text("'</script>'")
    with pytest.raises(ValueError, match="cannot stand inside a page"):
        document._script(tmp_path / "evil.js")


def test_runs_have_colours_that_differ():
    css = (document.HERE / "base.css").read_text()
    themes = [
        dict(re.findall(r"--(run\d+): #(\w{6})", part)) for part in css.split("@media (prefers-color-scheme: dark)")[:2]
    ]
    for theme in themes:
        values = [[int(hex_[i : i + 2], 16) for i in (0, 2, 4)] for hex_ in theme.values()]
        assert len(values) == 12
        for a, b in itertools.combinations(values, 2):
            assert sum((x - y) ** 2 for x, y in zip(a, b)) ** 0.5 > 40, (a, b)


def test_whatever_is_no_code_is_in_the_wheel():
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    globs = ast.literal_eval(re.search(r"package_data=\{\s*\"slime_tau2\": (\[.*?\])", setup, re.DOTALL)[1])
    package = ROOT / "slime_tau2"
    inside = {file for glob in globs for file in package.glob(glob)}
    here = {f for f in package.rglob("*") if f.is_file() and f.suffix not in (".py", ".pyc")}
    assert here and not {str(f) for f in here - inside}
    assert {document.HERE / name for name in (*document.PIECES, "base.css", "base.html")} <= inside


@browser
async def test_blocks_lists_and_curves(path, tmp_path):
    async with Chromium(tmp_path / "profile") as chrome:
        await chrome.open(path)
        await chrome.until("window.ready")
        assert await chrome.run("document.title") == "A <b>page</b>"
        assert await chrome.run("Viewer.block('b29').then(b => b[1])") == ODD.replace("\ud83d", "?")
        assert (
            await chrome.run(
                "Promise.all([...Array(30).keys()].map(n => Viewer.block('b' + n))).then(all => all.length)"
            )
            == 30
        )
        assert await chrome.run("Viewer.block('b30').catch(e => e.message)") == "the page has no block b30"
        assert await chrome.run("window.pwned") is None
        assert await chrome.run("document.querySelectorAll('#list .tabulator-row').length") < 100, "only what is seen"
        await chrome.run("window.list.filter(row => row.n % 2)")
        assert await chrome.run("window.list.shown().length") == 2500
        await chrome.run("window.list.step(1), window.list.step(1), window.list.step(1e9)")
        assert await chrome.run("window.opened") == [1, 3, 4999]
        assert await chrome.run("document.querySelectorAll('#chart canvas').length") == 1
        legend = "[...document.querySelectorAll('#chart .u-series')].filter(s => s.offsetParent).map(s => s.textContent.split(':')[0])"
        assert "run0" in str(await chrome.run(legend)) and len(await chrome.run(legend)) == 3, "bands have no entry"
        below = "document.querySelector('#chart .u-legend').getBoundingClientRect().top >= document.querySelector('#chart canvas').getBoundingClientRect().bottom - 1"
        assert await chrome.run(below), "the legend covers nothing"
        await chrome.run("window.chart.show(new Set(['run1']))")
        assert [u for u in chrome.requests if not u.startswith(("file:", "blob:", "data:"))] == [], "no network"


TALK = {
    "messages": [
        {"role": "user", "by": "user", "text": 0, "calls": [], "error": False},
        {
            "role": "assistant",
            "by": "assistant",
            "text": ODD,
            "calls": [{"name": "refund", "arguments": {"n": 1}, "gain": 0.25, "wrong": "", "advantage": -1.5}],
            "error": False,
            "thought": "what to do?",
            "turn": {
                "index": 0,
                "partial": 0.5,
                "gain": -0.25,
                "malformed": 2,
                "advantage": 1.25,
                "notes": ["ended by length"],
                "tokens": {
                    "text": ["a", "b"],
                    "sampler": [-0.5, -1.0],
                    "trainer": [-0.4, -2.0],
                    "advantage": [1.0, -1.0],
                },
            },
        },
    ],
    "checks": [{"met": False, "kind": "told", "what": "5", "counts": True, "at": 1}],
    "faults": [],
    "facts": [["ended", "user_stop"]],
    "database": {"total": 1, "counts": True, "places": [{"where": "x", "found": None, "wanted": "1"}]},
}


@browser
async def test_a_conversation_shows_whatever_is_known_of_its_turns_calls_and_tokens(path, tmp_path):
    async with Chromium(tmp_path / "profile") as chrome:
        await chrome.open(path)
        await chrome.until("window.ready")
        await chrome.run(f"window.talk = {json.dumps(TALK)}")
        show = "(shade => {{ const v = Viewer.talk(window.talk, ['hello there'], {{ shade, link: t => '#' + t }}); document.getElementById('talk').replaceChildren(v.messages, v.checks, v.database, v.facts); return v.messages.textContent; }})({})"
        seen = await chrome.run(show.format("''"))
        for words in (
            "hello there",
            ODD.replace("\ud83d", "\ufffd"),
            "what to do?",
            "gain −0.25",
            "advantage +1.25",
            "2 malformed",
            "ended by length",
            "gain +0.25",
            "advantage −1.50",
        ):
            assert words in seen.replace("\ud83d", "\ufffd"), words
        assert await chrome.run("document.querySelector('#talk .who a').getAttribute('href')") == "#0"
        colours = {}
        for shade in ("sampler", "trainer", "ratio", "advantage"):
            await chrome.run(show.format(f"'{shade}'"))
            tokens = "[...document.querySelectorAll('#talk .token')]"
            assert await chrome.run(f"{tokens}.map(t => t.textContent)") == ["a", "b"]
            colours[shade] = tuple(await chrome.run(f"{tokens}.map(t => t.style.background)"))
        assert len(set(colours.values())) == 4, "each shades otherwise"
        assert "--good" in colours["advantage"][0] and "--bad" in colours["advantage"][1]
        title = await chrome.run("document.querySelector('#talk .token').title")
        assert title == "log-prob -0.5, trainer's -0.4, advantage 1"
        assert "(nothing)" in await chrome.run("document.querySelector('#talk .differs').textContent")
        await chrome.run("document.querySelector('#talk .checks button').click()")
        assert await chrome.run("document.querySelectorAll('#talk .message.at.assistant').length") == 1
