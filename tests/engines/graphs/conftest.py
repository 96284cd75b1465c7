"""Exports take seconds: each graph is made once, when a test first asks for it."""

from dataclasses import replace
from functools import cache, partial

import pytest

from engines.graphs.export import export
from engines.graphs.gradients import Guided, Vjp
from tests.engines.graphs import networks
from tests.engines.graphs.cases import DENOISER, GUIDED, SMOOTH, SMOOTH_VJP, VJP


def guided(**options):
    """Without self-attention, which other networks have: there are enough backward formulas to export."""
    brief = partial(networks.Denoiser, itself=False)
    denoiser, judge, decoder = (networks.seeded(each) for each in (brief, networks.Judge, networks.Decoder))
    return Guided(denoiser, judge, decoder=decoder, **options)


MODULES = {
    "denoiser": (lambda: networks.seeded(networks.Denoiser), DENOISER),
    "vjp": (lambda: Vjp(networks.seeded(networks.Everything)), VJP),
    "guided": (guided, GUIDED),
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
