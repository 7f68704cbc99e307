"""The words of the pages: sentences of a length that is read at once, and no name that a reader meets unexplained.

How words are counted. Blocks of code, tables, headings and pictures are left out. Inline code is one word, a link is its
text, and a word is what stands between spaces and holds a letter or a digit. A sentence ends at `.`, `!` or `?` before a
space, and where its paragraph or its point of a list ends; what has fewer than three words is none.

How names are looked for. Of README, the first place outside code that has a name must explain it: the name is the text
of a link, or it stands in bold at the head of a line of the table of names, or in brackets behind its long form, or with
its explanation in brackets behind it.
"""

import re
from itertools import chain

import pytest
from documented import NAMES, PAGES, ROOT

WORDS_ON_AVERAGE = 18
WORDS_AT_MOST = 35
READ = [page for page in PAGES if page.name != "CHANGELOG.md"]
CARD = "https://huggingface.co/Jarrodbarnes/Qwen3-4B-tau2-grpo-v1"
TERMS = ("SFT", "RFT", "GRPO", "pass@k", "pass^k", "TIS", "card", "delta", "ledger", "shaping", "curriculum", "rollout")


def prose(text):
    """Paragraphs and points of lists, each as one line; inline code is the word X."""
    text = re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^\s*(\||#|!\[).*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"`[^`]*`", "X", text)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    for block in re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.)\s)", text):
        point = re.sub(r"^\s*([-*]|\d+\.)\s", "", block)
        if point.strip():
            yield " ".join(point.split())


def sentences(text):
    """(words, sentence) of each sentence of a page."""
    for block in prose(text):
        for sentence in re.split(r"(?<!e\.g)(?<!i\.e)(?<!et al)(?<=[.!?])[)\"*]*\s+", block):
            words = [word for word in sentence.split() if re.search(r"\w", word)]
            if len(words) > 2:
                yield len(words), sentence


def without_code(text):
    return re.sub(r"`[^`\n]*`", "X", re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE))


def first_use(text, term):
    """Where a page first has a name, or None; names are whole words, their plural too."""
    return re.search(rf"(?<![\w.^@/-]){re.escape(term)}s?(?!\w)", without_code(text))


def explains(text, found):
    """Whether the place explains the name: see above."""
    text = without_code(text)
    before, after = text[: found.start()], text[found.end() :]
    link = before.rfind("[") > before.rfind("]") and re.match(r"[^\[\]]*\]\(", after)
    row = before.rpartition("\n")[2] == "| **" and after.startswith("** |")
    return bool(link or row or (before.endswith("(") and re.match(r"[,)]", after)) or after.startswith(" ("))


@pytest.mark.parametrize("page", READ, ids=NAMES)
def test_no_sentence_is_too_long(page):
    too_long = [f"{n}: {s}" for n, s in sentences(page.read_text(encoding="utf-8")) if n > WORDS_AT_MOST]
    assert not too_long, f"{page.name}: split these\n" + "\n".join(too_long)


@pytest.mark.parametrize("page", READ, ids=NAMES)
def test_sentences_are_short_on_average(page):
    counts = [n for n, _ in sentences(page.read_text(encoding="utf-8"))]
    assert sum(counts) / len(counts) <= WORDS_ON_AVERAGE, (
        f"{page.name}: {sum(counts) / len(counts):.1f} words a sentence"
    )


@pytest.mark.parametrize("page", READ, ids=NAMES)
def test_the_card_is_introduced_before_it_is_named(page):
    """Wherever a page says "card", the model that it is of was linked before, or is the link's own text."""
    text = re.sub(r"\]\((?!https://huggingface)[^)]*\)", "]", page.read_text(encoding="utf-8"))
    found = re.search(r"(?i)\bcards?\b", without_code(text))
    assert found is None or CARD in without_code(text)[: found.end() + len(CARD) + 3], (
        f"{page.name}: link the card first"
    )


@pytest.mark.parametrize("term", TERMS)
def test_the_readme_explains_a_name_where_it_first_has_it(term):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = first_use(text, term)
    assert found is None or explains(text, found), (
        f"explain {term}: …{without_code(text)[found.start() - 60 : found.end() + 30]}"
    )


def test_the_checks_can_fail():
    long = "word " * 36 + "end. Next one is short.\n\n* a point that has no full stop\n* `one word` of [a link](x.md)"
    assert [n for n, _ in sentences(long)] == [37, 4, 7, 4]
    assert not list(
        chain(sentences("# A heading of four words\n\n| a | table row of words |\n```\nsome code in here\n```\n"))
    )
    assert not explains("It does GRPO.", first_use("It does GRPO.", "GRPO"))
    for text in (
        "[GRPO](x)",
        "optimization (GRPO)",
        "| **GRPO** | a method |",
        "GRPO (group-relative policy optimization)",
    ):
        assert explains(text, first_use(text, "GRPO")), text
