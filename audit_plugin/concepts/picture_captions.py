"""Captions of drawn pictures by a vision-language model behind an OpenAI-compatible endpoint, kept, so that no picture is shown twice.

Answers are untrusted text: what is not ``{"caption": "…"}`` is no caption, control characters become spaces and long ones are cut.  Nothing of
them is ever run, formatted or shown as markup.  An endpoint that fails is given up for the rest of the run, with one warning.
"""

import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import structlog

from audit_plugin.concepts.operators_tone import Pixels
from audit_plugin.concepts.questions import VisionOptions
from audit_plugin.concepts.vision_chat import ChatOptions, UnusableEndpointError, ask
from audit_plugin.core.errors import AuditError, ConfigError
from audit_plugin.core.protocols import Progress
from audit_plugin.core.seeds import digest

LOG = structlog.get_logger(__name__)
QUESTION = (
    "Describe the picture in one short factual sentence: what it shows, on what, and in what light. No interpretation, no guesses. "
    'Answer with {"caption": "..."} only.'
)
LONGEST = 300
"""Characters of a caption."""
PATIENCE = 3
"""Failures in a row, after which the endpoint is given up."""
_TOKENS = 160
_SCHEMA = {
    "type": "object",
    "properties": {"caption": {"type": "string", "maxLength": LONGEST}},
    "required": ["caption"],
    "additionalProperties": False,
}


@dataclass(eq=False, kw_only=True)
class Captioner:
    """Says of stored pictures what they show."""

    options: VisionOptions
    file: Path
    """JSON lines with all captions so far."""
    load: Callable[[str], Pixels]
    """Pixels ``(h, w, 3)`` of a picture by its sha256."""
    pause_seconds: float = 1.0
    """Waited before a call is repeated; doubles."""
    why: str = ""
    """What ended it; empty as long as it works."""
    _failures: int = 0
    """In a row."""

    def captions(self, shas: Sequence[str], progress: Progress, what: str) -> dict[str, str]:
        """sha256 -> caption; pictures of which none came are left out.  An endpoint that failed is asked nothing more."""
        keys = {sha: digest("caption", sha, self.options.model, QUESTION) for sha in shas}
        todo, done = [sha for sha, key in keys.items() if key not in self._kept], 0
        while done < len(todo) and not self.why:
            some = todo[done : done + self.options.parallel]
            with ThreadPoolExecutor(len(some)) as pool:
                answers = list(pool.map(self._one, some))
            self._keep({keys[sha]: told for sha, told in zip(some, answers, strict=True) if isinstance(told, str) and told})
            done += len(some)
            progress(done, len(todo), what)
            self._judge([told for told in answers if isinstance(told, AuditError)], len(some))
        return {sha: self._kept[key] for sha, key in keys.items() if key in self._kept}

    @cached_property
    def _chat(self) -> ChatOptions:
        return replace(self.options.chat(pause_seconds=self.pause_seconds), max_tokens=_TOKENS)

    def _one(self, sha: str) -> str | AuditError:
        """Empty where the answer holds no caption."""
        try:
            return clean(ask(self._chat, QUESTION, _SCHEMA, [self.load(sha)]).get("caption"))
        except AuditError as error:
            return error

    def _judge(self, errors: Sequence[AuditError], asked: int) -> None:
        """Give the endpoint up where it says that asking is of no use, or fails again and again."""
        self._failures = self._failures + asked if len(errors) == asked else 0
        hopeless = next((one for one in errors if isinstance(one, (UnusableEndpointError, ConfigError))), None)
        if hopeless is None and self._failures < PATIENCE:
            return
        self.why = str(hopeless or errors[-1])
        LOG.warning("pictures are described no further; the discovery goes on without", endpoint=self._chat.url, why=self.why)

    @cached_property
    def _kept(self) -> dict[str, str]:
        """Lines that cannot be read, such as one that was being written when the machine stopped, are passed over."""
        try:
            lines = self.file.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return {}
        except OSError as error:
            LOG.warning("captions cannot be read; pictures are described again", file=str(self.file), why=str(error))
            return {}
        return {key: text for line in lines for key, text in _read(line)}

    def _keep(self, told: Mapping[str, str]) -> None:
        self._kept.update(told)
        lines = "".join(json.dumps({"key": key, "caption": text}) + "\n" for key, text in told.items())
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("a", encoding="utf-8") as file:
                file.write(lines)
        except OSError as error:
            LOG.warning("captions cannot be kept; the next run asks for them again", file=str(self.file), why=str(error))


def clean(text: object) -> str:
    r"""One line of printable text, cut at a word; empty for what is no text.

    >>> clean("A dog\x1b[31m on\nsand. ")
    'A dog [31m on sand.'
    """
    if not isinstance(text, str):
        return ""
    plain = "".join(" " if unicodedata.category(letter)[0] in "CZ" else letter for letter in text[: 4 * LONGEST])
    words = " ".join(plain.split())
    return words if len(words) <= LONGEST else words[:LONGEST].rpartition(" ")[0] or words[:LONGEST]


def _read(line: str) -> list[tuple[str, str]]:
    try:
        told = json.loads(line)
    except ValueError:
        return []
    key, text = (told.get("key"), clean(told.get("caption"))) if isinstance(told, dict) else (None, "")
    return [(key, text)] if isinstance(key, str) and text else []
