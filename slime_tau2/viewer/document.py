"""A page as one file: styles, libraries, pieces of the viewer and data inside it; its policy forbids the network."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup

from slime_tau2.errors import ConfigError
from slime_tau2.viewer import blocks

HERE = Path(__file__).parent
VENDOR = HERE / "vendor"
LIBRARIES = ("tabulator.min", "uplot.min")
PIECES = ("blocks.js", "list.js", "charts.js", "talk.js")


def check_target(path: Path) -> None:
    """Raises ConfigError where a page would replace what is no page."""
    if path.exists() and (path.is_dir() or not path.read_bytes()[:20].lower().startswith(b"<!doctype html>")):
        raise ConfigError(f"{path} exists and is no page; name another --output")


def render(
    template: Path,
    *,
    values: Mapping[str, object],
    scripts: Sequence[Path],
    first: Mapping[str, object],
    later: Mapping[str, object],
) -> str:
    """A page.

    Args:
        template: extends `base.html`; what it says with `{{ … }}` is escaped.
        values: what the template names.
        scripts: the page's own, run in order once the viewer's are there.
        first: {name: data} of the blocks that those need at once.
        later: those that are unpacked when they are looked at. The page works before they are loaded.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, HERE]), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template(template.name).render(
        **values,
        libraries=Markup("\n").join(_script(VENDOR / f"{name}.js") for name in LIBRARIES),
        library_styles=Markup("\n").join(_text(VENDOR / f"{name}.css") for name in LIBRARIES),
        pieces=Markup("\n").join(_script(HERE / name) for name in PIECES),
        styles=_text(HERE / "base.css"),
        scripts=Markup("\n").join(_script(path) for path in scripts),
        first=blocks.tags(first),
        later=blocks.tags(later),
    )


def _script(path: Path) -> Markup:
    return Markup("<script>{}</script>").format(_text(path))


def _text(path: Path) -> Markup:
    """A file of ours, as it is: it may not end the element that it stands in, nor name a map that is not there."""
    text = re.sub(r"(//|/\*)# sourceMappingURL=\S+( \*/)?", "", path.read_text(encoding="utf-8"))
    if re.search(r"</(script|style)", text, re.IGNORECASE):
        raise ValueError(f"{path} cannot stand inside a page")
    return Markup(text)
