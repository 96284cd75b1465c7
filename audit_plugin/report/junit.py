"""Judgements as JUnit XML, which every CI server reads: one suite a model version, one test case for everything that was asked."""

import re
from collections.abc import Sequence
from typing import Final
from xml.etree import ElementTree as ET

from audit_plugin.findings.release import Case, Judgement

_FORBIDDEN: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold, escaped or not."""
_TAGS: Final = {"failed": "failure", "error": "error", "skipped": "skipped"}


def junit(judgements: Sequence[Judgement]) -> str:
    """The XML document."""
    root = ET.Element("testsuites", _counts([case for one in judgements for case in one.cases]) | {"name": "audit-plugin"})
    for one in judgements:
        name = _clean(f"{one.model}:{one.version} {one.label}")
        suite = ET.SubElement(root, "testsuite", {"name": name, **_counts(one.cases), "time": "0"})
        facts = ET.SubElement(suite, "properties")
        for key, value in (("run", one.run), ("baseline", one.baseline), ("baseline_of", one.baseline_of)):
            ET.SubElement(facts, "property", {"name": key, "value": _clean(value)})
        for case in one.cases:
            _case(suite, name, case)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _case(suite: ET.Element, name: str, case: Case) -> None:
    element = ET.SubElement(
        suite, "testcase", {"classname": f"{name}.{case.group}", "name": _clean(case.name), "time": "0"}
    )  # fmt: skip
    if tag := _TAGS.get(case.status):
        ET.SubElement(element, tag, {"message": _clean(case.message)})
    elif case.message:
        ET.SubElement(element, "system-out").text = _clean(case.message)


def _counts(cases: Sequence[Case]) -> dict[str, str]:
    count = {status: str(sum(case.status == status for case in cases)) for status in ("failed", "error", "skipped")}
    return {"tests": str(len(cases)), "failures": count["failed"], "errors": count["error"], "skipped": count["skipped"]}


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("�", text)
