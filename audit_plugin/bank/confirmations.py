"""What a person said about accepted edits: a CSV file to fill in, the answers beside the bank, and the verifier's precision from them.

The question is put neutrally: whether the judges expect yes or no is not in the file.
"""

import csv
import io
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from audit_plugin.core.confirm import ToConfirm, VerifierPrecision, drawn, to_confirm
from audit_plugin.core.edits import EditArms, EditCell, EditRow
from audit_plugin.core.errors import BankError, ConfigError
from audit_plugin.core.estimate import Estimate
from audit_plugin.core.tree import ConceptTree
from audit_plugin.statistics.intervals import wilson

FILE = "confirmed.csv"
COLUMNS = ("picture", "node", "question", "answer")
_WORDS = {"yes": True, "y": True, "no": False, "n": False}

Answers = Mapping[tuple[str, str], bool]
"""(sha256 of the picture, path of the node) -> yes or no."""


@dataclass(frozen=True, eq=False)
class WatchedArms:
    """Arms that note which accepted edits are drawn for a person.  Implements :class:`audit_plugin.core.edits.EditArms`."""

    arms: EditArms
    tree: ConceptTree
    _drawn: dict[EditCell, EditRow] = field(default_factory=dict, init=False)

    def rows(self, cells: Sequence[EditCell]) -> Sequence[EditRow]:
        """As the arms give them."""
        rows = self.arms.rows(cells)
        self._drawn.update({row.cell: row for row in rows if drawn(row)})
        return rows

    @property
    def to_confirm(self) -> tuple[ToConfirm, ...]:
        """What was drawn so far."""
        nodes = {cell.nodes[0]: self.tree.node(cell.nodes[0]) for cell in self._drawn}
        questions = {
            path: node.question or f"Does the picture show this: {node.prompt_add or node.name}?" for path, node in nodes.items()
        }
        return to_confirm(self._drawn.values(), questions)


def form(items: Iterable[ToConfirm], answers: Answers, place: Callable[[str], str] = str) -> str:
    """The CSV to fill in, with the answers that are there; ``place`` says where a picture lies."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for item in items:
        said = answers.get((item.picture, item.node))
        writer.writerow(
            [place(item.picture), _plain(item.node), _plain(item.question), "" if said is None else "yes" if said else "no"]
        )
    return file.getvalue()


def read_form(path: Path) -> dict[tuple[str, str], bool]:
    """The answers in a CSV, lines without one left out.  Raises ConfigError that names the line."""
    found: dict[tuple[str, str], bool] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = set(COLUMNS) - {"question"} - set(reader.fieldnames or ())
            if missing:
                raise ConfigError(f"{path}: column {min(missing)!r} is missing; `audit-plugin concepts confirm` writes a form")
            for row in reader:
                said = (row["answer"] or "").strip().lower()
                if said and said not in _WORDS:
                    raise ConfigError(f"{path}, line {reader.line_num}: {said!r} is no answer; write yes or no, or leave it empty")
                if said:
                    found[Path(row["picture"] or "").stem, (row["node"] or "").lstrip("'")] = _WORDS[said]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    return found


def known_answers(bank: Path) -> dict[tuple[str, str], bool]:
    """All answers so far; none where nobody was asked."""
    path = bank / FILE
    return read_form(path) if path.is_file() else {}


def keep_answers(bank: Path, answers: Answers) -> dict[tuple[str, str], bool]:
    """Add answers to those beside the bank, later ones count; all that are there now.  Raises BankError."""
    merged = {**known_answers(bank), **answers}
    _write(bank, merged)
    return merged


def drop_answers(bank: Path, pictures: Collection[str]) -> int:
    """Delete what was said of these pictures; how many answers that were.  Raises BankError."""
    known = known_answers(bank)
    left = {key: answer for key, answer in known.items() if key[0] not in pictures}
    if len(left) < len(known):
        _write(bank, left)
    return len(known) - len(left)


def _write(bank: Path, merged: Answers) -> None:
    items = [ToConfirm(picture=picture, node=node, question="", expected=False) for picture, node in sorted(merged)]
    temp = bank / f"{FILE}.tmp"
    try:
        bank.mkdir(parents=True, exist_ok=True)
        temp.write_text(form(items, merged), encoding="utf-8")
        temp.replace(bank / FILE)
    except OSError as error:
        raise BankError(f"{bank / FILE} cannot be written: {error}; free space, or choose another `bank.path`") from error


def verifier_precision(items: Sequence[ToConfirm], answers: Answers) -> VerifierPrecision:
    """How often the person agreed, over the drawn edits that were answered."""
    said = [(item.expected, answers[item.picture, item.node]) for item in items if (item.picture, item.node) in answers]
    right = sum(expected == answer for expected, answer in said)
    precision = None
    if said:
        interval = wilson(right, len(said))
        precision = Estimate(value=right / len(said), low=interval.low, high=interval.high)
    return VerifierPrecision(asked=len(items), answered=len(said), right=right, precision=precision)


def _plain(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in set("=+-@\t\r") else text
