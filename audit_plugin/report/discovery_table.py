"""What classes respond to, for the terminal: one row per word that acts.  Colour only repeats what mark and word say."""

from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from audit_plugin.core.discovery_results import DiscoveredSubject, Discovery, FoundWord
from audit_plugin.report.discovery import PARTS, how_found
from audit_plugin.report.tree import effect_words
from audit_plugin.report.words import NOTHING, p_value, sentence

NAMED: Final = 20
"""Words without effect that are named."""
STYLES: Final = {"good": "", "alert": "bold red", "open": "yellow", "soft": "dim"}
"""Style of a part -> rich style."""


def discovery_table(discovery: Discovery) -> RenderableType:
    """How it was found, whether the generator fits, a table of the words that act, and what was tested and does nothing."""
    fits = discovery.fit.fits
    lines: list[RenderableType] = [
        Text(f"{how_found(discovery)}."),
        Text(
            f"{'' if fits else '! The generator does not draw what the model was made for. '}{sentence(discovery.fit.said)}",
            style="" if fits else "bold red",
        ),
    ]
    if discovery.stopped:
        lines.append(Text(f"Incomplete: the {discovery.stopped} limit was reached.", style="yellow"))
    lines += [
        _table(discovery),
        *(_prompts(subject) for subject in discovery.subjects if subject.prompts),
        *(_idle(subject) for subject in discovery.subjects if not all(word.causes for word in subject.words)),
    ]
    return Group(*lines)


def _table(discovery: Discovery) -> Table:
    table = Table(title=None, pad_edge=False, box=None, header_style="bold")
    table.add_column("class or unit", overflow="fold")
    table.add_column("base → best", justify="right", no_wrap=True)
    table.add_column("object\nabsent", justify="right", no_wrap=True)
    table.add_column("word", overflow="fold")
    table.add_column("without → with", justify="right", no_wrap=True)
    table.add_column("effect [95 %]", justify="right", no_wrap=True)
    table.add_column("q", justify="right", no_wrap=True)
    table.add_column("part", no_wrap=True)
    table.add_column("node", overflow="fold")
    for subject in discovery.subjects:
        acting = [word for word in subject.words if word.causes]
        for at, word in enumerate(acting or [None]):
            about = _about(subject) if at == 0 else [Text("")] * 3
            cells = [Text("none acts", style="dim"), *[Text("")] * 5] if word is None else _cells(word, subject)
            table.add_row(*about, *cells, end_section=at == max(len(acting), 1) - 1)
    return table


def _about(subject: DiscoveredSubject) -> list[Text]:
    best = f"{subject.prompts[0].activation.value:.0%}" if subject.prompts else NOTHING
    absent = NOTHING if subject.object_absent is None else f"{subject.object_absent.value:.0%}"
    return [Text(_name(subject), style="bold"), Text(f"{subject.base.value:.0%} → {best}"), Text(absent)]


def _cells(word: FoundWord, subject: DiscoveredSubject) -> list[Text]:
    """Of a unit the shift that decided, in standard deviations."""
    sign, said, style = PARTS[word.part]
    node = word.node and f"{word.node}{'' if word.known else ' (new)'}"
    return [
        Text(word.word),
        Text(f"{word.without.value:.0%} → {word.with_word.value:.0%}"),
        Text(f"{effect_words(word.shift)} sd" if subject.kind == "unit" and word.shift is not None else effect_words(word.effect)),
        Text(p_value(word.q)),
        Text(f"{sign} {said}", style=STYLES[style]),
        Text(node or NOTHING),
    ]


def _prompts(subject: DiscoveredSubject) -> Text:
    """The best prompt of every kind, with how many of its pictures are taken for the subject."""
    best = {one.how: one for one in reversed(subject.prompts)}
    told = "; ".join(
        f'{one.how} "{one.text}" {one.activation.value:.0%}' for one in sorted(best.values(), key=lambda one: -one.activation.value)
    )
    return Text(f"{_name(subject)}: strongest prompts: {told}")


def _name(subject: DiscoveredSubject) -> str:
    return f"{subject.name} (named in prompts)" if subject.named else subject.name


def _idle(subject: DiscoveredSubject) -> Text:
    idle = [word.word for word in subject.words if not word.causes]
    rest = f", and {len(idle) - NAMED} more" if len(idle) > NAMED else ""
    return Text(f"{_name(subject)}: tested, no sure effect ({len(idle)}): {', '.join(idle[:NAMED])}{rest}", style="dim")
