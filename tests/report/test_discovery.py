"""What classes respond to, in the report, the model card and on the terminal."""

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from audit_plugin.core.diffex_results import EffectState, Untestable
from audit_plugin.core.discovery_results import FoundPrompt, Mode, WordPart
from audit_plugin.core.results import from_json, to_json
from audit_plugin.core.tree import NodeKind
from audit_plugin.findings.findings import conclude
from audit_plugin.findings.policy import default_policy
from audit_plugin.report.card import model_card
from audit_plugin.report.discovery import discoveries, how_found
from audit_plugin.report.discovery_chain import chain
from audit_plugin.report.discovery_table import discovery_table
from audit_plugin.report.html import render
from audit_plugin.report.pictures import Album
from tests.findings.found import UNFIT, around, discovery, idle, subject, word
from tests.findings.trees import node, tree
from tests.report import factory, finds, woods


@pytest.fixture(scope="module")
def gallery():
    return factory.Gallery()


@pytest.fixture(scope="module")
def known(gallery):
    return finds.found(gallery)


def audited(gallery, told, **changes):
    return conclude(factory.planted(gallery, pairs=(), discovery=told, **changes), default_policy())


def page_of(gallery, told, **changes):
    page = render([audited(gallery, told, **changes)], gallery)
    start = page.find('<section id="discovery"')
    return " ".join(page[start : page.index("</section>", start)].split()) if start >= 0 else ""


@pytest.fixture(scope="module")
def page(gallery, known):
    """The section as it is most often; a page takes long to render."""
    return page_of(gallery, known, diffex=woods.grown(gallery))


def links_of(cue, tested=None, **changes):
    """The chain of one word of the class "malignant"."""
    told = discovery(subject(cue), **changes)
    result = factory.planted(factory.Gallery(), pairs=(), findings=(), concepts=(), discovery=told, diffex=tested)
    return chain(conclude(result, default_policy()), told.subjects[0])


def test_how_it_was_found_comes_first_and_says_what_it_cost(page, known):
    assert "by the server&#39;s scores alone, over 120 words in 4 contexts, and drawn by the generator tiny/4" in page
    assert "1 800 pictures were shown to the server" in page
    assert "The generator draws what the model was made for. Drawn pictures reach 2 of 2 classes." in page
    assert 'class="banner"' not in page
    assert "12 of them differentiated" in how_found(replace(known, mode=Mode.GRADIENT, gradient_rows=12))


def test_a_generator_from_elsewhere_is_told_in_a_banner_and_accuses_nobody(gallery, known):
    page = page_of(gallery, replace(known, fit=UNFIT, stopped="queries"))
    assert '<p class="banner" role="note"><b>The generator does not draw what scenes_planted was made for</b>' in page
    assert "AUROC 0.99" in page
    assert "nothing is held against the model: the generator is from elsewhere" in page
    assert "Incomplete: the queries limit was reached." in page
    assert "by drawn pictures" not in page


def test_prompts_words_pictures_and_pairs_are_shown(page):
    """Twelve pictures of the best prompt, six of the next; a pair of each of two words; once for the class and once for the unit."""
    assert page.count('class="fill"') == 1 + 3 + 3
    assert "86 % [80, 92]" in page
    assert page.count('<li class="taken"><img') + page.count('<li class=""><img') == 2 * 18
    assert page.count("<figure") == 2 * 2
    assert page.count('class="dots"') == 2 * 5
    assert "0.91" in page
    assert '<div class="soft small num">lift +0.70, q 0.01' in page
    assert "it describes, and proves nothing." in page
    assert "by where the object is (segmentation)" in page
    assert 'from the object: <span class="num">0.10 [0.00, 0.20]' in page
    assert "▲</span> 63 % [53, 73] of the pictures taken for it" in page
    assert "0.78 (Jaccard of either half of the seeds)" in page
    assert "marked (62 %)" in page
    assert "Two of the words are synonyms." in page


def test_a_blend_is_told_to_be_no_text(gallery, page):
    blend = FoundPrompt(text='ruler 1.8, dim 0.9, on top of "a photo"', how="CMA-ES", activation=around(0.9))
    shown = page_of(gallery, discovery(replace(subject(word()), prompts=(blend,))))
    assert "ruler 1.8, dim 0.9" in shown
    assert "is a blend that no text says" in shown
    assert "is a blend that no text says" not in page


def test_lifts_and_margins_are_told_with_what_they_mean():
    """Presence in prompts is not presence in pictures; a discovery of an older release says less."""
    by_prompts = word(lift=1.2, lift_q=0.0001, lift_by="prompts")
    views = [
        discoveries([factory.planted(factory.Gallery(), pairs=(), discovery=discovery(subject(cue)))], Album(factory.Gallery()))[0]
        for cue in (
            by_prompts,
            replace(by_prompts, lift_by="captions", margin=0.0312),
            replace(by_prompts, lift_by="", lift_q=None),
            replace(by_prompts, lift=None, lift_q=None, lift_by=""),
        )
    ]
    shown = [view.subjects[0].rows[0].said for view in views]
    assert shown == ["lift +1.20 in prompts, q < 0.001", "lift +1.20 in captions, q < 0.001; margin +0.031", "lift +1.20", ""]
    meant = [view.subjects[0].said for view in views]
    assert ["whether the picture shows it was not looked at" in one for one in meant] == [True, False, False, False]
    assert ["Margin: mean cosine" in one for one in meant] == [False, True, False, False]
    assert meant[3] == ""


def test_words_that_cause_nothing_are_folded_away_with_their_effects(page):
    (told, *_) = re.findall(
        r"<details class=\"quiet\"><summary>3 more words were tested: no sure effect</summary>(.*?)</details>", page
    )
    assert re.findall(r'<span class="nowrap">(\w+) ', told) == ["sofa", "fog", "cat"]
    assert "None of its words proved to act." in page


def test_the_chain_runs_from_cue_to_verdict(page):
    """Of each word that acts: its node, the test on real images or how to have one, the concept of that name, what is held against the model."""
    rows = [
        " ".join(re.sub(r"<[^>]+>", " ", row).split())
        for row in re.findall(r"<tr>(.*?)</tr>", page[page.index("From cue to verdict") :])
    ]
    watermark, square, ruler, sticker, paper = rows[1:6]
    assert "marks/watermark artefact known ● effect +0.85 [+0.75, +0.95] log-odds, 64 images, 90 % of edits valid" in watermark
    assert "Concept watermark, permuted in generated images: relies" in watermark
    assert watermark.endswith(
        "confirmed on real images; finding: by permuted concepts (warning), by real images (warning), by drawn pictures (critical)"
    )
    assert square.endswith("part of the class, on real images too: healthy")
    assert ruler.endswith("not confirmed: no effect on real images; finding: by drawn pictures (warning)")
    assert "marks/sticker artefact new, proposed not run: accept the proposed node" in sticker
    assert "none not run, no node says the same" in paper
    assert paper.endswith("partly core, so no finding")


@pytest.mark.parametrize(
    ("test", "says", "style"),
    [
        (node(), "confirmed on real images; finding: by real images (warning), by drawn pictures (warning)", "alert"),
        (
            node(state=EffectState.INCONCLUSIVE),
            "open: edits of real images are inconclusive; finding: by drawn pictures (warning)",
            "alert",
        ),
        (
            node(effect=-0.6, spuriousness=0),
            "not confirmed: on real images it pushes the other way; finding: by drawn pictures (warning)",
            "alert",
        ),
    ],
)
def test_the_verdict_follows_the_test_on_real_images(test, says, style):
    (link,) = links_of(word(), tree(test))
    assert (link.verdict, link.style, link.missing) == (says, style, "")


def test_without_a_test_the_chain_says_how_to_have_one():
    """In the tree and never tested, not testable, proposed alone, or without a node."""
    new = discovery().proposed
    assert links_of(word(known=True))[0].missing == "not run: an audit with diffex (audit-plugin run) tests the node on real images"
    assert (links_of(word())[0].node, links_of(word())[0].missing[:11]) == ("new, in the tree now", "not run: an")
    assert links_of(word(), tree(node("scene/hair")))[0].missing.endswith("the last one did not ask about it for this class")
    cannot = tree(node("scene/hair"), untestable=(Untestable(node="scene/ruler", reason="3 of 32 edits were valid"),))
    assert links_of(word(), cannot)[0].missing == "could not be tested: 3 of 32 edits were valid"
    (proposed,) = links_of(word(), proposed=(replace(new[0], accepted=False),))
    assert (proposed.node, proposed.missing[:20]) == ("new, proposed", "not run: accept the ")
    (bare,) = links_of(word(node="", kind=None))
    assert (bare.node, bare.missing[:19]) == ("none", "not run, no node sa")
    assert bare.verdict == "acts in drawn pictures, not yet tested on real images; finding: by drawn pictures (warning)"


@pytest.mark.parametrize("changes", [{"kind": NodeKind.CORE}, {"part": WordPart.CORE}], ids=str)
def test_core_words_are_healthy(changes):
    (link,) = links_of(word(**changes))
    assert (link.verdict, link.style, link.findings) == ("part of the class", "good", ())


def test_only_words_that_cause_have_a_link():
    assert links_of(idle()) == ()


def test_many_subjects_are_pictured_as_far_as_the_page_stays_small(gallery):
    """Those with cues come first; twelve have pictures, three are open."""
    crowd = [subject(idle(), name=f"class{at}") for at in range(12)]
    told = discovery(*crowd, subject(word(), name="last"))
    (view,) = discoveries([audited(gallery, told)], Album(gallery))
    assert view.subjects[0].subject.name == "last"
    assert [one.open for one in view.subjects].count(True) == 3
    assert [one.pictured for one in view.subjects].count(False) == 1


def test_names_cannot_break_out_and_lost_pictures_are_told(gallery, known):
    evil = "<script>alert(1)</script>"
    subjects = (
        finds.subject(gallery, name=evil, words=(replace(known.subjects[1].words[0], word=evil, node=evil),), notes=(evil,)),
    )
    result = audited(gallery, replace(known, subjects=subjects, mode_said=evil, generator=evil))
    page = render([result], factory.nothing)
    page = page[page.index('<section id="discovery"') :]
    assert evil not in page
    assert page.count("picture not available") == 18 + 2


def test_without_a_discovery_there_is_no_section_and_alone_it_is_a_report(gallery, known):
    assert page_of(gallery, None) == ""
    alone = factory.planted(gallery, pairs=(), concepts=(), gates=(), findings=(), discovery=known)
    page = render([alone], gallery)
    assert "Verdicts" not in page
    assert "found with no data: by pictures that a generator draws" in page
    assert "The pictures of what classes respond to are drawn by a generator." in page
    assert "Only words of the bank" in page
    assert "power to see" not in page
    assert "What was found with no data is not held against it" not in page
    unfit = replace(alone, discovery=replace(known, fit=UNFIT))
    assert "What was found with no data is not held against it" in render([unfit], gallery)
    assert "80 % power" not in model_card(unfit)


def test_the_card_has_a_line_for_each_word_that_acts(gallery, known):
    card = model_card(audited(gallery, known, diffex=woods.grown(gallery)))
    assert "### What the classes respond to, with no data" in card
    assert r"| marked | ruler | 20% → 52% | +0.32 \[+0.22, +0.42\] | spurious | not confirmed: no effect on real images;" in card
    assert "sofa" not in card
    none = model_card(audited(gallery, discovery(subject(idle()), fit=UNFIT)))
    assert "No word proved to act." in none
    assert "The generator does not draw what the model was made for." in none


def test_the_terminal_has_a_row_for_each_word_that_acts(known):
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(discovery_table(known))
    text = console.export_text()
    assert re.search(
        r"marked +18% → 86% +63% +watermark +20% → 81% +\+0.61 \[\+0.51, \+0.71\] +< 0.001 +▲ spurious +marks/watermark", text
    )
    assert "marks/sticker (new)" in text
    assert "marked: tested, no sure effect (3): sofa, fog, cat" in text
    assert re.search(r"plain +18% → – +10% +none acts", text)
    console.print(discovery_table(discovery(subject(*(idle(f"w{at}") for at in range(25))), fit=UNFIT, stopped="queries")))
    text = console.export_text()
    assert "! The generator does not draw what the model was made for." in text
    assert "Incomplete: the queries limit was reached." in text
    assert "w19, and 5 more" in text


def test_it_comes_back_from_json(gallery, known):
    result = factory.planted(gallery, pairs=(), discovery=known)
    assert from_json(to_json(result)) == result
