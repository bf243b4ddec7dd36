"""A figure as a file: .svg, .png or .pdf by its ending, the same bytes for the same content."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.errors import HarnessError, writing
from harness.system.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENDINGS = (".svg", ".png", ".pdf")


@contextmanager
def saved_figure(out: Path, size_in: tuple[float, float]) -> Iterator[Figure]:
    """Yield an empty figure and save it after the block.

    Args:
        out: file to write; its ending is one of ENDINGS.
        size_in: width and height in inches.

    Raises:
        HarnessError: unknown ending, or matplotlib is missing.
        StoreError: the file cannot be written.
    """
    if out.suffix not in ENDINGS:
        raise HarnessError(f"{out}: a picture's name ends in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}")
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise HarnessError("pictures need matplotlib: pip install 'lm-harness[plot]'") from None
    # A fixed salt makes the ids in an SVG repeatable, and text stays text that can be searched.
    with matplotlib.rc_context({"svg.hashsalt": "harness", "svg.fonttype": "none"}):
        figure = Figure(figsize=size_in, layout="constrained")
        # Without pyplot there is no global state and no window.
        FigureCanvasAgg(figure)
        yield figure
        with writing(out), replacing(out) as partial:
            # The metadata holds a date under a different name in each format; without it the bytes are repeatable.
            dated = {".svg": "Date", ".pdf": "CreationDate"}.get(out.suffix)
            figure.savefig(partial, format=out.suffix[1:], metadata={dated: None} if dated else None, dpi=150)
