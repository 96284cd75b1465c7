"""Commands that compare, judge, export, prune and forget: exit codes, forms of output, and what they leave behind."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import yaml

from audit_plugin.core.results import GateStatus, RunState, Verdict
from audit_plugin.core.values import Role
from audit_plugin.findings.findings import conclude
from audit_plugin.findings.policy import default_policy
from audit_plugin.store.store import Store
from tests.findings.examples import clean, concept, gap, gate, result

POLICY = default_policy()


def audited(number, *, version="1", model="leaves", **changes):
    """A concluded run; the higher the number, the later."""
    run = result(
        run=f"2026112{number}T080000.000000Z-0000000{number}", bank=f"bank-{number}", model=model, version=version, label="sick"
    )
    return conclude(replace(run, **changes), POLICY)


@pytest.fixture(scope="module")
def migrated(tmp_path_factory):
    file = tmp_path_factory.mktemp("store") / "audit.sqlite"
    Store.open(file, migrate=True).close()
    return file


@pytest.fixture
def site(tmp_path, migrated, config):
    """A configuration with a store, and how to save runs in it."""
    shutil.copy(config, tmp_path / "audit.yaml")
    shutil.copy(migrated, tmp_path / "audit.sqlite")
    return tmp_path / "audit.yaml"


def save(site, *runs):
    store = Store.open(site.parent / "audit.sqlite")
    for one in runs:
        store.save(one)
    store.close()


def opened(site):
    return Store.open(site.parent / "audit.sqlite")


RELIES = (concept("site", Role.NUISANCE, low=0.2),)
FREE = (clean("site"),)


def test_a_regression_ends_with_1_and_names_it(run, site):
    """By versions; the other way round it is an improvement."""
    save(site, audited(1, version="1", concepts=FREE), audited(2, version="2", concepts=RELIES))
    answer = run("compare", "leaves:1", "leaves:2", "--config", site, "-o", "json")
    assert answer.exit_code == 1
    told = json.loads(answer.stdout)
    assert not told["paired"]
    assert [row["verdict"] for row in told["differences"] if row["quantity"] == "importance"] == ["regressed"]
    assert run("compare", "leaves:2", "leaves:1", "--config", site).exit_code == 0


def test_a_comparison_says_that_it_is_not_paired(run, site):
    save(site, audited(1, concepts=FREE), audited(2, version="2", concepts=FREE))
    answer = run("compare", audited(1).run, "leaves", "--config", site)
    assert answer.exit_code == 0
    assert "not paired: the banks differ" in answer.stdout
    refused = run("compare", "leaves:1", "leaves:2", "--config", site, "--paired-only")
    assert refused.exit_code == 2
    assert "not paired: the banks differ" in refused.stderr


@pytest.mark.parametrize("word", ["nobody", "leaves:9", "20260101T000000Z-x"])
def test_an_unknown_run_is_the_users_error(run, site, word):
    save(site, audited(1))
    answer = run("compare", "leaves", word, "--config", site)
    assert answer.exit_code == 2
    assert f"there is no run '{word}'; last runs are of leaves:1" in answer.stderr


def test_a_page_holds_no_script_and_fetches_nothing(run, site):
    """And whatever a model is called is escaped."""
    save(site, audited(1, concepts=FREE), audited(2, version="<script>x</script>", concepts=RELIES))
    page = site.parent / "page.html"
    assert run("compare", audited(1).run, audited(2).run, "--config", site, "--out", page).exit_code == 1
    text = page.read_text()
    assert "<script" not in text
    assert "&lt;script&gt;x" in text
    assert "default-src 'none'" in text
    assert "http://" not in text
    assert "regressed" in text
    assert text.count("<circle") >= 2


def test_a_page_of_another_form_is_refused(run, site):
    save(site, audited(1, concepts=FREE), audited(2, concepts=FREE))
    answer = run("compare", audited(1).run, audited(2).run, "--config", site, "--out", site.parent / "x.pdf")
    assert (answer.exit_code, "ends in .html or .json" in answer.stderr) == (2, True)


def test_exit_codes_of_the_gate(run, site):
    """What --fail-on names decides, and mistakes of the user are told from findings."""
    save(site, audited(1, concepts=FREE), audited(2, version="2", concepts=RELIES))
    for options, code in [
        ((), 1),
        (("--fail-on", "gates"), 0),
        (("--fail-on", "gates", "--fail-on", "findings"), 1),
        (("--baseline", "leaves:7"), 2),
        (("--model", "nobody"), 2),
        (("--fail-on", "everything"), 2),
        (("--paired-only",), 2),
    ]:
        assert run("gate", site, *options).exit_code == code, options


def test_what_is_not_assessable_could_not_be_judged(run, site):
    """By gate, compare and JUnit alike; unless that is said to be a failure."""
    silent = (concept("site", Role.NUISANCE, low=0.05, verdict=Verdict.NOT_ASSESSABLE),)
    save(site, audited(1, concepts=silent), audited(2, version="2", concepts=silent))
    answer = run("gate", site, "-o", "junit")
    assert answer.exit_code == 3
    assert "leaves:2: could not be decided" in answer.stderr
    (suite,) = ET.fromstring(answer.stdout)
    cases = {case.get("name"): case for case in suite.iter("testcase")}
    assert cases["baseline"].find("error") is not None
    assert cases["importance/site/nuisance"].find("skipped") is not None
    assert run("gate", site, "--fail-on", "findings").exit_code == 3
    assert run("gate", site, "--fail-on", "regression", "--fail-on", "undecided").exit_code == 1
    assert run("gate", site, "--fail-on", "gates").exit_code == 0
    compared = run("compare", "leaves:1", "leaves:2", "--config", site)
    assert (compared.exit_code, "could not be decided" in compared.stderr) == (3, True)


def test_a_baseline_of_another_model_is_said_or_refused(run, site):
    """It has to answer the same question, and whoever reads the output knows."""
    save(site, audited(1, model="trees", concepts=FREE), audited(2, version="2", concepts=FREE))
    answer = run("gate", site, "--baseline", "trees:1")
    assert answer.exit_code == 0
    assert "leaves:2 against another model, trees:1, run 20261121" in " ".join(answer.stdout.split())
    (suite,) = ET.fromstring(run("gate", site, "--baseline", "trees:1", "-o", "junit").stdout)
    assert [one.get("value") for one in suite.iter("property") if one.get("name") == "baseline_of"] == ["trees:1"]
    told = json.loads(run("gate", site, "--baseline", "trees:1", "-o", "json").stdout)
    assert any("another model, trees:1" in row["message"] for row in told)
    save(site, audited(3, model="trees", version="9", concepts=FREE, classes=("x", "y")))
    refused = run("gate", site, "--baseline", "trees:9")
    assert (refused.exit_code, "trees:9 is another model than leaves" in refused.stderr) == (2, True)


def test_a_first_version_has_nothing_to_be_compared_with(run, site):
    """It could not be judged, which is not the same as clean; findings can."""
    save(site, audited(1, concepts=FREE))
    answer = run("gate", site)
    assert answer.exit_code == 3
    assert "there is no earlier run to compare with" in answer.stdout
    assert run("gate", site, "--fail-on", "findings").exit_code == 0


def test_no_run_and_a_broken_run_could_not_be_judged(run, site):
    """The second outranks whatever else is asked."""
    none = run("gate", site)
    assert (none.exit_code, "`audit-plugin run` makes one" in none.stderr) == (3, True)
    save(site, audited(1, concepts=FREE), audited(2, version="2", state=RunState.INVALID_GENERATOR))
    assert run("gate", site, "--fail-on", "findings").exit_code == 3


def test_junit_is_xml_with_a_case_for_everything(run, site):
    """Failures with their message, undecided ones skipped; characters that XML cannot hold do no harm."""
    open_one = concept("open\x00<&", Role.NUISANCE, low=-0.01, verdict=concept().verdict.INCONCLUSIVE)
    new = (*RELIES, open_one)
    save(
        site,
        audited(1, concepts=FREE),
        audited(2, version="2", concepts=new, fairness=(gap(),), gates=(gate("G4", GateStatus.FAIL, "site"), gate("G1"))),
    )
    file = site.parent / "out" / "junit.xml"
    answer = run("gate", site, "-o", "junit", "--junit", file, "--fail-on", "findings", "--fail-on", "regression")
    assert answer.exit_code == 1
    assert answer.stdout == file.read_text()
    (suite,) = ET.fromstring(answer.stdout)
    cases = {case.get("name"): case for case in suite.iter("testcase")}
    assert suite.get("name") == "leaves:2 sick"
    assert "site" in cases["site"].find("failure").get("message")
    assert cases["open�<&"].find("skipped") is not None
    assert cases["skin"].find("failure") is not None
    assert cases["G4 target parity (site)"].find("skipped") is not None
    assert cases["G1 target parity"].find("skipped") is None
    regressed = cases["importance/site/nuisance"].find("failure").get("message")
    assert regressed.startswith("regressed: 0.01 -> 0.22, difference +0.2100")
    assert int(suite.get("failures")) == len(list(suite.iter("failure")))
    assert int(suite.get("skipped")) == len(list(suite.iter("skipped")))
    assert int(suite.get("tests")) == len(cases)


def test_the_gate_in_other_forms(run, site):
    save(site, audited(1, concepts=FREE), audited(2, version="2", concepts=RELIES))
    rows = json.loads(run("gate", site, "-o", "json").stdout)
    assert {row["status"] for row in rows} >= {"passed", "failed"}
    assert yaml.safe_load(run("gate", site, "-o", "yaml").stdout) == rows
    assert "leaves:2 against 20261121T080000.000000Z-00000001: 1 failed" in " ".join(run("gate", site).stdout.split())


def test_previous_is_the_newest_of_another_version(run, site):
    """A second audit of the same version is compared with the version before it, not with itself."""
    save(site, audited(1, concepts=FREE), audited(2, version="2", concepts=RELIES), audited(3, version="2", concepts=RELIES))
    assert run("gate", site).exit_code == 1


def test_a_run_is_exported_and_verified(run, site):
    """And the audit log knows the manifest that was written."""
    save(site, audited(1, concepts=FREE), audited(2, version="2", concepts=RELIES))
    bundle = site.parent / "evidence"
    answer = run("export", site, "--run", "leaves:2", "--out", bundle, "--by", "ana", "-o", "json")
    assert answer.exit_code == 0
    digest = json.loads(answer.stdout)["manifest_sha256"]
    event = opened(site).events()[0]
    assert (event.actor, event.action, event.detail) == ("ana", "run_exported", f"manifest.json {digest}")
    sound = run("verify", bundle, "--manifest", digest, "-o", "json")
    assert (sound.exit_code, json.loads(sound.stdout)["previous_run"]) == (0, audited(1).run)
    assert run("verify", bundle, "--manifest", "0" * 64).exit_code == 1
    assert run("export", site, "--run", "leaves:2", "--out", bundle).exit_code == 2
    (bundle / "report.html").write_text("nothing to see")
    changed = run("verify", bundle)
    assert changed.exit_code == 1
    assert "report.html" in changed.stdout
    assert run("verify", site.parent / "nowhere").exit_code == 3


def test_prune_says_what_would_go(run, site):
    """A dry run leaves everything; the numbers of the command line outrank the configuration."""
    save(site, audited(1), audited(2))
    answer = run("prune", site, "--dry-run", "--runs-days", "0", "-o", "json")
    assert answer.exit_code == 0
    assert json.loads(answer.stdout)["pictures"] == 0
    assert "nothing was deleted" in answer.stderr
    assert run("prune", site, "--pictures-days", "-1").exit_code == 2


def test_holds_are_listed_and_end(run, site):
    save(site, audited(1))
    assert run("hold", site, "leaves", "--reason", "lawsuit", "--by", "ana").exit_code == 0
    (hold,) = json.loads(run("hold", site, "-o", "json").stdout)
    assert (hold["subject"], hold["by"], hold["reason"]) == ("leaves", "ana", "lawsuit")
    assert run("hold", site, "leaves").exit_code == 2
    assert run("hold", site, "nobody", "--reason", "r").exit_code == 3
    assert run("release", site, "leaves", "--reason", "settled").exit_code == 0
    assert run("release", site, "leaves", "--reason", "settled").exit_code == 3


def test_a_forgotten_image_leaves_the_audit(run, site):
    """By its file; the table's line is passed over from then on, and the second call finds nothing."""
    from audit_plugin.config import load
    from audit_plugin.wiring import Installation

    folder = site.parent / "photos"
    folder.mkdir()
    for at in range(3):
        (folder / f"{at}.png").write_bytes(f"image {at}".encode())
    lines = ["file,split,sick,site", *(f"{at}.png,test,{'ny'[at % 2]},{['sun', 'shade'][at % 2]}" for at in range(3))]
    (site.parent / "table.csv").write_text("\n".join(lines) + "\n")
    before = Installation(load(site), lambda *_: None).source
    answer = run("forget", site, "--image", folder / "1.png", "--reason", "request 12", "--by", "ana", "-o", "json")
    assert answer.exit_code == 0
    told = json.loads(answer.stdout)
    assert (told["first"], told["rows"], told["sha256"]) == (True, "1.png", hashlib.sha256(b"image 1").hexdigest())
    after = Installation(load(site), lambda *_: None).source
    assert [row.id for row in after.rows] == ["0.png", "2.png"]
    assert (after.forgotten, after.digest != before.digest) == (1, True)
    again = run("forget", site, "--image", told["sha256"], "--reason", "once more")
    assert again.exit_code == 0
    assert "nothing of it was left" in again.stderr
    assert run("forget", site, "--image", Path("nowhere.png"), "--reason", "r").exit_code == 2
