"""The report of a job: a page with pictures, a table, and the list of what failed."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from contextlib import suppress
from html import escape
from pathlib import Path
from urllib.parse import quote

from napari_espmedsam import __version__
from napari_espmedsam.batch.events import FileStatus, summary
from napari_espmedsam.batch.fingerprint import settings_of
from napari_espmedsam.batch.job import BatchJob
from napari_espmedsam.batch.record import RunRecord, read_record
from napari_espmedsam.batch.staging import publish, refused, staged
from napari_espmedsam.batch.task import FileResult
from napari_espmedsam.errors import EspMedSamError

PAGE, TABLE, FAILURES = "espmedsam-report.html", "espmedsam-report.csv", "espmedsam-failures.csv"
MAX_PICTURES = 1000  # about 10 kB each; a page with more is slow to open
_COLUMNS = (
    "image",
    "state",
    "found",
    "shape",
    "seconds",
    "outputs",
    "reason",
    "traceback",
    "warnings",
)
_STATES = {
    "done": "done",
    "skipped": "finished before",
    "failed": "failed",
    "cancelled": "not done",
}

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em;
  color: #222; background: #fff; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .4em .7em; border-bottom: 1px solid #ddd; }
td { overflow-wrap: anywhere; }
img { max-width: 16em; max-height: 16em; display: block; }
.failed { background: #fdecea; } .cancelled { color: #666; }
dt { float: left; clear: left; width: 11em; color: #555; } dd { margin-left: 11em; }
"""


def write_report(
    job: BatchJob, statuses: Sequence[FileStatus], stopped: str = "", note: str = ""
) -> tuple[Path, ...]:
    """Write the report of a job into its output folder, in place of that of an earlier run.

    Parameters
    ----------
    job : BatchJob
        What was done.
    statuses : sequence of FileStatus
        What came of each image.
    stopped : str
        Why the job ended early; "" if it did not.
    note : str
        What to know about the output folder.

    Returns
    -------
    tuple of Path
        ``espmedsam-report.html`` (one file, pictures inside), ``espmedsam-report.csv`` (a row for
        each image), ``espmedsam-failures.csv`` (image and reason; with the heading only if nothing
        failed).

    Raises
    ------
    OutputError
        If one of them cannot be written; earlier ones are then as they were.
    """
    rows = [(each, each.result) for each in statuses if each.result is not None]
    results = [result for _, result in rows]
    failed = [(r.relative, r.reason) for r in results if r.state in ("failed", "cancelled")]
    with staged(job.folder, "report") as place:
        try:
            (place / PAGE).write_text(_page(job, rows, stopped, note), encoding="utf-8")
            _write_csv(place / TABLE, _COLUMNS, map(_row, results))
            _write_csv(place / FAILURES, ("image", "reason"), failed)
        except OSError as error:
            raise refused(job.folder, error) from error
        for name in (PAGE, TABLE, FAILURES):
            publish(place / name, job.folder / name)
    return tuple(job.folder / name for name in (PAGE, TABLE, FAILURES))


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    # Names of files need not be valid text on Linux; a table that can be read is worth more.
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def _row(result: FileResult) -> tuple[str, ...]:
    outputs = ";".join(path.name for path in result.outputs)
    seconds = f"{result.seconds:.2f}"
    known = (result.relative, result.state, result.found, result.image, seconds, outputs)
    return (*known, result.reason, result.traceback, " ".join(result.warnings))


def _page(
    job: BatchJob, rows: Sequence[tuple[FileStatus, FileResult]], stopped: str, note: str
) -> str:
    line = summary([result for _, result in rows])
    troubled = [row for row in rows if row[1].state == "failed"]
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta name="generator" content="napari-espmedsam {__version__}">',
        f"<title>{escape(line)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(line)}</h1>",
        f"<p>The job ended early: {escape(stopped)}</p>" if stopped else "",
        f"<p>Note: {escape(note)}</p>" if note else "",
        _facts(job),
    ]
    if troubled:
        parts += ["<h2>Failed</h2>", _failures(troubled)]
    parts += ["<h2>Images</h2>", _images(job, rows), "</body></html>\n"]
    # A lone surrogate (a name that is no UTF-8) cannot be written.
    return "\n".join(filter(None, parts)).encode("utf-8", "backslashreplace").decode("utf-8")


def _facts(job: BatchJob) -> str:
    default = settings_of(type(job.request)())
    changed = {k: v for k, v in settings_of(job.request).items() if v != default[k]}
    facts = {
        "Inputs": ", ".join(job.inputs),
        "Model": job.request.checkpoint,
        "Settings": ", ".join(f"{k} = {v}" for k, v in changed.items()) or "as they come",
        "Results": ", ".join(job.formats),
        "Software": f"napari-espmedsam {__version__}",
    }
    items = (f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in facts.items())
    return f"<dl>{''.join(items)}</dl>"


def _failures(rows: Sequence[tuple[FileStatus, FileResult]]) -> str:
    lines = (
        f'<tr class="failed"><td>{escape(each.relative)}</td><td>{escape(each.reason)}</td></tr>'
        for _, each in rows
    )
    return f"<table><tr><th>image</th><th>reason</th></tr>{''.join(lines)}</table>"


def _images(job: BatchJob, rows: Sequence[tuple[FileStatus, FileResult]]) -> str:
    lines = [_image_row(job, *row, picture=i < MAX_PICTURES) for i, row in enumerate(rows)]
    heads = "".join(f"<th>{name}</th>" for name in ("", "image", "state", "found", "seconds"))
    note = (
        f"<p>Pictures of the first {MAX_PICTURES} images only.</p>"
        if len(rows) > MAX_PICTURES
        else ""
    )
    return f"{note}<table><tr>{heads}</tr>{''.join(lines)}</table>"


def _image_row(job: BatchJob, status: FileStatus, result: FileResult, *, picture: bool) -> str:
    record = _record(status) if picture and result.outputs else None
    seen = f'<img alt="" src="{escape(record.thumbnail)}">' if record and record.thumbnail else ""
    links = " ".join(_link(job, path) for path in result.outputs)
    found = result.found or ("see above" if result.state == "failed" else "")
    name = f"{escape(result.relative)}<br><small>{escape(result.image)}<br>{links}</small>"
    name += "".join(f"<br><b>{escape(text)}</b>" for text in result.warnings)
    cells = (seen, name, _STATES[result.state], escape(found), f"{result.seconds:.1f}")
    return f'<tr class="{result.state}">{"".join(f"<td>{c}</td>" for c in cells)}</tr>'


def _link(job: BatchJob, path: Path) -> str:
    address = quote(path.relative_to(job.folder).as_posix(), errors="surrogateescape")
    return f'<a href="{address}">{escape(path.name)}</a>'


def _record(status: FileStatus) -> RunRecord | None:
    with suppress(EspMedSamError):
        return read_record(status.task.record_path)
    return None
