"""The atomic rows of an audit as a table (specification 2.4): what every node's effect can be computed from again.

One line per edit and audited class.  A class has the rows of its own images, and those rows of other images that its spurious hits come
from; of these ``counted`` is 0, as it is for images that served the search.  With ``counted`` = 1, ``valid`` = 1, ``strength`` = 1 and no
placebo,

    effect of a node = mean over images of (mean over seeds of ``effect``)

where ``effect`` = sign * (``log_odds_after`` - ``log_odds_before`` - ``placebo``), the last one the image's mean shift by placebos.
Numbers have all their digits; what is not known is empty.
"""

import csv
import gzip
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from audit_plugin.core.diffex_results import ClassEffects, DiffexResult, ScoreKind
from audit_plugin.core.edits import EditRow, Split
from audit_plugin.methods.diffex.audit import pool_of
from audit_plugin.methods.diffex.effects import RowTable, common_sign
from audit_plugin.methods.diffex.options import DiffexOptions
from audit_plugin.methods.diffex.scores import class_scores

COLUMNS = (
    "model", "version", "class", "image", "image_class", "nodes", "seed", "strength", "placebo_edit", "direction", "signs", "scale",
    "operator", "split", "counted", "valid", "class_kept", "reasons", "verifier_before", "verifier_after", "distance", "outside_psnr",
    "mask_area", "before_sha256", "after_sha256", "score_before", "score_after", "score_original", "log_odds_before", "log_odds_after",
    "probability_before", "probability_after", "top_before", "top_after", "flip", "placebo", "effect",
)  # fmt: skip
"""``nodes``, ``signs`` and ``reasons`` are joined by ``|``.  Scores are the class's, as the server gave them."""


def row_file_name(model: str, version: str, label: str = "") -> str:
    """What the table of a model version is called; anything but letters, digits and ``._-`` becomes ``_``.

    ``label``: the label column, where a model is audited against several.
    """
    about = "-".join(part for part in (model, version, label) if part)
    return f"diffex-rows-{re.sub(r'[^A-Za-z0-9._-]', '_', about)}.csv.gz"


def row_file(
    rows: Iterable[EditRow],
    result: DiffexResult,
    *,
    model: str,
    version: str,
    labels: Sequence[str],
    classes_of: Mapping[str, str],
    options: DiffexOptions,
) -> bytes:
    """The gzipped CSV of all ``rows`` of a run that ended with ``result``.

    ``labels``, ``classes_of`` and ``options`` as :func:`run_diffex` had them, the keys of ``classes_of`` being its images.  The same run
    gives the same bytes.
    """
    every = tuple(rows)
    pool = set(pool_of(list(classes_of), classes_of, options.images_per_class))
    raw = io.BytesIO()
    with (
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", newline="") as text,
    ):
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for told in result.classes:
            own = {image for image in pool if options.all_images or classes_of[image] == told.class_name}
            about = {"model": model, "version": version, "class": told.class_name}
            for line in _lines(every, told, own, result.score, labels):
                whole = line | about | {"image_class": classes_of.get(str(line["image"]), "")}
                writer.writerow([_text(whole.get(column)) for column in COLUMNS])
    return raw.getvalue()


def _lines(
    rows: Sequence[EditRow], told: ClassEffects, own: set[str], kind: ScoreKind, labels: Sequence[str]
) -> Iterator[dict[str, object]]:
    """Those of one class, in the order in which the edits were asked for."""
    column, cues = labels.index(told.class_name), {hit.node for hit in told.hits}
    tables = {
        split: RowTable(rows=tuple(row for row in rows if row.split is split and row.cell.image in own), kind=kind)
        for split in Split
    }
    for row in rows:
        inside = row.cell.image in own
        if inside or (row.split is Split.ESTIMATE and cues & set(row.cell.nodes)):
            line = _facts(row) | {"counted": inside and row.split is Split.ESTIMATE}
            if row.scored:
                line |= _scores(row, tables[row.split], column, labels)
            if inside and row.scored and not row.cell.placebo:
                line |= _effect(row, tables[row.split], column, line)
            yield line


def _facts(row: EditRow) -> dict[str, object]:
    cell = row.cell
    return {
        "image": cell.image,
        "nodes": "|".join(cell.nodes),
        "seed": cell.seed,
        "strength": cell.strength,
        "placebo_edit": cell.placebo,
        "direction": row.direction.value,
        "signs": "|".join(map(str, row.signs)),
        "split": row.split.value,
        "reasons": "|".join(row.reasons),
    } | {
        name: getattr(row, name)
        for name in (
            "scale", "operator", "valid", "class_kept", "verifier_before", "verifier_after", "distance", "outside_psnr", "mask_area",
            "before_sha256", "after_sha256",
        )
    }  # fmt: skip


def _scores(row: EditRow, table: RowTable, column: int, labels: Sequence[str]) -> dict[str, object]:
    both = class_scores([row.before, row.after], table.kind)
    decided = both.decisions[:, min(column, both.decisions.shape[1] - 1)]
    tops = [labels[int(np.argmax(scores))] for scores in (row.before, row.after)]
    return {
        "score_before": row.before[column],
        "score_after": row.after[column],
        "score_original": row.original[column] if row.original else None,
        "log_odds_before": both.log_odds[0, column],
        "log_odds_after": both.log_odds[1, column],
        "probability_before": both.probability[0, column],
        "probability_after": both.probability[1, column],
        "top_before": tops[0],
        "top_after": tops[1],
        "flip": bool(decided[0] != decided[1]),
    }


def _effect(row: EditRow, table: RowTable, column: int, line: Mapping[str, object]) -> dict[str, object]:
    """The placebos' shift, 0 where the operator has none, and the effect; nothing where an image lacks valid placebos."""
    placebos, sign = table.placebos_of(row), common_sign(row)
    if placebos is not None and row.cell.image not in placebos:
        return {}
    shift = 0.0 if placebos is None else float(placebos[row.cell.image].log_odds[column])
    moved = float(str(line["log_odds_after"])) - float(str(line["log_odds_before"]))
    return {"placebo": shift, "effect": sign * (moved - shift) if sign and row.valid else None}


def _text(value: object) -> str:
    """Exact, and the shortest that is."""
    if value is None:
        return ""
    if isinstance(value, bool | np.bool_):
        return str(int(value))
    return repr(float(value)) if isinstance(value, float) else str(value)
