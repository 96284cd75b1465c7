"""Yes/no questions about pictures, put to a vision-language model behind an OpenAI-compatible endpoint.

One picture and one question a call, a few calls at once.  Answers are untrusted text: only the JSON ``{"answer": "yes"}`` or
``{"answer": "no"}`` counts, anything else is no answer.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from audit_plugin.concepts.operators_tone import Pixels
from audit_plugin.concepts.vision_chat import AssistantError, ChatOptions, UnusableEndpointError, ask
from audit_plugin.core.errors import ConfigError
from audit_plugin.core.seeds import digest

_SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "string", "enum": ["yes", "no"]}},
    "required": ["answer"],
    "additionalProperties": False,
}
_TASK = 'Look at the picture and answer the question. Answer with {"answer": "yes"} or {"answer": "no"} only.\nQuestion: '
_TOKENS = 64


@dataclass(frozen=True, kw_only=True)
class VisionOptions:
    """A vision model that looks at pictures, which are sent to it: real ones of the audit for `vision`, drawn ones alone for `captioner`."""

    endpoint: str
    """http or https URL of an OpenAI-compatible server."""
    model: str
    """Name that the server knows it by."""
    api_key_env: str = ""
    """Environment variable that holds the key; empty: none is sent."""
    parallel: int = 4
    """Most calls at a time."""
    timeout_seconds: float = 60.0
    """Longest wait for one answer."""
    retries: int = 2
    """How often a call that failed is repeated."""
    image_px: int = 512
    """Longer side of the pictures that are sent."""
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    def __post_init__(self) -> None:
        if not 1 <= self.parallel <= 64:
            raise ValueError(f"parallel {self.parallel} is not from 1 to 64")
        try:
            self.chat()
        except ConfigError as error:
            raise ValueError(str(error)) from error

    def chat(self, *, pause_seconds: float = 1.0) -> ChatOptions:
        """How the endpoint is spoken to.  Raises ConfigError for one that cannot be."""
        return ChatOptions(
            endpoint=self.endpoint,
            model=self.model,
            api_key_env=self.api_key_env,
            temperature=0.0,
            max_tokens=_TOKENS,
            timeout_seconds=self.timeout_seconds,
            retries=self.retries,
            pause_seconds=pause_seconds,
            image_px=self.image_px,
        )


class VisionAnswers:
    """Answers by a vision model.  Implements :class:`audit_plugin.bank.panel.Answerer`."""

    def __init__(self, options: VisionOptions, *, pause_seconds: float = 1.0) -> None:
        """Nothing is sent yet; ``pause_seconds`` is waited before a call is repeated, and doubles."""
        self.parallel, self.chat = options.parallel, options.chat(pause_seconds=pause_seconds)

    @property
    def fingerprint(self) -> str:
        """Of the model's name, where it is served, and what it is told; a server does not say which weights it runs."""
        return digest("vision model", self.chat.url, self.chat.model, str(self.chat.image_px), _TASK)

    def yes(self, question: str, pictures: Sequence[Pixels]) -> list[bool | None]:
        """One answer per picture; None where none came.  Raises UnusableEndpointError where asking is of no use at all."""
        if not pictures:
            return []
        with ThreadPoolExecutor(min(self.parallel, len(pictures))) as pool:
            return list(pool.map(partial(self._one, question), pictures))

    def _one(self, question: str, picture: Pixels) -> bool | None:
        try:
            told = ask(self.chat, _TASK + question, _SCHEMA, [picture]).get("answer")
        except UnusableEndpointError:
            raise
        except AssistantError:
            return None
        said = told.strip().lower().rstrip(".") if isinstance(told, str) else ""
        return {"yes": True, "no": False}.get(said)
