"""HTML from templates. Text of records is escaped; a policy lets the page run its own script and nothing else."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from functools import cache
from hashlib import sha256
from typing import Any

import jinja2
from markupsafe import Markup, escape

from harness.core.messages import cut
from harness.report.columns import three_digits, value_text
from harness.report.page.boards import unit_text
from harness.report.page.pairs import describe


@cache
def environment() -> jinja2.Environment:
    """The templates, with autoescape on."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("harness.report.page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "cut": lambda text, most=160: cut(str(text), most),
        "three": three_digits,
        "value": value_text,
        "json": json_block,
        "stretches": describe,
        "unit": unit_text,
        "code": _code,
    }
    made.globals |= {
        "style": Markup(_asset("style.css")),
        "script": Markup(_asset("page.js")),
        "tables": Markup(_asset("index.js")),
        "policy": policy(),
    }
    return made


def page(template: str, **values: Any) -> str:
    """Render a template."""
    return environment().get_template(template).render(**values)


def _code(text: str) -> Markup:
    """Text with what is between backticks as code."""
    return Markup(re.sub("`([^`]*)`", r"<code>\1</code>", str(escape(text))))


def policy() -> str:
    """The content security policy: nothing but the style and the scripts that the page holds, named by their hashes."""
    scripts = " ".join(f"'{_hash(name)}'" for name in ("page.js", "index.js"))
    return (
        f"default-src 'none'; style-src '{_hash('style.css')}'; script-src {scripts}; "
        "base-uri 'none'; form-action 'none'"
    )


def json_block(value: Any) -> Markup:
    """JSON for a script element of type application/json: nothing in it can end the element. NaN becomes null."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


@cache
def _asset(name: str) -> str:
    loader = jinja2.PackageLoader("harness.report.page")
    # The browser hashes the text between the tags.
    return loader.get_source(jinja2.Environment(autoescape=True), name)[0].replace("\r\n", "\n").strip()


def _hash(name: str) -> str:
    return f"sha256-{b64encode(sha256(_asset(name).encode()).digest()).decode()}"
