"""Two audited models as a real audit would leave them, with pictures drawn by Pillow.

``planted`` rests on a watermark that must not matter; ``clean`` rests on shape alone.  Both were asked about the same pictures.
"""

import dataclasses
import functools
import hashlib
import io
import random
from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw

from audit_plugin.core.estimate import Estimate
from audit_plugin.core.results import (
    AuditResult,
    ConceptResult,
    EngineCheck,
    EngineUse,
    FairnessFigure,
    Finding,
    Gate,
    GateStatus,
    Pair,
    Provenance,
    RunState,
    Verdict,
)
from audit_plugin.core.values import Role

ROLES = {
    "shape": Role.CORE,
    "colour": Role.CONTEXT,
    "size": Role.CONTEXT,
    "background": Role.NUISANCE,
    "lighting": Role.NUISANCE,
    "watermark": Role.ARTEFACT,
    "tone": Role.PROTECTED,
}
LEVELS = {
    "shape": ("circle", "square"),
    "colour": ("red", "green", "blue"),
    "size": ("small", "large"),
    "background": ("plain", "striped"),
    "lighting": ("dim", "bright"),
    "watermark": ("absent", "present"),
    "tone": ("a", "b"),
}
PLANTED = {
    "shape": (0.214, 0.03, Verdict.RELIES),
    "watermark": (0.163, 0.028, Verdict.RELIES),
    "colour": (0.012, 0.011, Verdict.NEGLIGIBLE),
    "size": (0.021, 0.022, Verdict.INCONCLUSIVE),
    "background": (-0.004, 0.008, Verdict.NEGLIGIBLE),
    "lighting": (-0.041, 0.014, Verdict.HURTS),
    "tone": (0.034, 0.012, Verdict.INCONCLUSIVE),
}
CLEAN = {
    "shape": (0.372, 0.031, Verdict.RELIES),
    "watermark": (0.002, 0.006, Verdict.NEGLIGIBLE),
    "colour": (0.004, 0.007, Verdict.NEGLIGIBLE),
    "size": (0.017, 0.019, Verdict.INCONCLUSIVE),
    "background": (0.001, 0.009, Verdict.NEGLIGIBLE),
    "lighting": (-0.003, 0.008, Verdict.NEGLIGIBLE),
    "tone": (0.006, 0.012, Verdict.INCONCLUSIVE),
}
WEAK = "tone"
ROWS = 150


class Gallery:
    """Pictures by sha256, made on demand."""

    def __init__(self) -> None:
        self.pictures: dict[str, bytes] = {}

    def add(self, values: Mapping[str, str], seed: int) -> str:
        content = scene(values, seed)
        sha256 = hashlib.sha256(content).hexdigest()
        self.pictures[sha256] = content
        return sha256

    def __call__(self, sha256: str) -> bytes | None:
        return self.pictures.get(sha256)


def scene(values: Mapping[str, str], seed: int) -> bytes:
    """A 64x64 scene as PNG; everything but the given values comes from the seed."""
    return _scene(tuple(values.items()), seed)


@functools.cache
def _scene(items: tuple[tuple[str, str], ...], seed: int) -> bytes:
    values = dict(items)
    draw_from = random.Random(seed)
    level = {"dim": 0.62, "bright": 1.0}[values["lighting"]]
    paper = 205 + draw_from.randrange(30)
    picture = Image.new("RGB", (64, 64), tuple(int(c * level) for c in (paper, paper, paper - 8)))
    pen = ImageDraw.Draw(picture)
    if values["background"] == "striped":
        for x in range(0, 64, 8):
            pen.rectangle([x, 0, x + 3, 63], fill=tuple(int(c * level) for c in (paper - 38, paper - 32, paper - 26)))
    radius = {"small": 9, "large": 16}[values["size"]]
    x, y = 32 + draw_from.randrange(-9, 10), 34 + draw_from.randrange(-7, 8)
    hue = {"red": (206, 62, 48), "green": (52, 150, 84), "blue": (52, 92, 190)}[values["colour"]]
    fill = tuple(int(c * level) for c in hue)
    outline = (30, 30, 30) if values["tone"] == "b" else None
    shape = pen.ellipse if values["shape"] == "circle" else pen.rectangle
    shape([x - radius, y - radius, x + radius, y + radius], fill=fill, outline=outline, width=2)
    if values["watermark"] == "present":
        pen.rectangle([4, 53, 26, 60], fill=(250, 250, 250))
        for tick in range(6, 26, 4):
            pen.line([tick, 53, tick, 57], fill=(20, 20, 20))
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def estimate(value: float, half: float) -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half)


def concept(name: str, value: float, half: float, verdict: Verdict, **changes: object) -> ConceptResult:
    strong = verdict in {Verdict.RELIES, Verdict.HURTS}
    share = 1 / len(LEVELS.get(name, ("no", "yes")))
    made = ConceptResult(
        concept=name,
        role=ROLES.get(name, Role.CONTEXT),
        metric="auroc",
        importance=estimate(value, half),
        se=half / 1.96,
        p=0.0001 if strong else 0.21,
        p_holm=0.0007 if strong else 0.84,
        p_bh=0.0004 if strong else 0.33,
        removed=estimate(2.1 * value, 2 * half),
        added=estimate(1.8 * value, 2 * half),
        prevalence_free=estimate(1.02 * value, half),
        conditional=estimate(0.9 * value, 1.1 * half),
        compliance=estimate(0.64 if name == WEAK else 0.96, 0.03),
        compliance_scaled=estimate(value / (0.64 if name == WEAK else 0.96), 1.3 * half),
        leak_adjusted=estimate(0.97 * value, half),
        flip_rate=estimate(abs(value) + 0.02, half),
        flip_rate_excess=estimate(abs(value), half),
        score_shift=estimate(1.4 * abs(value), half),
        rank_low=1 if value > 0.1 else 3,
        rank_high=2 if value > 0.1 else 7,
        p_first=0.91 if value > 0.2 else 0.0,
        n_rows=ROWS,
        n_discordant=round(ROWS * min(1.0, abs(value) + 0.05)),
        levels=dict.fromkeys(LEVELS.get(name, ("no", "yes")), share),
        mde80=1.43 * half,
        margin=0.02,
        verdict=verdict,
        validity="weak_edit" if name == WEAK else "valid",
        notes=("Edits of this concept reach the picture in 64 % of the cases.",) if name == WEAK else (),
    )
    return dataclasses.replace(made, **changes)


def gate(title: str, subject: str, value: float, bound: str, **changes: object) -> Gate:
    """A gate that passed unless told otherwise; the title begins with its number."""
    number, _, words = title.partition(" ")
    made = Gate(
        name=number,
        title=words,
        subject=subject,
        status=GateStatus.PASS,
        value=value,
        low=value - 0.02,
        high=value + 0.02,
        bound=bound,
    )
    return dataclasses.replace(made, **changes)


def gates(real: float, generated: float) -> tuple[Gate, ...]:
    found = [gate("G1 target parity", "", real - generated, "at most 0.05")]
    for index, name in enumerate(ROLES):
        found += [
            gate("G0 rows per level", name, 71 - index, "at least 30"),
            gate("G2 concept parity", name, 0.01 + index / 500, "at most 0.05"),
            gate("G3a obedience", name, 0.96, "at least 0.80") if name != WEAK else weak_gate(),
            gate("G5 detector", name, 0.99 - index / 200, "at least 0.85"),
            gate("G7 support", name, 0.02, "at most 0.20"),
        ]
    found += [independence(a, b, leak) for a, row in leakage().items() for b, leak in row.items()]
    explained = "The listed concepts explain 69 % of the model's skill."
    return (
        *found,
        gate("G6 placebo", "", 0.003, "inside ±0.02"),
        gate("G8 concept set", "", 0.31, "at most 0.20", status=GateStatus.WARN, consequence=explained),
        gate("G9 image sanity", "", 0.004, "at most 0.01"),
    )


def weak_gate() -> Gate:
    what = "Value shown as “at least”; not ranked; cannot be called negligible."
    return gate("G3a obedience", WEAK, 0.64, "at least 0.80", status=GateStatus.WARN, consequence=what)


def independence(changed: str, seen: str, leak: float) -> Gate:
    made = gate("G4 independence", f"{changed}->{seen}", leak, "at most 0.05")
    if leak <= 0.05:
        return made
    return dataclasses.replace(made, status=GateStatus.WARN, consequence=f"Value flagged: leaks into {seen}.")


def leakage() -> dict[str, dict[str, float]]:
    draw_from = random.Random(3)
    table = {a: {b: round(draw_from.uniform(-0.01, 0.035), 3) for b in ROLES if b != a} for a in ROLES}
    table["background"]["lighting"] = 0.071
    return table


def figure(kind: str, value: float, half: float, concern: str, *, of_concern: bool = False) -> FairnessFigure:
    """A figure of the protected concept; ``kind`` begins with its family."""
    family, _, name = kind.partition(" ")
    return FairnessFigure(
        concept="tone", family=family, figure=name, levels=("a", "b"), estimate=estimate(value, half), n=ROWS,
        concern=concern, of_concern=of_concern,
    )  # fmt: skip


def fairness(biased: bool) -> tuple[FairnessFigure, ...]:
    gap = 0.09 if biased else 0.01
    return (
        figure("interventional flip rate excess", 0.04 if biased else 0.004, 0.02, "above 0.02"),
        figure("interventional counterfactual parity gap", 0.031 if biased else -0.004, 0.03, "above 0.05"),
        figure("observational statistical parity difference", gap, 0.04, "above 0.05", of_concern=biased),
        figure("observational equal opportunity difference", gap / 2, 0.05, "above 0.05"),
    )


def pairs(gallery: Gallery, effects: Mapping[str, tuple[float, float, Verdict]], model_seed: int) -> tuple[Pair, ...]:
    made = []
    for name in ROLES:
        for index in range(18):
            choice = "random" if index < 12 else "extreme"
            number = index if choice == "random" else 20 + 7 * model_seed + index
            made.append(_pair(gallery, (name, number), choice, effect=effects[name][0], model_seed=model_seed))
    return tuple(made)


def _pair(gallery: Gallery, place: tuple[str, int], choice: str, *, effect: float, model_seed: int) -> Pair:
    name, number = place
    world = random.Random(f"{name}-{number}")
    values = {key: world.choice(options) for key, options in LEVELS.items()}
    before_level = values[name]
    after_level = world.choice([level for level in LEVELS[name] if level != before_level])
    noise = random.Random(f"{name}-{number}-{model_seed}")
    before = noise.uniform(0.04, 0.96)
    size = abs(effect) * (4 if choice == "extreme" else noise.uniform(0.2, 3))
    after = min(max(before + (size if before < 0.5 else -size), 0.01), 0.99)
    return Pair(
        row=f"scene-{number:04d}",
        concept=name,
        level_from=before_level,
        level_to=after_level,
        before_sha256=gallery.add(values, number),
        after_sha256=gallery.add({**values, name: after_level}, number),
        before_caption=", ".join(values.values()),
        after_caption=", ".join({**values, name: after_level}.values()),
        score_before=before,
        score_after=after,
        decision_before="marked" if before > 0.5 else "plain",
        decision_after="marked" if after > 0.5 else "plain",
        choice=choice,
    )


def finding(model: str) -> Finding:
    return Finding(
        id=f"{model}/watermark/reliance",
        kind="reliance",
        model=model,
        concept="watermark",
        metric="auroc",
        value=0.163,
        low=0.135,
        high=0.191,
        threshold=0.02,
        severity="warning",
        summary="AUROC falls by 0.163 when the watermark is permuted; the threshold is 0.02.",
        owner="imaging platform team",
        reason="Watermarks come from one scanner and must not decide.",
        date="2026-09-01",
        runbook="https://runbooks.example.org/concept-reliance",
        version="1",
        label="shape",
        rule="artefact",
        n=ROWS,
        strong=True,
    )


def provenance(**changes: object) -> Provenance:
    made = Provenance(
        audit="scenes",
        started_at="2026-11-22T09:14:03Z",
        finished_at="2026-11-22T09:17:41Z",
        plugin_version="0.1.0",
        machine="x86-64, 2 cores, 8 GiB",
        versions={"numpy": "2.4.6", "onnxruntime": "1.24.1", "tritonclient": "2.63.0"},
        server="triton 2.51.0",
        config_hash="3f6d1c09a4be5d7721aa90c1f3e2b8d4",
        model_config_hash="77aa90c1f3e2b8d43f6d1c09a4be5d21",
        endpoint_notes=("the response cache is on",),
        scoring="a1b2c3d4e5f60718293a4b5c6d7e8f90",
        bank_digest="90c1f3e2b8d43f6d1c09a4be5d7721aa",
        generator="stable-diffusion directory, 10 steps, sha256 51c0ffee",
        detector="scene detector, sha256 d37ec70a",
        concept_set="77e1c1f2b3a495d6",
        caption_template="d0c5a9e8b7f61423",
        dataset_digest="5a7b9c1d3e5f7081",
        policy_digest="0f1e2d3c4b5a6978",
        seed="scenes",
        backend="onnxruntime (CPU)",
        backend_reason="no GPU found; parity certificate passed",
        engines=(
            EngineUse(
                engine="unet",
                backend="ort",
                precision="fp32",
                items=13_500,
                padded=0,
                seconds=140.2,
                parity_error=4e-7,
                refused=("torch: 210.3 ms, slower",),
            ),
            EngineUse(
                engine="vae_decoder", backend="torch", precision="fp32", items=1350, padded=2, seconds=33.0, parity_error=None
            ),
        ),
        tier="approximate",
        tier_reasons=("4 steps instead of the generator's own 8",),
        engine_check=EngineCheck(pictures=64, same=0.984, change=0.004, passed=False, metric_drawn=0.97, metric_reference=0.98),
        images=1350,
        unet_evaluations=13_500,
        classifier_queries=1350,
        seconds={"plan": 0.4, "build": 151.2, "score": 9.7, "analyse": 4.1},
        config="audit: scenes\ntarget:\n  url: triton:8001\n  token: '***'\n",
    )
    return dataclasses.replace(made, **changes)


def result(
    gallery: Gallery, model: str, effects: Mapping[str, tuple[float, float, Verdict]], findings: Sequence[Finding]
) -> AuditResult:
    truth = {name: round(value[0] * 1.04 + 0.002, 3) for name, value in effects.items()}
    return AuditResult(
        run=f"20261122T091403Z-{model}",
        state=RunState.SUCCEEDED_WITH_FINDINGS if findings else RunState.SUCCEEDED,
        model=model,
        version="1",
        label="shape",
        classes=("plain", "marked"),
        metric="auroc",
        real_score=0.971,
        generated_score=0.953,
        n_rows=ROWS,
        headline="",
        concepts=tuple(concept(name, *numbers) for name, numbers in effects.items()),
        groups=(concept("colour+size", 0.041, 0.02, Verdict.INCONCLUSIVE),),
        gates=gates(0.971, 0.953),
        leakage=leakage(),
        placebo={"auroc": estimate(0.003, 0.006)},
        fairness=fairness(bool(findings)),
        findings=tuple(findings),
        pairs=pairs(gallery, effects, len(model)),
        not_tested=(
            "Concepts outside the list of seven.",
            "Robustness to blur, crop and compression.",
            "Interactions of concepts.",
        ),
        provenance=provenance(),
        truth=truth,
    )


def planted(gallery: Gallery, **changes: object) -> AuditResult:
    """A model that rests on a watermark."""
    sentence = "Relies on watermark, which must not matter: permuting it costs 0.163 AUROC [0.135, 0.191]."
    made = result(gallery, "scenes_planted", PLANTED, [finding("scenes_planted")])
    return dataclasses.replace(made, **{"headline": sentence, **changes})


def clean(gallery: Gallery, **changes: object) -> AuditResult:
    """A model that rests on shape, as it should."""
    sentence = "No finding at these thresholds: of the concepts that must not matter, none reaches the margin of 0.02."
    made = result(gallery, "scenes_clean", CLEAN, [])
    return dataclasses.replace(made, **{"headline": sentence, **changes})


def broken(gallery: Gallery) -> AuditResult:
    """The planted model audited with a generator that does not draw what it is told."""
    whole = planted(gallery)
    failed = dataclasses.replace(
        whole.gates[0], status=GateStatus.FAIL, value=0.24, low=0.19, high=0.29,
        consequence="Ranking suppressed: the model does not see in generated images what it sees in real ones.",
    )  # fmt: skip
    kept = dataclasses.replace(
        finding(whole.model), id=f"{whole.model}/audit_broken", kind="audit_broken", concept="",
        value=0.24, low=0.19, high=0.29, threshold=0.1,
        summary="The generator is not valid for this model: AUROC falls by 0.240 on generated images.",
    )  # fmt: skip
    return dataclasses.replace(
        whole,
        state=RunState.INVALID_GENERATOR,
        headline="Audit broken: the generator is not valid for this model.",
        generated_score=0.731,
        gates=(failed, *whole.gates[1:]),
        findings=(kept,),
    )


def earlier(result: AuditResult, **changes: object) -> AuditResult:
    """The same audit a week before, on the version before."""
    then = dataclasses.replace(result.provenance, started_at="2026-11-15T09:12:00Z", finished_at="2026-11-15T09:15:31Z")
    options = {"run": f"20261115T091200Z-{result.model}", "version": "0", "provenance": then, **changes}
    return dataclasses.replace(result, **options)


def nothing(_: str) -> bytes | None:
    """An image store that has lost every picture."""
    return None
