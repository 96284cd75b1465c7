"""Exports take seconds: each graph is made once, when a test first asks for it."""

from dataclasses import replace
from functools import cache, partial

import pytest

from engines.graphs.export import export
from engines.graphs.gradients import Guided, Vjp
from tests.engines.graphs import networks
from tests.engines.graphs.cases import DENOISER, GUIDED, SMOOTH, SMOOTH_VJP, VJP


def guided(*, itself=True, **options):
    """``itself``: with self-attention."""
    brief = partial(networks.Denoiser, itself=itself)
    denoiser, judge, decoder = (networks.seeded(each) for each in (brief, networks.Judge, networks.Decoder))
    return Guided(denoiser, judge, decoder=decoder, **options)


MODULES = {
    "denoiser": (lambda: networks.seeded(networks.Denoiser), DENOISER),
    "vjp": (lambda: Vjp(networks.seeded(networks.Everything)), VJP),
    "guided": (partial(guided, itself=False), GUIDED),  # the other graphs have it, and there are enough formulas to export
    "smooth": (lambda: networks.seeded(networks.Smooth), SMOOTH),
    "smooth_vjp": (lambda: Vjp(networks.seeded(networks.Smooth)), SMOOTH_VJP),
}


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """(module, spec, export folder) by name and changes of the spec."""

    @cache
    def make(name, spec):
        module, folder = MODULES[name][0](), tmp_path_factory.mktemp(name)
        export(module, spec, folder)
        return module, spec, folder

    return lambda name, **changes: make(name, replace(MODULES[name][1], **changes))
