"""Uses litellm as a program would: `with_litellm.py BASE_URL MODEL` prints what came of it as JSON.

In a process of its own, for litellm warns, leaves coroutines and an event loop behind, and fetches a table of prices at
its import unless the environment says otherwise.
"""

import asyncio
import json
import sys
from typing import Any

import litellm

base_url, model = sys.argv[1:]
MESSAGES = [{"role": "user", "content": "Name three uses of baking soda."}]
SERVER = {"api_base": base_url, "api_key": "none", "num_retries": 0, "temperature": 0}
TRACE = {"alignment": {"trace": True}}


def show(answer: Any) -> dict[str, Any]:
    """What one answer holds."""
    return {
        "text": answer.choices[0].message.content,
        "prompt_tokens": answer.usage.prompt_tokens,
        "alignment": answer.alignment,
        "headers": answer._hidden_params["additional_headers"],
    }


def stream() -> dict[str, Any]:
    """What one stream holds."""
    options = {"include_usage": True}
    chunks = list(
        litellm.completion(model=model, messages=MESSAGES, max_tokens=20, stream=True, stream_options=options, **SERVER)
    )
    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content]
    return {"texts": texts, "prompt_tokens": chunks[-1].usage.prompt_tokens}


def fail() -> dict[str, Any]:
    """What an error holds."""
    try:
        litellm.completion(model="hosted_vllm/nobody", messages=MESSAGES, **SERVER)
    except litellm.NotFoundError as error:
        return {"status": error.status_code, "message": str(error)}
    return {}


asked: dict[str, Any] = {"model": model, "messages": MESSAGES, "max_tokens": 20, "extra_body": TRACE, **SERVER}
print(
    json.dumps(
        {
            "whole": show(litellm.completion(**asked)),
            "async": show(asyncio.run(litellm.acompletion(**asked))),
            "stream": stream(),
            "error": fail(),
        }
    )
)
