"""Altair charts as SVG for a page, and as files. Charts are drawn when a page is built: it needs no script for them.

Vega in the page would compile expressions, which a strict content security policy forbids, or interpret them by a
bundle of a megabyte. A drawn SVG needs neither, prints, and is there at once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any, TypeAlias

import altair as alt
import vl_convert
from markupsafe import Markup

from harness.core.errors import HarnessError, writing
from harness.system.files import write_atomic

# A value by the name of its field, as Vega takes the points of a chart.
Datum: TypeAlias = dict[str, Any]

ENDINGS = (".svg", ".pdf", ".png")
# Visible on white and on black: at least 3:1 against both.
COLOURS = ("#3a7fc8", "#d1702f", "#3c9a63", "#b35aa8", "#8a78d8", "#a88a1c", "#cf5656", "#3d9aa3", "#7d8590", "#a8735a")
INK, GRID = "currentColor", "#8884"
# What a file for a paper has instead.
_PRINT = {INK: "#1a1a1a", GRID: "#e3e3e3"}
_PNG_SCALE = 2
_MARGINS = {"left": 64, "right": 16, "top": 12, "bottom": 44}
# Measuring texts takes half of the time of a small chart, and a text of size 0 is not measured: the page's style gives
# it one. Labels are moved by what their size would have moved them, and titles are where the margins have room.
_UNMEASURED: dict[str, Any] = {
    "axis": {"labelFontSize": 0, "titleFontSize": 0, "labelLimit": 0, "titleLimit": 0},
    "axisX": {"tickCount": 7, "labelFlush": False, "labelPadding": 14, "titleY": 36},
    "axisY": {"tickCount": 5, "labelOffset": 3, "titleX": -46},
}
_MOST_KEPT = 1024

_CONFIG: dict[str, Any] = {
    "background": None,
    "font": "sans-serif",
    # Fonts of a reader may be wider than the one that was measured here.
    "padding": {"left": 24, "right": 16, "top": 6, "bottom": 6},
    "view": {"stroke": None},
    "axis": {
        "labelColor": INK, "titleColor": INK, "gridColor": GRID,
        "labelFontSize": 11, "titleFontSize": 11, "titleFontWeight": "normal", "titlePadding": 8, "labelPadding": 5,
        "labelLimit": 240, "ticks": False, "domain": False,
    },
    "axisX": {"tickCount": 7, "labelFlush": False},
    "axisY": {"tickCount": 5},
    "legend": {"labelColor": INK, "titleColor": INK, "labelFontSize": 11, "labelLimit": 260, "symbolLimit": 12,
               "orient": "top", "columns": 4, "columnPadding": 28, "offset": 10, "title": None, "symbolType": "circle",
               "symbolStrokeWidth": 0, "symbolOpacity": 1},
    "header": {"labelColor": INK, "titleColor": INK},
    "title": {"color": INK, "fontSize": 12, "fontWeight": "normal", "anchor": "start", "offset": 8},
    "text": {"color": INK, "fontSize": 11},
    "rule": {"color": INK},
    "range": {"category": list(COLOURS)},
}  # fmt: skip

_NUMBER = re.compile(r"-?\d+\.\d{2,}")
# What the style of the page says of every chart.
_STYLED = re.compile(
    r' font-family="sans-serif"| font-size="(?:11|0)px"|(?<=") fill="currentColor"(?=>)'
    r'| stroke="#8884"(?: stroke-width="1")?'
)
_CLASS = re.compile(r' class="(?!marks"|[^"]*(?:role-axis-grid|target_marks))[^"]*"')
_GEOMETRY = re.compile(r' (?:d|transform|x2|y2|x1|y1|width|height)="[^"]*"')
_TIP = re.compile(r' role="graphics-symbol" aria-roledescription="[^"]*" aria-label="([^"]*)"')
_ARIA = re.compile(r' (?:role|aria-[a-z]+|pointer-events|stroke-miterlimit)="[^"]*"| opacity="1"')
_EMPTY = re.compile(r'<path class="(?:foreground|background)" d="[^"]*"(?: display="none")?/>')
_OPEN = re.compile(r"<svg[^>]*?width=\"([\d.]+)\" height=\"([\d.]+)\"[^>]*>")

Spec = dict[str, Any]


def spec_of(chart: alt.TopLevelMixin) -> Spec:
    """The Vega-Lite of a chart, with the look of the page."""
    # Rows of data were kept from Altair, which would copy them.
    spec: Spec = json.loads(json.dumps(chart.to_dict(validate=False), default=lambda rows: rows.to_dict()))
    # Altair's own look would come back under the keys that this one leaves out.
    return {**spec, "config": _CONFIG}


class Stencil:
    """A chart that is compiled once and drawn with other data, which is most of the time of many small charts.

    Args:
        chart: whose datasets are replaced by name.
        height: of all of it, without its margins.
    """

    def __init__(self, chart: alt.TopLevelMixin, height: int) -> None:
        vega = vl_convert.vegalite_to_vega(spec_of(chart))
        config = {**vega["config"], **_UNMEASURED, "axis": {**vega["config"]["axis"], **_UNMEASURED["axis"]}}
        # Margins that are known need no second layout, which takes half of the time.
        known = {"height": height, "autosize": {"type": "none"}, "padding": _MARGINS}
        self.vega = {**vega, **known, "config": config}

    def svg(self, label: str, **datasets: Sequence[Datum]) -> Markup:
        """Draw the chart with these datasets. As `svg` otherwise."""
        named = [
            {**each, "values": datasets[each["name"]]} if each["name"] in datasets else each
            for each in self.vega["data"]
        ]
        return _for_page(_from_vega(json.dumps({**self.vega, "data": named})), label)


def svg(spec: Spec, label: str) -> Markup:
    """Draw a chart for a page.

    Args:
        spec: of `spec_of`.
        label: what a screen reader says instead.

    Returns:
        An SVG that scales to the width of its place and takes the colour of the text around it. What a mark says as its
        `description` is in `data-tip`.
    """
    return _for_page(_from_vega_lite(json.dumps(spec)), label)


# A page that is kept current draws only what is new in it.
@lru_cache(maxsize=_MOST_KEPT)
def _from_vega(spec: str) -> str:
    return vl_convert.vega_to_svg(spec)


@lru_cache(maxsize=_MOST_KEPT)
def _from_vega_lite(spec: str) -> str:
    return vl_convert.vegalite_to_svg(spec)


def write(spec: Spec, out: Path) -> None:
    """Write a chart for a paper, in dark ink.

    Args:
        spec: of `spec_of`.
        out: a name that ends in one of ENDINGS.

    Raises:
        HarnessError: unknown ending.
        StoreError: the file cannot be written.
    """
    text = json.dumps({**spec, "config": {**spec["config"], "background": "white"}})
    for name, colour in _PRINT.items():
        text = text.replace(json.dumps(name), json.dumps(colour))
    if out.suffix == ".svg":
        content: str | bytes = vl_convert.vegalite_to_svg(text)
    elif out.suffix == ".pdf":
        content = vl_convert.vegalite_to_pdf(text)
    elif out.suffix == ".png":
        content = vl_convert.vegalite_to_png(text, scale=_PNG_SCALE)
    else:
        raise HarnessError(f"{out}: a figure's name ends in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}")
    with writing(out):
        write_atomic(out, content)


def _for_page(text: str, label: str) -> Markup:
    text = _TIP.sub(lambda match: f' data-tip="{match[1]}"' if match[1].startswith(TIP) else "", text)
    text = _CLASS.sub("", _STYLED.sub("", _EMPTY.sub("", _ARIA.sub("", text))))
    # A tenth of a pixel is enough, and halves the size. Texts are no attributes.
    text = _GEOMETRY.sub(lambda match: _NUMBER.sub(lambda number: f"{float(number[0]):.1f}", match[0]), text)
    text = text.replace(f'data-tip="{TIP}', 'data-tip="')
    match = _OPEN.search(text)
    width, height = match.groups() if match else ("1", "1")
    start = (
        f'<svg class="drawn" width="{width}" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">'
    )
    # Vega escapes what it draws.
    return Markup(start + text[match.end() if match else 0 :])


# Begins the description of a mark that shows it when the pointer is above; others have Vega's own.
TIP = "\N{WORD JOINER}"
