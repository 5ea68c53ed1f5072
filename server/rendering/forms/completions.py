"""`/v1/completions`: each prompt is taken as the message to answer."""

from collections.abc import Sequence
from typing import Any

from server.core.errors import InvalidRequestError
from server.core.types import Body, Rendering
from server.rendering.forms.base import Context, Conversation
from server.rendering.messages import refuse_truncation

# They would show the alignment as the client's own text, or put text after an answer that ends by itself.
_NOT_ALIGNED = ("echo", "suffix", "prompt_embeds")


class CompletionsForm:
    """One text, or a list of texts; the choices of several come one after the other, as the engine numbers them."""

    path = "/v1/completions"
    renderings = frozenset({Rendering.COMPLETION})
    prompt_fields: tuple[str, ...] = ("prompt",)
    continues = False
    limit_fields: tuple[str, ...] = ("max_tokens",)
    messages_field = "prompt"

    def read(self, body: Body) -> list[Conversation]:
        """See Form."""
        refuse_truncation(body, "truncate_prompt_tokens")
        for field in _NOT_ALIGNED:
            if body.get(field):
                raise InvalidRequestError(f"{field} does not go with an aligned prompt; leave it out.", param=field)
        prompt = body.get("prompt")
        return [[{"role": "user", "content": text}] for text in _texts(prompt)]

    def write_chat(self, body: Body, contexts: Sequence[Context]) -> Body:
        """Never called: `renderings` has no chat."""
        raise NotImplementedError

    def write_completion(self, body: Body, prompts: Sequence[str]) -> Body:
        """See Form."""
        return {**body, "prompt": list(prompts) if isinstance(body["prompt"], list) else prompts[0]}


def _texts(prompt: Any) -> list[str]:
    texts = prompt if isinstance(prompt, list) else [prompt]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise InvalidRequestError(
            "prompt must be text or a list of texts, since token ids cannot be aligned.", param="prompt"
        )
    return texts
