"""Self-tests for the tests of report and metrics."""

from dataclasses import replace

from audit_plugin.core.estimate import Estimate
from audit_plugin.core.selftest_results import ConceptSelfTest, Detection, DetectionCurve, Part, SelfTest
from audit_plugin.core.values import Role
from audit_plugin.statistics.intervals import clopper_pearson


def curve(found, *, part=Part.ANY, runs=50, **changes):
    """Size -> runs with a finding."""
    rates = {size: clopper_pearson(hits, runs) for size, hits in found.items()}
    points = tuple(
        Detection(
            size=size, found=hits, runs=runs, rate=Estimate(value=rates[size].value, low=rates[size].low, high=rates[size].high)
        )
        for size, hits in found.items()
    )
    return DetectionCurve(part=part, points=points, **changes)


def tried(name="background", *curves, **changes):
    """A concept that is found from an effect of 1 on."""
    curves = curves or (curve({0.0: 0, 0.3: 10, 1.0: 48, 3.0: 50}, size80=0.85, size95=0.99),)
    base = ConceptSelfTest(concept=name, role=Role.NUISANCE, level="grass", curves=curves, false_findings=0, runs=50)
    return replace(base, **changes)


def selftest(*concepts, **changes):
    """Of the audit of :func:`tests.findings.examples.result`."""
    base = SelfTest(
        model="ham", version="1", target="t", label="lesion", class_name="malignant", bank_digest="bank-1", generator="g0", detector="d0",
        policy_digest="p", rows=300, images=32, concepts=concepts or (tried(),), false_findings=0, false_runs=50, broken=1, runs=200,
        epsilon=1e-7, clipped=0.0, notes=("no threshold bounds flips",), seconds=61.0, finished_at="2026-11-29T08:00:00Z",
    )  # fmt: skip
    return replace(base, **changes)
