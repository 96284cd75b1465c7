"""What is deleted from store and bank, what is not, and what the log says of it."""

import csv
import datetime as dt
import gzip
import io
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

from audit_plugin.bank.build import build
from audit_plugin.bank.confirmations import keep_answers, known_answers
from audit_plugin.bank.edit_store import NO_ORIGINAL, EditStore, StoredEdit
from audit_plugin.bank.join import load_table
from audit_plugin.bank.pictures import PictureFolder
from audit_plugin.bank.reference import draw_twins, forget_twins, twin_pictures
from audit_plugin.bank.store import FORGOTTEN, ProbeBank
from audit_plugin.bank.verify import verify_files
from audit_plugin.capture.files import read_tombstones
from audit_plugin.core.errors import ConfigError, StoreError
from audit_plugin.core.pictured import aggregates, cited, singles
from audit_plugin.core.results import Pair, from_json, to_json
from audit_plugin.metrics.collector import AuditCollector
from audit_plugin.retention import Places, doomed, forget, prune
from audit_plugin.sources.images import encode_png
from audit_plugin.store.retention import RetentionOptions, sha_of
from audit_plugin.store.scores import target_of
from audit_plugin.store.store import Store
from tests.bank.world import FakeGenerator, good, new_bank, silent, small_plan
from tests.findings.examples import result
from tests.report import factory, finds, woods

NOW = dt.datetime(2026, 11, 29, 12, tzinfo=dt.UTC)
OPTIONS = RetentionOptions(pictures_days=30, runs_days=60, scores_days=90)
REAL = "f" * 64


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A migrated store and a small bank that is complete, to be copied."""
    folder = tmp_path_factory.mktemp("retention")
    Store.open(folder / "audit.db", migrate=True).close()
    build(new_bank(folder / "bank"), small_plan(3), FakeGenerator(), good, progress=silent)
    return folder


@pytest.fixture
def store(empty, tmp_path):
    shutil.copy(empty / "audit.db", tmp_path / "audit.db")
    opened = Store.open(tmp_path / "audit.db", clock=lambda: NOW)
    yield opened
    opened.close()


@pytest.fixture
def bank(empty, tmp_path):
    shutil.copytree(empty / "bank", tmp_path / "bank")
    return ProbeBank.open(tmp_path / "bank")


def pair(before, after, row="row-1"):
    return Pair(
        row=row, concept="ruler", level_from="no", level_to="yes", before_sha256=before, after_sha256=after, before_caption="",
        after_caption="", score_before=0.1, score_after=0.9, decision_before="a", decision_after="b", choice="random",
    )  # fmt: skip


def at(day, *, model="ham", version="1", shas=("a" * 64, "b" * 64), **changes):
    """A run that ended a number of days ago."""
    when = NOW - dt.timedelta(days=day)
    made = result(
        run=f"{when:%Y%m%dT%H%M%S}.000000Z-{day:08}",
        finished=when.isoformat(),
        model=model,
        version=version,
        pairs=(pair(*shas),),
        **changes,
    )
    return replace(made, provenance=replace(made.provenance, model_config_hash="m"))


def age(bank, days):
    """Make every picture look old."""
    for sha, _, _ in bank.pictures.listed():
        os.utime(bank.pictures.path(sha), (NOW.timestamp() - days * 86_400,) * 2)


def gone_now(store, bank, options=OPTIONS):
    return doomed(store, bank.root, "", options, now=NOW)


def test_a_run_keeps_its_aggregates_and_its_digests_are_logged(store, bank):
    """Single rows go; concepts, gates, fairness and findings stay, and the log can prove which document it was."""
    old, last = at(100), at(1)
    store.save(old)
    store.save(last)
    before = store.retention.document(old.run)
    prune(gone_now(store, bank), store, bank.root, "", options=OPTIONS, by="ana")
    kept = store.run(old.run)
    assert kept == replace(old, pairs=())
    assert store.run(last.run).pairs
    (event,) = (one for one in store.events() if one.action == "run_reduced")
    assert (event.actor, event.subject) == ("ana", old.run)
    assert event.detail.startswith(f"{sha_of(before)} -> {sha_of(to_json(kept))}: ")
    assert gone_now(store, bank).runs == ()


def test_the_chain_names_both_digests_of_a_reduced_run(store, bank):
    """An exported bundle of the whole document is still a link of it."""
    for one in (at(100), at(1)):
        store.save(one)
    before = store.retention.document(at(100).run)
    assert store.retention.link_before(at(1)).sha256 == sha_of(before)
    prune(gone_now(store, bank), store, bank.root, "", options=OPTIONS, by="ana")
    link = store.retention.link_before(at(1))
    assert (link.run, link.sha256_before_reduction) == (at(100).run, sha_of(before))
    assert link.sha256 != sha_of(before)
    assert store.retention.link_before(at(100)) is None


def test_everything_single_is_found_in_a_full_result():
    """Whatever part of a result names a picture is taken out of it, and nothing else."""
    gallery = factory.Gallery()
    whole = factory.planted(gallery, diffex=woods.grown(gallery), discovery=finds.found(gallery))
    bare = aggregates(whole)
    assert cited(whole)
    assert not list(singles(bare))
    assert not cited(bare)
    assert (bare.concepts, bare.gates, bare.findings) == (whole.concepts, whole.gates, whole.findings)
    assert from_json(to_json(bare)) == bare


def test_pictures_of_the_last_run_stay_and_others_go(store, bank):
    """Cited ones, and all of the bank that a last run rests on."""
    shas = bank.planned()
    age(bank, 40)
    store.save(at(50, shas=tuple(shas[:2])))
    gone = gone_now(store, bank)
    assert {sha for sha, _ in gone.pictures} == set(shas[2:])
    assert gone.kept_pictures == 2
    store.save(at(1, bank=bank.digest))
    assert gone_now(store, bank).pictures == ()


def test_twins_of_the_bank_go_and_stay_with_it(store, bank):
    """They stay while a last run rests on the bank, and go with their row."""
    drawn = draw_twins(bank, bank.plan(), FakeGenerator("reference"), progress=silent)
    age(bank, 40)
    store.save(at(1, bank=bank.digest))
    assert gone_now(store, bank).pictures == ()
    own = {twin.sha256 for twin in drawn if twin.row == "row-1"}
    assert forget_twins(bank, ["row-1"]) == own != set()
    assert not own & {sha for sha, _, _ in bank.pictures.listed()}
    assert twin_pictures(bank) == {twin.sha256 for twin in drawn} - own


def test_young_pictures_stay(store, bank):
    age(bank, 20)
    assert gone_now(store, bank).pictures == ()


def test_a_pruned_picture_is_drawn_again_when_it_is_needed(store, bank):
    """Nothing points at what is gone."""
    before = set(bank.planned())
    age(bank, 40)
    prune(gone_now(store, bank), store, bank.root, "", options=OPTIONS, by="ana")
    assert not list(bank.pictures.listed())
    assert build(bank, small_plan(3), FakeGenerator(), good, progress=silent).drawn == len(bank.images())
    assert set(bank.planned()) == before


def test_a_killed_prune_is_resumed(store, bank, monkeypatch):
    """Names go before files: what is left without a name is found by the next call."""
    age(bank, 40)
    gone = gone_now(store, bank)

    def killed(_self, _sha):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(PictureFolder, "remove", killed)
        with pytest.raises(KeyboardInterrupt):
            prune(gone, store, bank.root, "", options=OPTIONS, by="ana")
    assert bank.planned() == []
    assert gone_now(store, bank).pictures == gone.pictures
    prune(gone_now(store, bank), store, bank.root, "", options=OPTIONS, by="ana")
    assert gone_now(store, bank).pictures == ()
    assert not list(bank.pictures.listed())


def test_answers_of_versions_that_were_not_audited_for_long_go(store, bank):
    """Those of the last versions stay, and those that no run accounts for."""
    old, last = at(200, version="1"), at(100, version="2")
    for run in (old, last):
        store.save(run)
        store.scores.add(target_of(run), {"a" * 64: np.zeros(2)})
    store.scores.add("unknown", {"a" * 64: np.zeros(2)})
    gone = gone_now(store, bank)
    assert (gone.targets, gone.answers, gone.answer_bytes) == ((target_of(old),), 1, 16)
    prune(gone, store, bank.root, "", options=OPTIONS, by="ana")
    assert [bool(store.scores.known(one, ["a" * 64])) for one in (target_of(old), target_of(last), "unknown")] == [
        False,
        True,
        True,
    ]


@pytest.mark.parametrize("by_model", [True, False])
def test_what_is_on_hold_stays_whole(store, bank, by_model):
    """Its document, its pictures, its answers."""
    shas = bank.planned()
    old = at(200, shas=tuple(shas[:2]))
    for run in (old, at(1, version="2")):
        store.save(run)
    store.scores.add(target_of(old), {"a" * 64: np.zeros(2)})
    age(bank, 40)
    store.retention.hold("ham" if by_model else old.run, by="ana", reason="lawsuit")
    gone = gone_now(store, bank)
    assert (gone.runs, gone.targets, gone.held_runs) == ((), (), 1)
    assert not {sha for sha, _ in gone.pictures} & set(shas[:2])
    store.retention.release("ham" if by_model else old.run, by="ana", reason="settled")
    assert gone_now(store, bank).runs
    assert [event.action for event in store.events()][:2] == ["released", "held"]


def test_nothing_is_held_or_released_that_is_not_there(store):
    for call, said in ((store.retention.hold, "no run or model 'x'"), (store.retention.release, "'x' is not on hold")):
        with pytest.raises(StoreError, match=said):
            call("x", by="ana", reason="r")
    with pytest.raises(ConfigError, match="needs a reason"):
        store.retention.hold("x", by="ana", reason=" ")


@pytest.mark.parametrize("zero", ["pictures_days", "runs_days", "scores_days"])
def test_zero_keeps_for_ever(store, bank, zero):
    store.save(at(4_000))
    store.save(at(1, version="2"))
    store.scores.add(target_of(at(4_000)), {"a" * 64: np.zeros(2)})
    age(bank, 4_000)
    gone = gone_now(store, bank, replace(OPTIONS, **{zero: 0}))
    kept = {"pictures_days": gone.pictures, "runs_days": gone.runs, "scores_days": gone.targets}
    assert [name for name, what in kept.items() if not what] == [zero]


@pytest.fixture
def shown(store, bank, tmp_path):
    """An image with an edit, a copy, drawn pictures, answers, a run that shows it, atomic rows and inversions; and another image."""
    edits = EditStore(bank.root)
    shas = {}
    for at_, (name, origin, against) in enumerate(
        [("copy", REAL, ""), ("edit", REAL, ""), ("old", "", ""), ("other", "e" * 64, "")]
    ):
        shas[name] = edits.put(encode_png(np.full((4, 4, 3), at_, np.uint8), synthetic=False))
        edits.add({f"recipe {name}": StoredEdit(sha256=shas[name], origin=origin, against=against)})
        edits.add_readings("d", {shas[name]: {"c": [0.5, 0.5]}})
    keep_answers(bank.root, {(shas["edit"], "node"): True, (shas["other"], "node"): False})
    store.save(at(3, shas=(shas["copy"], shas["edit"]), bank=bank.digest))
    every = {REAL, "e" * 64, *shas.values(), *bank.planned()}
    store.scores.add("target", {sha: np.zeros(2) for sha in every})
    bank.add_readings("d", {REAL: np.zeros(5, np.float32), "e" * 64: np.zeros(5, np.float32)})
    report = tmp_path / "report"
    report.mkdir()
    text = f"image,before_sha256,after_sha256\nrow-1,,\nrow-2,{shas['copy']},\nrow-2,,\n"
    (report / "diffex-rows-ham-1.csv.gz").write_bytes(gzip.compress(text.encode()))
    (bank.root / "inversions").mkdir()
    (bank.root / "inversions" / "k.safetensors").write_bytes(b"x")
    return Places(bank=bank.root, report=report, capture=tmp_path / "captured"), edits, shas


def erase(store, places):
    return forget(REAL, store, places, rows=frozenset({"row-1"}), by="ana", reason="request 12")


def test_everything_of_a_forgotten_image_goes_and_nothing_else(store, bank, shown):
    """Aggregates stay, and so does whatever belongs to another image."""
    places, edits, shas = shown
    drawn = bank.drawn_for(["row-1"])
    told = erase(store, places)
    assert (told.first, told.edits, told.unattributed, told.drawn, told.runs) == (True, 2, 1, len(drawn), 1)
    assert (told.inversions, told.row_files) == (1, 1)
    assert told.answers == 4 + len(drawn)
    assert edits.named == [shas["other"]]
    assert set(edits.readings("d", shas.values())) == {shas["other"]}
    left = {sha for sha, _, _ in bank.pictures.listed()}
    assert not left & {*drawn, shas["copy"], shas["edit"], shas["old"]}
    assert shas["other"] in left
    assert store.scores.known("target", [REAL, *shas.values(), *drawn]) == {shas["other"]}
    assert store.scores.known("target", ["e" * 64])
    again = ProbeBank.open(bank.root)
    assert "row-1" not in {row.id for row in again.plan().rows}
    assert "row-2" in {row.id for row in again.plan().rows}
    assert set(again.readings("d")) == {"e" * 64}
    (last,) = store.last_runs()
    assert last.pairs == ()
    assert last.concepts == at(3).concepts
    lines = list(csv.reader(io.StringIO(gzip.decompress((places.report / "diffex-rows-ham-1.csv.gz").read_bytes()).decode())))
    assert lines[1:] == [["row-2", "", ""]]
    assert read_tombstones(places.capture) == {REAL}
    assert set(known_answers(bank.root)) == {(shas["other"], "node")}


def test_forgetting_twice_finds_nothing_more(store, shown):
    """And the tombstone keeps who asked first, and why."""
    erase(store, shown[0])
    events = len(store.events())
    again = forget(REAL, store, shown[0], rows=frozenset({"row-1"}), by="bob", reason="again")
    assert not again.first
    assert not again.anything
    assert len(store.events()) == events
    (stone,) = store.retention.tombstones()
    assert (stone.sha256, stone.by, stone.reason) == (REAL, "ana", "request 12")


@pytest.mark.parametrize(
    "where", ["audit_plugin.bank.edit_store.EditStore._transaction", "audit_plugin.bank.store.ProbeBank._transaction"]
)
def test_a_killed_forget_is_completed_by_the_next(store, bank, shown, monkeypatch, where):
    """Names go last, so that what is left is found again."""
    places, edits, shas = shown

    def killed(_self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(where, killed)
        with pytest.raises(KeyboardInterrupt):
            erase(store, places)
    assert store.retention.tombstones()
    erase(store, places)
    assert edits.named == [shas["other"]]
    assert not bank.drawn_for(["row-1"])
    assert not (bank.root / "inversions").exists()


def test_a_hold_outranks_a_request(store, shown):
    """Nothing is touched before somebody decides."""
    store.retention.hold("ham", by="ana", reason="lawsuit")
    with pytest.raises(StoreError, match="on hold"):
        erase(store, shown[0])
    assert store.retention.tombstones() == ()
    assert store.scores.known("target", [REAL])


def test_a_picture_that_was_drawn_is_forgotten_for_good(store, bank, tmp_path):
    """With its twin: no build draws them again, neither in this bank nor in a new one, and the audit goes on without them."""
    drawn = draw_twins(bank, bank.plan(), FakeGenerator("reference", size=4), progress=silent)
    recipe, twin = drawn[0].recipe, drawn[0].sha256
    sha, places = bank.images()[recipe].sha256, Places(bank=bank.root, report=tmp_path)
    store.scores.add("target", {sha: np.zeros(2), twin: np.zeros(2)})
    bank.add_readings("d", {sha: np.zeros(5, np.float32)})
    told = forget(twin, store, places, rows=frozenset(), by="ana", reason="request 12")
    assert (told.first, told.drawn, told.answers) == (True, 2, 2)
    assert {stone.sha256 for stone in store.retention.tombstones()} == {sha, twin}
    assert build(bank, small_plan(3), FakeGenerator(), good, progress=silent).drawn == 0
    assert verify_files(bank, progress=silent).missing == ()
    assert sha not in bank.usable()
    assert load_table(bank).rejected == {sha: FORGOTTEN}
    assert bank.readings("d") == {}
    assert recipe not in {one.recipe for one in draw_twins(bank, bank.plan(), FakeGenerator("reference", size=4), progress=silent)}
    fresh = new_bank(tmp_path / "fresh")
    report = build(fresh, small_plan(3), FakeGenerator(), good, progress=silent, buried={sha, twin})
    assert (report.rejected, fresh.images()[recipe].rejected) == (1, FORGOTTEN)
    for one in (bank, fresh):
        assert not {sha, twin} & {name for name, _, _ in one.pictures.listed()}
    again = forget(twin, store, places, rows=frozenset(), by="bob", reason="again")
    assert (again.first, again.anything) == (False, False)
    assert not forget(sha, store, places, rows=frozenset(), by="bob", reason="again").anything


def test_an_edit_is_forgotten_with_its_original_only(store, shown):
    """It would be made again; nothing is touched before."""
    places, edits, shas = shown
    EditStore(places.bank).add({"drawn": StoredEdit(sha256="c" * 64, origin=NO_ORIGINAL)})
    for sha, said in ((shas["edit"], f"--image {REAL}"), ("c" * 64, "from words")):
        with pytest.raises(ConfigError, match=said):
            forget(sha, store, places, rows=frozenset(), by="ana", reason="r")
    assert store.retention.tombstones() == ()
    assert edits.pictures.damage(shas["edit"]) == ""


def test_another_process_notices_what_was_deleted(store, tmp_path):
    """A reduced document, its summary, and that pictures went; whatever did not change stays in memory."""
    old, last = at(100), at(1)
    for one in (old, last):
        store.save(one)
    service = Store.open(tmp_path / "audit.db")
    kept = {run.run: service.run(run.run) for run in (old, last)}
    assert service.pages.summaries([old.run])[0].pictures
    changes = service.changes()
    store.retention.replace_document(old.run, aggregates, by="ana", why="old")
    assert service.run(old.run).pairs == ()
    assert service.run(last.run) is kept[last.run]
    assert not service.pages.summaries([old.run])[0].pictures
    assert service.changes() == changes + 1
    store.retention.note("ana", "image_forgotten", "x", "deleted 1 drawn")
    assert service.changes() == changes + 2
    service.close()


def test_metrics_follow_a_changed_document(store):
    """Without a new run."""
    store.save(at(1))
    collector = AuditCollector(store=store)
    before = collector.samples()
    assert any(sample.metric == "rows" for sample in before)
    store.retention.replace_document(at(1).run, lambda one: replace(one, n_rows=7, pairs=()), by="ana", why="changed")
    assert [sample.value for sample in collector.samples() if sample.metric == "rows"] == [7]


@pytest.mark.parametrize(("sha", "reason"), [("x", "r"), (REAL, " ")])
def test_a_tombstone_needs_an_image_and_a_reason(store, sha, reason):
    with pytest.raises(ConfigError):
        store.retention.bury(sha, by="ana", reason=reason)
