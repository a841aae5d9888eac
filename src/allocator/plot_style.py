"""How every plot looks: its colours of ink, and what makes its bytes the same each time. Pure."""

from __future__ import annotations

INK, QUIET = "#222222", "#767676"
STYLE = {
    "svg.hashsalt": "allocator",
    "font.size": 9.0,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
}
