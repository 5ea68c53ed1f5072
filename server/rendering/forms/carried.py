"""What a request of another endpoint than chat carries over to the completions endpoint."""

from typing import Any

from server.core.errors import InvalidRequestError
from server.core.types import Body

# Fields that mean the same to the completions endpoint. All others stay behind, since that endpoint has fields of its
# own (`prompt`, `echo`, `suffix`, `include_stop_str_in_output`) that would change or reveal the prompt.
_SHARED = frozenset(
    {"model", "stream", "temperature", "top_p", "top_k", "min_p", "seed", "logit_bias", "user", "stop"}
    | {"presence_penalty", "frequency_penalty", "repetition_penalty", "repetition_detection", "structured_outputs"}
    | {"stop_token_ids", "ignore_eos", "min_tokens", "skip_special_tokens", "bad_words", "allowed_token_ids"}
    | {"request_id", "session_id", "priority", "cache_salt", "watermarking", "vllm_xargs"}
    | {"kv_transfer_params", "ec_transfer_params", "stream_interval"}
)


def carried(body: Body) -> Body:
    """The shared fields of `body`. A stream is asked for its usage, which the last events then tell."""
    fields = {name: value for name, value in body.items() if name in _SHARED}
    return fields | ({"stream_options": {"include_usage": True}} if body.get("stream") else {})


def carried_format(body: Body, field: str) -> Body:
    """`response_format` for the form of the answer that `body` asks for in `format` of `field`; empty for any text.

    Raises InvalidRequestError naming the field at fault.
    """
    wanted = _object(body.get(field), field).get("format")
    wanted = _object(wanted, f"{field}.format")
    if wanted.get("type") != "json_schema":
        return {"response_format": wanted} if wanted else {}
    schema = {name: value for name, value in wanted.items() if name != "type"}
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", **schema}}}


def _object(value: Any, where: str) -> Body:
    if value is not None and not isinstance(value, dict):
        raise InvalidRequestError(f"{where} must be an object.", param=where)
    return value or {}
