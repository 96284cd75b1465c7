"""Who finds what classifiers rely on?  `python -m tests.bench.planted_suite [--quick] [--world NAME ...] [--json FILE] [--markdown FILE]`.

Classifiers of known making in several worlds, each with a generator trained for it, are served by a real Triton and audited by every
method of the project, by the parts that the commands run; other approaches see the same classifiers and pictures.  Truth is measured with
the renderer.  Trained networks, pictures, scores and what was said of each world are kept in .cache: a run that was killed goes on, and
worlds that were run side by side (``--world``) are judged together by a run over all of them with the same code.
"""

import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from audit_plugin.core.seeds import digest
from audit_plugin.demo.kit import WHEEL
from engines.directory import directory_digest
from tests.bench.planted_suite import others
from tests.bench.planted_suite.costs import of_approaches, of_product
from tests.bench.planted_suite.generators import RECIPE, detector, generator
from tests.bench.planted_suite.judge import (
    Claim,
    broken,
    by_edits,
    by_flips,
    by_permutation,
    by_words,
    complete,
    judged,
    task_of,
    together,
)
from tests.bench.planted_suite.outcome import AUDITED, CLAIMED, KNOWN, OTHERS, PRODUCT, TRUTH, Outcome, contents, kept
from tests.bench.planted_suite.planted import Planted, Predict, network_of, predictor, shipped, suite
from tests.bench.planted_suite.site import AUDIT, Audited, Site, Size, audited
from tests.bench.planted_suite.tables import fill
from tests.bench.planted_suite.truth import ConceptTruth, Known, Rows, rows_of, truths
from tests.bench.planted_suite.worlds import World, all_worlds
from tests.bench.report import CACHE, Cell, Report, code, parser, publish, this_machine
from tests.bench.scenes_bank import Say

NAME = "planted_suite"
WORLDS = ("scenes", "digits", "mnist", "garments")
QUICK = Size(rows=160, images=12, methods=(), words=False)
FLIPPED = ("polyak", "fastdime", "dvce")
"""Methods of counterfactuals that the digits are asked about: a minute each of every task.  The scenes' are in `counterfactuals_planted`."""
TRUTH_ROWS = 3_000


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    made = parser(__doc__)
    made.prog = "python -m tests.bench.planted_suite"
    made.add_argument("--world", action="append", help=f"only this world, of {', '.join(WORLDS)}; may be given again")
    made.epilog = (
        "Networks and generators are trained at the first run, an hour of a core for each world; --quick asks less of audits alone."
    )
    options = made.parse_args(arguments)
    there = {world.name: world for world in all_worlds()}
    if missing := [name for name in options.world or () if name not in there]:
        absent = ", ".join(name for name in WORLDS if name not in there)
        needs = f"; {absent}: set AUDIT_PLUGIN_DATA to a folder with mnist/ and fashion-mnist-900/" if absent else ""
        sys.exit(f"no world {', '.join(missing)} can be made here; there are {', '.join(there)}{needs}")
    asked = [there[name] for name in options.world or there]
    report = Report(
        name=NAME,
        question="Who finds what classifiers of known making rely on, at what cost, with how many false findings?",
        mode=f"{'quick' if options.quick else 'full'}, {', '.join(world.name for world in asked)}",
        seeds={"rows, labels, noise": AUDIT, "truth": "truth", "generators": str(RECIPE.seed)},
        machine=this_machine() | {name: version(name) for name in ("captum", "scikit-learn", "scipy")} | {"nvidia-pytriton": WHEEL},
    )
    fill(report, {world.name: _outcome(world, QUICK if options.quick else full(world)) for world in asked})
    publish(report, options)


def full(world: World) -> Size:
    """What is asked of a world where there is time."""
    return Size(methods=FLIPPED if world.name == "digits" else ())


def _outcome(world: World, size: Size) -> Outcome:
    """Truth, the product's audits, and the other approaches."""
    folder = CACHE / NAME / world.name
    folder.mkdir(parents=True, exist_ok=True)
    networks = {planted: network_of(world, planted, folder / "networks") for planted in (*shipped(world), *suite(world))}
    site = Site(
        world=world, networks=networks, rows=rows_of(world, size.rows, AUDIT), size=size, folder=folder / f"site-{size.rows}",
        generator=generator(world, folder, Say()), detector=detector(world, folder),
    )  # fmt: skip
    models = {planted: predictor(path) for planted, path in networks.items()}
    trained = digest(world.fingerprint, contents(networks.values()))
    known = measured(world, models, folder / f"truth-{digest(trained, str(TRUTH_ROWS), code(TRUTH))[:12]}.json")
    _say(f"{world.name}: {len(models)} classifiers, audited by a real server")
    audit = digest(trained, repr(size), directory_digest(site.generator), contents([site.detector]), code(PRODUCT))
    told = kept(folder / f"audited-{audit[:12]}.json", AUDITED, lambda: audited(site, Say()))
    _say(f"{world.name}: the other approaches")
    other = digest(trained, repr(size), code(OTHERS))
    theirs = kept(folder / f"others-{other[:12]}.json", CLAIMED, lambda: tuple(of_others(world, site.rows, models, networks)))
    claims = [*of_the_product(world, told.value, known), *theirs.value]
    first = broken(told.value.results)
    still = silent(told.value)
    _say(f"{world.name}: {len(claims)} claims, {told.minutes + theirs.minutes:.0f} minutes")
    return Outcome(
        judged=tuple(judged(world, claims, known, still, first - still)),
        costs=tuple(_costs(world, told.value)),
        spent=of_product(told.value, len(site.rows)) | of_approaches(world, len(site.rows)),
        notes=tuple(f"- {world.name}, refused: {problem}" for problem in told.value.problems),
        minutes=told.minutes + theirs.minutes,
        machine=told.machine,
    )


def measured(world: World, models: Mapping[Planted, Predict], path: Path) -> dict[tuple[str, str], dict[str, ConceptTruth]]:
    """Truths, read back where the same networks were measured before."""
    told = kept(
        path,
        KNOWN,
        lambda: tuple(
            Known(classifier=classifier, task=task, concepts=concepts)
            for (classifier, task), concepts in truths(world, models, TRUTH_ROWS).items()
        ),
    )
    return {(one.classifier, one.task): one.concepts for one in told.value}


def of_the_product(world: World, told: Audited, known: Mapping[tuple[str, str], Any]) -> list[Claim]:
    """By each method, and by an audit in all: the second one, where discovery told why the first was broken."""
    first, second = broken(told.results), broken(told.again)  # of which reports show figures, but nothing is claimed
    heard = [one for one in told.results if task_of(one) not in first] + [
        one for one in told.again if task_of(one) in first - second
    ]
    claims = [claim for result in heard for by in (by_permutation, by_edits) for claim in by(world, result)]
    claims += [
        claim for one in told.flipped if task_of(one.result) not in first for claim in by_flips(world, one.method, one.result)
    ]
    claims += [claim for one in told.discoveries for claim in by_words(world, one, known)]
    whole = complete(world, claims, known)
    return [*whole, *together(whole)]


def silent(told: Audited) -> set[tuple[str, str]]:
    """Tasks whose audits are broken, and were not mended by naming what discovery found."""
    first, again = broken(told.results), {task_of(one) for one in told.again}
    return first - again | first & broken(told.again)


def of_others(
    world: World,
    rows: Rows,
    models: Mapping[Planted, Predict],
    networks: Mapping[Planted, Path],
    *,
    looked_at: int = others.LOOKED_AT,
    compared: int = others.COMPARED,
) -> list[Claim]:
    """By everybody else."""
    both = {planted: (predict, torch_of(networks[planted])) for planted, predict in models.items()}
    renders = others.Renders(world, {planted.name: predict for planted, predict in models.items()})
    few = Rows(values=rows.values[:looked_at], seeds=rows.seeds[:looked_at])
    lent = Rows(values=rows.values[:compared], seeds=rows.seeds[:compared])
    masks, claims = others.regions(world, few), list[Claim]()
    for at, case in enumerate(others.cases(world, rows, both, AUDIT, edited=len(lent))):
        Say()(at, len(both), f"{case.planted.name} by others")
        for some in others.by_attribution(case, masks).values():
            claims += some
        claims += others.by_differences(case) + others.by_association(case) + others.by_margin(case)
        claims += others.by_published_permutation(case, lent, renders) + others.by_published_search(case)
    return claims


def torch_of(path: Path) -> Any:
    """The network in torch, to probabilities, from the file that the server runs."""
    from engines.serving.onnx_module import OnnxModule

    return OnnxModule(path, "probabilities").eval()


def _costs(world: World, told: Audited) -> list[dict[str, Cell]]:
    """What the parts of each classifier's audit took."""
    return [
        {
            "world": world.name,
            "classifier": result.model,
            "task": task_of(result)[1],
            "audit": "first" if nth == 0 else "second",
            "state": result.state.value,
            "queries": result.provenance.classifier_queries,
            **{f"{name} s": round(value, 1) for name, value in result.provenance.seconds.items()},
        }
        for nth, results in enumerate((told.results, told.again))
        for result in results
    ]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
