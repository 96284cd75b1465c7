"""The fake has the names that are touched and no others, with the real parameters; its families differ as the real ones do."""

import inspect

import pytest

from engines.backends.trt import api
from engines.backends.trt.messages import listener
from tests.engines.trt import fake, tables
from tests.engines.trt.test_tables import suits

KINDS = {kind.__name__: kind for kind in (*api.LOADING, *api.BUILDING)}
DEFAULTS = {"NONE", "HOST", "STATIC", "EXPLICIT_BATCH"}
"""Members that only say what is meant when nothing is asked for."""


def own(kind):
    found = (
        kind.__members__
        if hasattr(kind, "__members__")
        else {**vars(kind.__mro__[1]), **vars(kind)}
        if kind.__slots__ == ()
        else vars(kind)
    )
    return {name for name in found if not name.startswith("_")}


@pytest.mark.parametrize("name", KINDS)
def test_it_has_what_is_touched_and_no_more(trt, name):
    kind = getattr(trt, name)
    extra = {"release_refit_resources"} if name == "Refitter" and trt.__version__ > "11" else set()
    found = {each for each in dir(kind) if not each.startswith("_") and not hasattr(bytes, each) and not hasattr(int, each)}
    assert found - DEFAULTS == api.members(KINDS[name]) | extra


@pytest.mark.parametrize("name", KINDS)
def test_its_parameters_are_the_real_ones(trt, name):
    table = tables.read(int(trt.__version__.split(".")[0]))
    real = table["classes"][name].get("methods", {})
    methods = {
        each: value for each, value in inspect.getmembers(getattr(trt, name), inspect.isfunction) if not each.startswith("_")
    }
    assert [each for each, value in methods.items() if not any(suits(value, text) for text in real[each])] == []


@pytest.mark.parametrize("name", ["BuilderFlag.FP16", "IInt8Calibrator", "Refitter.release_refit_resources", "Builder.reset"])
def test_a_name_that_may_not_be_touched_is_missing(name):
    """On 10; the last but one is there on 11."""
    kind, _, member = name.partition(".")
    with pytest.raises(AttributeError):
        getattr(getattr(fake.make(10), kind), member)


def test_attributes_cannot_be_made_up(trt):
    """As with the real objects: a misspelt option is an error."""
    config = trt.Builder(listener(trt)).create_builder_config()
    with pytest.raises(AttributeError):
        config.max_aux_stream = 0


def test_only_a_logger_of_its_kind_will_do(trt):
    with pytest.raises(TypeError):
        trt.Runtime(print)
