"""What the report says beside a tree's numbers: what the search may have missed, and what of the effects breaches the policy."""

from audit_plugin.core.diffex_results import Chosen, ClassEffects, EffectState, NodeEffect
from audit_plugin.core.results import AuditResult
from audit_plugin.core.tree import NodeKind
from audit_plugin.findings.policy import LEAST_IMAGES
from audit_plugin.findings.semantic import KIND, finding_metric, untrustworthy


def missed_words(effects: ClassEffects) -> str:
    """What the search may have missed: a bound of what is not known, not an estimate.  Empty where nothing was measured of it."""
    if effects.missed_effects is None:
        return ""
    reached = [node.chosen for node in effects.nodes]
    dropped = effects.search.candidates - len(effects.search.kept) - reached.count(Chosen.UNREACHED)
    measured = sum(node.chosen is Chosen.SAMPLED and node.effect is not None for node in effects.nodes)
    if measured and dropped >= measured:
        who = f"of the {dropped} eliminated nodes at most {int(effects.missed_effects * dropped)}"
        source = f", from {measured} that {'was' if measured == 1 else 'were'} measured all the same"
    else:
        who, source = f"of the eliminated nodes at most {100 * effects.missed_effects:.0f} %", ""
    return f"{who} might have an effect beyond 0.25 log-odds (95 % bound{source})"


def too_few(node: NodeEffect) -> str:
    """Why an effect that should not be there makes no finding, where its images are too few; empty otherwise."""
    if not node.kind.must_not or node.state is not EffectState.EFFECT:
        return ""
    held = node.images if node.kind is NodeKind.PROTECTED else node.spurious_images
    if held >= LEAST_IMAGES:
        return ""
    return f"fewer than {LEAST_IMAGES} images{'' if node.images < LEAST_IMAGES else ' that kept their class'}: never an alert"


def above_bound(result: AuditResult) -> str:
    """How many of the nodes that must not matter and do are findings; empty where no policy was applied to them, or there are none."""
    if result.diffex is None or not result.provenance.policy_digest or untrustworthy(result.diffex):
        return ""
    nodes = [node for effects in result.diffex.classes for node in effects.nodes]
    wrong = [(node.node, finding_metric(node)) for node in nodes if node.kind.must_not and node.state is EffectState.EFFECT]
    found = {(finding.concept, finding.metric) for finding in result.findings if finding.kind == KIND}
    if not wrong:
        return ""
    above = sum(one in found for one in wrong)
    return f"Above the policy's bound: {above or 'none'} of the {len(wrong)} that must not matter and move the scores."
