"""The curves of `scale.py` as one picture: waits by the length of a log, rates by the number of clients."""

from __future__ import annotations

from pathlib import Path

from allocator.plot_style import INK, QUIET, STYLE

BLUE, ORANGE = "#0072B2", "#D55E00"  # Okabe & Ito (2008), as in the other plots
RATES = (
    ("ours-fifty", "fifty studies", BLUE, "-"),
    ("pgbench-fifty", "fifty, pgbench", BLUE, ":"),
    ("ours-one", "one study", ORANGE, "-"),
    ("pgbench-one", "one, pgbench", ORANGE, ":"),
)


def draw(curves: dict[str, list[tuple[float, float]]], target: Path) -> None:
    """Write the picture; the same curves give the same bytes."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({**STYLE, "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure = Figure(figsize=(7.6, 3.0), layout="constrained")
        waits, rates = figure.subplots(1, 2)
        for name, label, colour in (
            ("reveal", "reveal, by the service", BLUE),
            ("append", "append, by the store", ORANGE),
        ):
            points = [(size, 1000 * wait) for size, wait in curves[name]]
            waits.plot(*zip(*points, strict=True), color=colour, marker="o", markersize=3, linewidth=1.4)
            waits.annotate(label, points[-1], (0, 7), textcoords="offset points", color=colour, fontsize=8, ha="right")
        waits.set(xscale="log", xlabel="records in the study", ylabel="median wait, ms", title="One study grows")
        waits.set_ylim(0, max(1000 * wait for _, wait in curves["reveal"] + curves["append"]) * 1.25)
        for name, label, colour, line in RATES:
            if points := curves.get(name, []):
                rates.plot(*zip(*points, strict=True), color=colour, linestyle=line, linewidth=1.4, label=label)
        rates.set_xscale("log", base=2)
        clients = [clients for clients, _ in curves["ours-one"]]
        rates.set_xticks(clients, [f"{count:.0f}" for count in clients])
        rates.set(xlabel="clients at once", ylabel="appends a second", title="Clients at once")
        rates.set_ylim(0, rates.get_ylim()[1] * 1.3)  # room for the legend
        rates.legend(frameon=False, fontsize=8, ncols=2, loc="upper left")
        for axes in (waits, rates):
            axes.minorticks_off()
            axes.title.set(fontsize=9, color=INK)
            axes.yaxis.grid(visible=True, color="#EDEDED", linewidth=0.6)
            axes.tick_params(color=QUIET)
        figure.savefig(target, format="svg", metadata={"Date": None, "Creator": None})
