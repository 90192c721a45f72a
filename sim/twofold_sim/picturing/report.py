"""One HTML file that holds everything: pictures, figures, and the command that made them."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from twofold_sim.measuring import Record, notes_on
from twofold_sim.measuring.tables import (
    GOODPUT_HEADERS,
    HEADERS,
    QUARTILE_HEADERS,
    Row,
    cell,
    goodput_rows,
    quartile_rows,
    rows,
)
from twofold_sim.picturing.drawing import draw
from twofold_sim.picturing.scenes import scenes

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; margin: 2rem auto; max-width: 62rem;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
pre { background: #f4f4f4; padding: .7rem 1rem; white-space: pre-wrap; word-break: break-all; }
figure { margin: 1.4rem 0; } figcaption { color: #555; font-size: .9rem; }
img { max-width: 100%; height: auto; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .6rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid #e4e4e4; }
th:first-child, td:first-child { text-align: left; }
thead th { border-bottom: 2px solid #888; }
tbody tr:hover { background: #f4f8fb; }
"""


def write_report(
    records: Sequence[Record], path: Path, command: str, title: str = "Twofold bench"
) -> None:
    """Write the report of *records*, which *command* made, to *path*. It refers to nothing outside.

    Raises:
        PicturingError: matplotlib is not installed.
        OSError: it cannot be written.
    """
    path.write_text(render(records, command, title), encoding="utf-8")


def render(records: Sequence[Record], command: str, title: str) -> str:
    """Return the report as HTML."""
    parts = [f"<h1>{escape(title)}</h1>", f"<pre>{escape(command)}</pre>"]
    parts += [f"<p>{escape(each)}.</p>" for each in notes_on(records)]
    for picture in draw(records):
        source = base64.b64encode(picture.png).decode()
        caption = escape(picture.title)
        parts.append(
            f'<figure><img alt="{caption}" src="data:image/png;base64,{source}">'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    parts.append("<h2>Greatest QPS that is served on time</h2>")
    parts.append(_table(GOODPUT_HEADERS, goodput_rows(records)))
    for scene in scenes(records):
        parts.append(f"<h2>{escape(scene.title)}</h2>")
        parts.append(_setup(scene.records[0]))
        parts.append(_table(HEADERS, rows(scene.records)))
        parts.append("<h3>On time, by quarters of the requests, the shortest prompts first</h3>")
        parts.append(_table(QUARTILE_HEADERS, quartile_rows(scene.records)))
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style></head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _setup(record: Record) -> str:
    settings = ", ".join(f"{name} {value}" for name, value in sorted(record.setup.items()))
    return f"<p>{escape(settings)}</p>" if settings else ""


def _table(headers: Row, lines: Iterable[Row]) -> str:
    head = "".join(f"<th>{escape(str(header))}</th>" for header in headers)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{escape(cell(value))}</td>" for value in line) + "</tr>"
        for line in lines
    )
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )
