"""A person's word on accepted edits: which are drawn, the form, and the precision."""

import csv
import io

import pytest

from audit_plugin.bank.confirmations import WatchedArms, form, keep_answers, known_answers, read_form, verifier_precision
from audit_plugin.core.confirm import ToConfirm, drawn, to_confirm
from audit_plugin.core.edits import Direction, EditCell, EditRow, Split
from audit_plugin.core.errors import ConfigError
from audit_plugin.core.seeds import digest
from audit_plugin.core.tree import ConceptTree, Node

TREE = ConceptTree(
    domain="d", nodes=(Node(path="a", name="glasses", prompt_add="wearing glasses"), Node(path="b", name="b", question="B?"))
)


def row(at, node="a", **changes):
    known = {
        "cell": EditCell(image=f"i{at}", nodes=(node,)), "split": Split.SELECT, "signs": (1,), "operator": "o",
        "direction": Direction.ADD if at % 2 else Direction.REMOVE, "verifier_before": 0.0, "verifier_after": 1.0,
        "before_sha256": digest("before", str(at)), "after_sha256": digest("after", str(at)),
    }  # fmt: skip
    return EditRow(**known | changes)


ROWS = [row(at) for at in range(4000)]
DRAWN = [one for one in ROWS if drawn(one)]
ITEMS = to_confirm(ROWS, {"a": "A?"})


class Arms:
    def rows(self, cells):
        return [row(int(cell.image[1:]), cell.nodes[0]) for cell in cells]


def test_one_edit_of_twenty_is_drawn_and_always_the_same():
    """Binomial: 4000 draws of 5 % are 200, give or take three standard deviations of 13.8."""
    assert 159 <= len(DRAWN) <= 241
    assert to_confirm(reversed(ROWS * 2), {"a": "A?"}) == ITEMS


@pytest.mark.parametrize(
    "change",
    [
        {"valid": False},
        {"verifier_after": None},
        {"cell": EditCell(image="i", nodes=("a",), placebo=True)},
        {"cell": EditCell(image="i", nodes=("a", "b"))},
    ],
)
def test_only_accepted_edits_of_one_node_that_a_judge_saw(change):
    assert not any(drawn(row(at, **change)) for at in range(400))


def test_the_watch_notes_them_with_a_question_and_what_judges_say():
    arms = WatchedArms(Arms(), TREE)
    assert len(arms.rows([EditCell(image=f"i{at}", nodes=(path,)) for at in range(400) for path in "ab"])) == 800
    asked = {item.node: item.question for item in arms.to_confirm}
    assert asked == {"a": "Does the picture show this: wearing glasses?", "b": "B?"}
    expected = {row(at).after_sha256: bool(at % 2) for at in range(400)}
    assert all(item.expected is expected[item.picture] for item in arms.to_confirm)


def test_the_form_does_not_tell_what_is_expected():
    """And nothing in it is a formula to a spreadsheet."""
    item = ToConfirm(picture="p", node="a", question="=1+1", expected=True)
    assert form([item], {}, lambda sha: f"/x/{sha}.png") == "picture,node,question,answer\n/x/p.png,a,'=1+1,\n"


def filled(path, items, say):
    """The form as a person gives it back."""
    lines = list(csv.DictReader(io.StringIO(form(items, {}, lambda sha: f"bank/{sha}.png"))))
    for item, line in zip(items, lines, strict=True):
        line["answer"] = say(item)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, lines[0].keys())
        writer.writeheader()
        writer.writerows(lines)
    return path


def test_answers_come_back_and_later_ones_count(tmp_path):
    """Ten answered, eight as the judges say, then one of the two is corrected; the Wilson interval of 8 in 10 is published."""
    ten = ITEMS[:10]
    wrong = set(ten[:2])
    first = filled(
        tmp_path / "first.csv", ITEMS, lambda it: "" if it not in ten else ("Yes" if it.expected != (it in wrong) else "no")
    )
    found = verifier_precision(ITEMS, keep_answers(tmp_path, read_form(first)))
    assert (found.asked, found.answered, found.right) == (len(ITEMS), 10, 8)
    assert (found.precision.value, round(found.precision.low, 3), round(found.precision.high, 3)) == (0.8, 0.49, 0.943)
    second = filled(tmp_path / "second.csv", ten[:1], lambda it: "y" if it.expected else "n")
    keep_answers(tmp_path, read_form(second))
    assert verifier_precision(ITEMS, known_answers(tmp_path)).right == 9


def test_nobody_asked_is_no_precision(tmp_path):
    assert verifier_precision(ITEMS, known_answers(tmp_path)).precision is None


@pytest.mark.parametrize(
    ("text", "said"),
    [("picture,node\n", "'answer' is missing"), ("picture,node,question,answer\np,a,q,maybe\n", "line 2: 'maybe' is no answer")],
)
def test_a_form_that_cannot_be_read_is_refused(tmp_path, text, said):
    (tmp_path / "form.csv").write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_form(tmp_path / "form.csv")
