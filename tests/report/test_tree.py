"""The concept tree in the report: branch by branch, strongest first, honest about what could not be tested, closed to hostile names."""

import dataclasses
import re

import pytest

from audit_plugin.core.confirm import ToConfirm, VerifierPrecision
from audit_plugin.core.diffex_results import (
    Chosen,
    CounterClass,
    CoverageStep,
    DosePoint,
    DoseResponse,
    EffectState,
    SubgroupEffect,
    Untestable,
)
from audit_plugin.core.estimate import Estimate
from audit_plugin.core.results import Gate, GateStatus
from audit_plugin.findings.findings import conclude
from audit_plugin.findings.policy import default_policy
from audit_plugin.report.document import from_document, to_document
from audit_plugin.report.dose import dose_chart
from audit_plugin.report.gates import figure
from audit_plugin.report.html import render
from audit_plugin.report.pictures import Album
from audit_plugin.report.tree import bar, effect_words, failures, trees, untestable
from audit_plugin.report.tree_words import above_bound, missed_words, too_few
from tests.findings.trees import CORE, GOOD, NUISANCE, PROTECTED, QUALITY, around, class_effects, drift_of, hits_of, node, tree
from tests.report import factory, woods
from tests.report.test_html import Page

EVIL, SLY = "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>'


@pytest.fixture(scope="module")
def gallery() -> factory.Gallery:
    return factory.Gallery()


@pytest.fixture(scope="module")
def text(gallery) -> str:
    return section(render([factory.planted(gallery, pairs=(), diffex=woods.grown(gallery))], gallery))


def section(page: str) -> str:
    """The tree's section alone."""
    start = page.index('<section id="tree"')
    return page[start : page.index("</section>", start) + len("</section>")]


def audited(told, gallery, **changes):
    """A model with that tree and nothing to look at besides."""
    return factory.planted(gallery, **{"pairs": (), "diffex": told} | changes)


def view(*nodes, **changes):
    """The one tree of the nodes, without pictures."""
    ((only,),) = trees([audited(tree(*nodes, **changes), factory.Gallery())], Album(factory.nothing))
    return only


def outline(branches):
    """Names with their children's, as nested pairs."""
    return [(branch.name, outline(branch.children)) for branch in branches]


def branch_of(page, name):
    """The markup of the named branch with all that is below it."""
    at = page.index(f'<span class="name">{name}</span>')
    start, depth = page.rindex("<details", 0, at), 0
    for tag in re.finditer(r"<details|</details>", page[start:]):
        depth += 1 if tag[0] == "<details" else -1
        if depth == 0:
            return page[start : start + tag.end()]
    raise AssertionError(f"{name} is not closed")


def test_ancestors_become_branches():
    """Nodes and those that could not be tested stand below their parents, whether or not a parent was estimated."""
    told = view(node("a/b/deep"), node("a"), node("c", effect=0.2), untestable=(Untestable(node="a/b/no", reason="why"),))
    assert outline(told.branches) == [("a", [("b", [("deep", []), ("no", [])])]), ("c", [])]
    first, second = told.branches
    assert (first.effect is not None, first.children[0].effect, second.effect is not None) == (True, None, True)
    assert first.children[0].children[1].reason == "why"


def test_the_strongest_branch_comes_first_by_its_strongest_node():
    """What counts is the limit nearest to zero, of either sign and at any depth; ties go to what was tested, then to the name."""
    calm = {"state": EffectState.NO_EFFECT}
    wide = Estimate(value=3.0, low=-0.1, high=6.1)
    told = view(
        node("weak", effect=0.3), node("a/deep/strong", effect=-1.2), node("sure", effect=0.8), node("b/none", effect=0.0, **calm),
        dataclasses.replace(node("wide"), effect=wide), node("b/nil", effect=0.01, **calm),
        untestable=(Untestable(node="aa", reason="r"),),
    )  # fmt: skip
    assert [branch.name for branch in told.branches] == ["a", "sure", "weak", "b", "wide", "aa"]
    assert [branch.name for branch in told.branches[3].children] == ["nil", "none"]


def test_branches_count_what_is_in_them():
    """Estimated, with an effect, and those that must not have one: the branch itself included."""
    calm = {"state": EffectState.INCONCLUSIVE}
    nodes = [
        node("a"), node("a/core", CORE), node("a/skin", PROTECTED), node("a/calm", NUISANCE, **calm), node("a/blur", QUALITY),
    ]  # fmt: skip
    (branch,) = view(*nodes).branches
    assert (branch.tested, branch.found, branch.alerts) == (5, 4, 2)


def test_every_node_is_in_the_page_once_below_its_parent(text):
    """Thirty nodes as nested details, closed but for the top branches with an effect."""
    names = re.findall(r'<span class="name">([^<]+)</span>', text)
    paths = {*woods.KINDS, *(one.node for one in woods.REASONS)}
    parents = {"/".join(path.split("/")[:depth]) for path in paths for depth in range(1, path.count("/") + 1)}
    assert sorted(names) == sorted(path.rpartition("/")[2].replace("_", " ") for path in paths | parents)
    assert len(paths) == 28
    assert re.findall(r'<details open>\s*<summary><span class="name">(\w+)', text) == ["object", "marks", "scene", "person"]
    assert names.index("marks") < names.index("watermark") < names.index("text") < names.index("scene")
    assert "striped" in branch_of(branch_of(text, "scene"), "background")
    assert "striped" not in branch_of(text, "marks")


def test_a_node_says_effect_interval_state_and_kind(text):
    """In words and signs, not by colour alone."""
    words = Page(branch_of(text, "watermark")).text
    for needed in (
        "artefact", "+0.85 [+0.75, +0.95]", "● effect", "On 64 images; q 0.002", "turns on 20 % more than by placebo",
        "90 % of the edits valid", "spuriousness 0.30", "plain gains +0.70 [+0.60, +0.80]",
        "the attribute did not change as asked 7 %, too much else changed 3 %",
    ):  # fmt: skip
        assert needed in words
    assert "no placebo to take off" in Page(branch_of(text, "date")).text
    assert "▲ 1 that must not matter" in Page(branch_of(text, "person").partition("</summary>")[0] + "</summary></details>").text


def test_three_exemplars_are_shown_with_their_difference(text):
    """At the 10th, 50th and 90th percentile: null edit, edit, difference; none where there is no effect."""
    own = Page(branch_of(text, "watermark"))
    assert [image["alt"].split(",")[0] for image in own.all("img")] == [
        "The image", "The image with watermark changed", "Absolute difference of the two pictures; black where nothing changed",
    ] * 3  # fmt: skip
    assert all(image["src"].startswith("data:image/png;base64,") for image in own.all("img"))
    for needed in ("effect +0.17, 10th percentile", "effect +0.85, 50th percentile", "effect +1.53, 90th percentile", "photo-090"):
        assert needed in own.text
    assert "<img" not in branch_of(text, "ruler")


def test_lost_pictures_are_named_as_missing(gallery):
    """The numbers stay."""
    page = Page(section(render([audited(woods.grown(gallery), gallery)], factory.nothing)))
    assert page.text.count("picture not available") == len(woods.EFFECTS) * 9
    assert "+0.85 [+0.75, +0.95]" in page.text


def test_what_the_whole_class_says_is_there(text):
    """Sample sizes, what the search missed, combinations and coverage."""
    words = Page(text).text
    for needed in (
        "64 counted, 64 for the search", "25 estimated of 25 searched", "moved by the first 2 50 % of images",
        "of the eliminated nodes at most 10 % might have an effect beyond 0.25 log-odds (95 % bound)", "marks/watermark + scene/background/striped +1.50", "gain over marks/watermark +0.40",
        "object/shape (60 %), marks/watermark (80 %)", "turns half of the decisions: object/shape",
    ):  # fmt: skip
        assert needed in words


def test_reasons_are_said_once_with_the_models_they_hold_for(gallery):
    """A reason of all models needs no names; one of a single model does."""
    one, both = Untestable(node="x/own", reason="only the first"), Untestable(node="x/both", reason="neither")
    results = [
        audited(tree(node(), untestable=(both, one)), gallery),
        dataclasses.replace(factory.clean(gallery, diffex=tree(node(), untestable=(both,))), pairs=()),
    ]
    assert untestable(results) == [(both, (0, 1)), (one, (0,))]
    page = section(render(results, gallery))
    entries = Page(page[page.index('<details class="quiet">') : page.rindex("</details>") + len("</details>")]).text
    assert entries == "2 nodes could not be tested, and why x/both : neither x/own : only the first (scenes_planted)"


def test_the_same_node_may_fail_for_different_reasons(gallery):
    """Then each reason stands there, with its model."""
    reasons = [Untestable(node="x", reason=why) for why in ("cannot be drawn", "too rare")]
    results = [audited(tree(node(), untestable=(why,)), gallery, model=name) for why, name in zip(reasons, "ab", strict=True)]
    page = Page(section(render(results, gallery))).text
    assert "cannot be drawn (a)" in page
    assert "too rare (b)" in page


@pytest.mark.parametrize("told", [(), (None,), (None, None)])
def test_without_a_tree_there_is_no_section_and_no_link(told, gallery):
    """Nobody is led to an empty place."""
    page = render([factory.planted(gallery, pairs=(), diffex=one) for one in told], gallery)
    assert 'id="tree"' not in page
    assert 'href="#tree"' not in page
    assert "edits of real photographs" not in page


def test_a_model_without_a_tree_stands_beside_one_with_it(gallery):
    """The section names whose tree it is, under every class."""
    first = class_effects(node(), class_name="plain")
    second = class_effects(node(class_name="marked"), class_name="marked")
    results = [factory.clean(gallery, pairs=()), audited(tree(classes=(first, second)), gallery)]
    page = render(results, gallery)
    assert 'href="#tree"' in page
    assert re.findall(r"<h3>([^<]+)</h3>", section(page)) == ["scenes_planted, class plain", "scenes_planted, class marked"]


def test_it_opens_without_a_generator(gallery):
    """A tree needs no generated bank: no concepts, no gates, no score on generated images; and nothing is claimed about them."""
    bare = audited(
        woods.grown(gallery), gallery, concepts=(), groups=(), gates=(), leakage={}, placebo={}, fairness=(), findings=(), truth={},
        real_score=None, generated_score=None, headline="Nothing is relied on.", not_tested=(),
    )  # fmt: skip
    (again,) = from_document(to_document([bare])).results
    assert again == bare
    page = Page(render([again], gallery))
    links = {link["href"] for link in page.all("a")}
    assert links <= {f"#{element['id']}" for _, element in page.elements if "id" in element}
    assert "+0.85 [+0.75, +0.95]" in page.text
    assert "edits of real photographs" in page.text
    assert "made by a diffusion model, not photographs" not in page.text
    assert "80 % power" not in page.text
    assert not {"nan", "None"} & set(page.text.split())


def test_effects_that_cannot_be_relied_on_say_so(gallery):
    """Once per model, above its numbers; a tree in good order has no such note."""
    good = class_effects(node(), class_name="plain")
    short = class_effects(node(class_name="marked"), class_name="marked", images_estimate=20)
    page = section(render([audited(tree(classes=(good, short)), gallery)], gallery))
    note = "The effects of scenes_planted cannot be relied on, and no finding is made from them: fewer than 32 images of marked."
    assert Page(page).text.count(note) == 1
    assert page.index("cannot be relied on") < page.index("<h3>")
    assert "cannot be relied on" not in section(render([audited(tree(classes=(good,)), gallery)], gallery))


def test_an_unfinished_tree_names_its_limit(gallery):
    """Not every node was looked at to the end."""
    page = section(render([audited(tree(node(), stopped="wall_minutes"), gallery)], gallery))
    assert "Incomplete: the wall_minutes limit was reached" in Page(page).text


def test_hostile_names_stay_text(gallery):
    """Nodes, classes, reasons, images, checks and flags named like markup are shown and never run."""
    exemplar = dataclasses.replace(woods.exemplars(gallery, 0.5)[0], image=SLY)
    quality = dataclasses.replace(GOOD, failures={EVIL: 0.1})
    counter = CounterClass(class_name=SLY, gain=around(0.3))
    hostile = node(
        "a/<script>alert(1)",
        class_name=EVIL,
        exemplars=(exemplar,),
        quality=quality,
        flags=(SLY,),
        counter=counter,
        operators=(EVIL,),
    )
    combination = dataclasses.replace(woods.effects(gallery).combinations[0], nodes=(EVIL, SLY), best_subset=(EVIL,))
    step = CoverageStep(node=EVIL, mean=1.0, explained=0.5)
    effects = class_effects(
        hostile, class_name=EVIL, combinations=(combination,), coverage=(step,), minimal_flip_set=(SLY,), images_estimate=3
    )
    told = tree(classes=(effects,), untestable=(Untestable(node=SLY, reason=EVIL),), stopped="{{ 7*7 }}")
    page = Page(render([audited(told, gallery, model=SLY)], gallery))
    assert not list(page.all("script"))
    assert not [attributes for _, attributes in page.elements if "onerror" in attributes]
    assert all(image["src"].startswith("data:") for image in page.all("img"))
    for needed in (EVIL, SLY, "{{ 7*7 }}", "<script>alert(1) artefact"):
        assert needed in page.text
    assert "The image with <script>alert(1) changed" in {image["alt"] for image in page.all("img")}


def test_what_changed_since_another_version_is_a_table(gallery):
    """Then, now, difference and q, largest first; beyond ten nodes the significant ones alone; nothing without another version."""
    moved = [(f"n{at:02}", 0.9 - at / 20) for at in range(12)] + [(EVIL, 0.05), ("last", 0.04)]
    page = section(render([audited(tree(node(), drift=drift_of(*moved, version="7")), gallery)], gallery))
    assert "Since version 7" in page
    assert ">+0.45</td>" in page
    assert ">+1.35</td>" in page
    assert "+0.90 [+0.80, +1.00] <b>changed</b>" in page
    assert page.index(">n00<") < page.index(">n11<")
    assert ">last<" not in page
    assert EVIL not in page
    assert "Since version" not in section(render([audited(tree(node(), drift=None), gallery)], gallery))


def test_edits_to_confirm_are_shown_with_what_was_answered(gallery):
    """The first twelve with pictures, all counted; who checked what, and what nobody checked."""
    items = tuple(
        ToConfirm(picture=f"{at:02}", node="scene/ruler", question="Is there a <ruler>?", expected=True) for at in range(20)
    )
    found = VerifierPrecision(asked=20, answered=10, right=8, precision=Estimate(value=0.8, low=0.49, high=0.943))
    told = tree(node(), to_confirm=items, verifier=found, checks={"V1": "image-text model", "V6": "not checked"})
    whole = render([audited(dataclasses.replace(told, judges={"image-text model": "0123456789abcdef"}), gallery)], gallery)
    page = section(whole)
    assert "image-text model 0123456789ab<" in whole
    assert "20 accepted edits for a person to confirm; of 10 looked at, 8 were right: verifier precision 0.80 [0.49, 0.94]" in page
    assert page.count("Is there a &lt;ruler&gt;?") == 12
    assert "V1 (the attribute changed) by image-text model; V6 (safe) not checked." in page
    silent = section(
        render(
            [audited(dataclasses.replace(told, verifier=dataclasses.replace(found, answered=0, precision=None)), gallery)], gallery
        )
    )
    assert "nobody has yet" in silent


def test_bars_stay_inside_and_meet_zero_in_the_middle():
    """From minus to plus the largest limit; a node without images has none."""
    assert bar(node(effect=0.5), 0.6) == pytest.approx((50 + 50 * 0.4 / 0.6, 50 * 0.2 / 0.6, 50 + 50 * 0.5 / 0.6, 50))
    assert bar(node(effect=9.0), 1.0)[:1] == (100.0,)
    assert bar(dataclasses.replace(node(), effect=None), 1.0) is None
    assert bar(node(), 0.0) is None
    assert view(node(effect=-0.7), node("b", effect=0.2)).scale == pytest.approx(0.8)


def test_numbers_in_words():
    """Signed, with a true minus; a dash for what is not known; the commonest failure first."""
    assert effect_words(around(-0.5)) == "−0.50 [−0.60, −0.40]"
    assert effect_words(None) == "–"
    told = failures(dataclasses.replace(GOOD, failures={"V6": 0.01, "V3": 0.2, "new": 0.1}))
    assert told == [("the class changed too", 0.2), ("new", 0.1), ("the safety filter refused it", 0.01)]


def follow_up(**changes):
    """A node whose effect differs between sexes and grows with the strength of its edit."""
    groups = tuple(
        SubgroupEffect(
            attribute="sex", level=level, images=30, others=34, effect=0.9, effect_elsewhere=0.1, difference=around(0.8), p=0.001,
            p_bonferroni=0.002, q=0.004,
        )
        for level in ("f", EVIL)
    )  # fmt: skip
    points = tuple(DosePoint(dose=dose, node="a/ruler", images=16, effect=around(dose)) for dose in (0.5, 1.0, 1.5))
    dose = DoseResponse(points=points, images=16, trend=around(0.9), p=0.001, monotone=True)
    return node("a/ruler", subgroups=groups, dose=dose, **changes)


def test_subgroups_and_dependence_on_strength_stand_in_the_branch(gallery):
    page = branch_of(section(render([audited(tree(follow_up()), gallery)], gallery)), "ruler")
    assert "Largest difference between subgroups: sex f +0.90 on 30 images, others +0.10 on 34" in page
    assert "All 2 subgroups" in page
    assert EVIL not in page
    assert page.count('class="dot"') == 3
    assert "grows with the strength of the edit; measured on 16 images" in page


def test_a_dose_is_drawn_where_it_stands():
    """Stronger to the right, larger effects higher, whiskers around their dots, no effect at its own height."""
    drawn = dose_chart(follow_up().dose)
    assert [mark.x for mark in drawn.marks] == sorted(mark.x for mark in drawn.marks)
    assert [mark.y for mark in drawn.marks] == sorted((mark.y for mark in drawn.marks), reverse=True)
    assert all(mark.high < mark.y < mark.low <= drawn.zero for mark in drawn.marks)
    assert dose_chart(dataclasses.replace(follow_up().dose, points=follow_up().dose.points[:1])) is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"hits": (hits_of("a/ruler"),)}, "60 % of 80 images [50, 70] are taken for malignant"),
        ({"hits": (hits_of("a/ruler", 74),)}, "74 images are too few to judge"),
        ({"hits": (), "hits_missing": "no images of another class"}, "without the object: no images of another class."),
        ({}, "Two operators agree on the order of 3 nodes by +0.70"),
        ({"agreement": None, "agreement_missing": "0 nodes"}, "No comparison of two edit operators: 0 nodes."),
    ],
)
def test_what_is_known_of_the_whole_class_or_why_it_is_not(gallery, changes, says):
    told = tree(classes=(class_effects(node("a/ruler"), **changes),))
    assert says in section(render([audited(told, gallery)], gallery))


def test_a_finding_shows_its_value_in_the_quantity_of_its_threshold(gallery):
    """A spuriousness score beside a spuriousness threshold, log-odds beside log-odds."""
    done = conclude(audited(tree(node(), node("skin", PROTECTED)), gallery, concepts=(), fairness=()), default_policy())
    page = " ".join(render([done], gallery).split())
    assert "spuriousness score for malignant 0.400</span>, threshold 0.250" in page
    assert "effect on the log-odds for malignant 0.600 [0.500, 0.700]</span>, threshold 0.100" in page


def test_a_removal_says_that_its_sign_is_turned(gallery):
    """Beside the effect of the edit that took the node away, and of no other."""
    first, *others = woods.exemplars(gallery, 0.5)
    told = node("a/ruler", exemplars=(dataclasses.replace(first, removed=True), *others))
    page = Page(section(render([audited(tree(told), gallery)], gallery))).text
    assert "effect +0.10 (removed; sign turned), 10th percentile" in page
    assert page.count("sign turned") == 1


def test_nodes_bear_the_names_that_people_gave_them():
    """Words of the path only where there is no other name."""
    told = view(node("gamma/0_6"), node("gamma/other_one"), names={"gamma/0_6": "gamma 0.6"})
    assert {branch.name for branch in told.branches[0].children} == {"gamma 0.6", "other one"}


def test_what_the_search_may_have_missed_is_said_as_a_bound():
    """In nodes where their number is known; nodes that a limit kept from being searched were not eliminated."""
    nodes = (node("a"), node("b", chosen=Chosen.SAMPLED), node("c", chosen=Chosen.SAMPLED), node("d", chosen=Chosen.UNREACHED))
    effects = class_effects(*nodes, missed_effects=0.776)
    search = dataclasses.replace(effects.search, candidates=42, kept=("a",), sampled=("b", "c"))
    assert missed_words(dataclasses.replace(effects, search=search)) == (
        "of the 40 eliminated nodes at most 31 might have an effect beyond 0.25 log-odds (95 % bound, from 2 that were measured all the same)"
    )
    assert missed_words(dataclasses.replace(effects, missed_effects=None)) == ""


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (node(images=31, spurious_images=31), "fewer than 32 images: never an alert"),
        (node(spurious_images=31), "fewer than 32 images that kept their class: never an alert"),
        (node(kind=PROTECTED, spurious_images=31), ""),
        (node(kind=QUALITY, images=31, spurious_images=31), ""),
        (node(images=31, spurious_images=31, state=EffectState.INCONCLUSIVE), ""),
        (node(), ""),
    ],
)
def test_too_few_images_for_an_alert_stand_on_the_row(told, says, gallery):
    assert too_few(told) == says
    row = branch_of(section(render([audited(tree(told), gallery)], gallery)), "ruler").partition("</summary>")[0]
    assert ("never an alert" in row) == bool(says)


def test_the_headline_is_told_how_much_of_it_breaches_the_policy(gallery):
    """Of the nodes that must not matter and do; nothing where no policy has spoken or none of them is there."""
    small = node("scene/lamp", NUISANCE, spuriousness=0.1)
    done = conclude(audited(tree(node(), small), gallery, concepts=(), fairness=()), default_policy())
    assert above_bound(done) == "Above the policy's bound: 1 of the 2 that must not matter and move the scores."
    assert above_bound(done) in " ".join(render([done], gallery).split()).replace("&#39;", "'")
    bare = dataclasses.replace(done, provenance=dataclasses.replace(done.provenance, policy_digest=""))
    assert above_bound(bare) == above_bound(audited(tree(node("shape", CORE)), gallery)) == ""


def test_a_trend_that_was_not_seen_is_no_verdict():
    """Nor does an effect grow that falls evenly to nothing."""
    dose = follow_up().dose
    assert dose_chart(dataclasses.replace(dose, monotone=False)).words == "measured on 16 images"
    assert dose_chart(dataclasses.replace(dose, trend=around(-0.9))).words == "measured on 16 images"


def test_the_table_of_rows_is_named_where_there_is_one(gallery):
    """In the page and in the document, which older results lack."""
    told = dataclasses.replace(tree(node()), rows_file="diffex-rows-m-1.csv.gz")
    done = audited(told, gallery)
    assert "Atomic rows: <code>diffex-rows-m-1.csv.gz</code>" in section(render([done], gallery))
    assert "Atomic rows" not in section(render([audited(tree(node()), gallery)], gallery))
    assert from_document(to_document([done])).results[0].diffex.rows_file == "diffex-rows-m-1.csv.gz"


def test_tiny_q_values_have_no_false_zero(gallery):
    assert "q &lt; 0.001" in section(render([audited(tree(node(q=0.00001)), gallery)], gallery))


def test_gates_count_rows_as_whole_numbers():
    """A share stays a share, even where it is whole."""
    rows = Gate(name="G0", title="rows", subject="size", status=GateStatus.PASS, value=35.0)
    share = Gate(name="G3b", title="erased", subject="size", status=GateStatus.PASS, value=1.0, low=0.9, high=1.0)
    assert (figure(rows), figure(share)) == ("35", "1.000 [0.900, 1.000]")
    assert figure(dataclasses.replace(rows, value=None)) == "–"
