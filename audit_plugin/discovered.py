"""What was found without data, kept beside the bank: nodes for the tree, the discoveries themselves, and how words enter prompts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog

from audit_plugin.bank.pictures import storage
from audit_plugin.concepts.captions import caption
from audit_plugin.concepts.phrasing import CaptionForms, Phrasing, Sentences
from audit_plugin.config import DiscoverConfig, Loaded
from audit_plugin.core.discovery_results import Discovery
from audit_plugin.core.discovery_results import from_json as read_discovery
from audit_plugin.core.discovery_results import to_json as discovery_json
from audit_plugin.core.errors import ConfigError, StoreError
from audit_plugin.core.protocols import ConceptDetector
from audit_plugin.core.tree import ConceptTree
from audit_plugin.perception.probes import TogetherDetectors, open_probes
from audit_plugin.report.document import write_whole
from engines.pipelines.files import CAPTIONS

LOG = structlog.get_logger(__name__)


def discovered_file(loaded: Loaded) -> Path:
    """Where nodes that were found without data are written: ``discover.tree``, else beside the bank."""
    asked = loaded.config.discover
    return Path(asked.tree) if asked is not None and asked.tree else Path(loaded.config.bank.path) / "discovered.yaml"


def _discovery_file(loaded: Loaded, model: str, version: str) -> Path:
    name = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in f"{model}-{version}")
    return Path(loaded.config.bank.path) / "discoveries" / f"{name}.json"


def keep_discovery(loaded: Loaded, found: Discovery) -> None:
    """Beside the bank, for the reports and metrics of every audit of this version.  Raises AuditError where it cannot be written."""
    file = _discovery_file(loaded, found.model, found.version)
    with storage(str(file)):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, discovery_json(found))


def known_discovery(loaded: Loaded, model: str, version: str) -> Discovery | None:
    """What was found for a model version; None where nobody looked, or what was kept cannot be read any more."""
    file = _discovery_file(loaded, model, version)
    try:
        return read_discovery(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, StoreError) as error:
        LOG.warning("a discovery cannot be read; `audit-plugin discover` makes it again", file=str(file), why=str(error))
        return None


def phrasing_of_generator(loaded: Loaded, rows: Sequence[Any]) -> Phrasing:
    """How words enter prompts: from captions that are named, those beside the generator, those of the audited rows, else sentences."""
    asked = loaded.config.discover or DiscoverConfig()
    beside = Path(loaded.generator.path) / CAPTIONS if loaded.config.generator is not None else Path()
    if asked.captions:
        captions = lines_of(Path(asked.captions), "discover.captions")
    elif beside.is_file():
        captions = lines_of(beside, "captions of the generator")
    else:
        concept_set = loaded.document.concept_set
        captions = [caption(concept_set, row.values, row.rest) for row in rows] if loaded.described else []
    forms = CaptionForms.learned(captions) if captions else None
    return forms if forms is not None and forms.phrases else Sentences(asked.contexts)


def probe_folder(loaded: Loaded) -> Path:
    """Where detectors of what was found lie."""
    return Path(loaded.config.bank.path) / "probes"


def probe_concept(path: str) -> str:
    """Name of the concept that a node's probe reads.

    >>> probe_concept("discovered/ruler")
    'discovered ruler'
    """
    return path.replace("/", " ")


def with_probes(
    detector: ConceptDetector | None, loaded: Loaded, tree: ConceptTree
) -> tuple[ConceptDetector | None, dict[str, tuple[str, ...]]]:
    """The detector and the probes of nodes of this tree as one, and the levels of what the probes read."""
    wanted = {str(node.params.get("concept", "")) for node in tree.editable if node.source == "diffexplainer"}
    probes = [one for one in open_probes(sorted(probe_folder(loaded).glob("*.onnx"))) if wanted & one.card.concepts.keys()]
    if not probes:
        return detector, {}
    levels = {name: tuple(some) for one in probes for name, some in one.card.concepts.items()}
    return TogetherDetectors((*([] if detector is None else [detector]), *probes)), levels


def lines_of(path: Path, key: str) -> list[str]:
    """The lines of a text file, without empty ones.  Raises ConfigError, naming the key that asks for it."""
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{key}: {path} cannot be read ({error}); give a text file with one entry a line") from error
