"""The body of a request on its way to LiteLLM: no longer than it may be, of the kind that the endpoint takes, read one way."""

import orjson
from starlette.types import Message, Receive, Scope

from litellm_credits.errors import BadInput, BodyTooLarge, CreditsError, MalformedJson
from litellm_credits.proxy.call import Call
from litellm_credits.proxy.request import refuse_overrides
from litellm_credits.proxy.routes import Access
from litellm_credits.tenancy.principals import Principal


def checked(call: Call, scope: Scope, receive: Receive, most_bytes: int) -> Receive:
    """`receive`, refusing the body where LiteLLM would read another one than we do, or stumble over it. JSON is noted on `call`.

    Raises:
        BodyTooLarge: the request says itself that its body is too long.
    """
    if not _is_bounded(call):
        return receive
    length = call.headers.get("content-length", "")
    if length.isdigit() and int(length) > most_bytes:
        raise BodyTooLarge(limit_bytes=most_bytes)
    json = call.endpoint is not None and call.endpoint.routed and not call.endpoint.form
    refusal = _of_wrong_kind(call, [value for name, value in scope["headers"] if name == b"content-type"])
    received, seen = bytearray(), 0

    async def watched() -> Message:
        nonlocal seen, refusal
        if refusal is not None:  # LiteLLM may ask again, and would wait for ever
            call.refusal = refusal
            raise refusal
        message = await receive()
        body = message.get("body", b"")
        if json:
            if not seen and body and not body.lstrip().startswith(b"{"):
                refusal = BadInput(problem="The request body must be a JSON object.")
            received.extend(body)
            if not message.get("more_body") and refusal is None:
                refusal = _refused(call, received)
        seen += len(body)
        if seen > most_bytes:
            refusal = BodyTooLarge(limit_bytes=most_bytes)
        if refusal is not None:
            call.refusal = refusal
            raise refusal
        return message

    return watched


def _is_bounded(call: Call) -> bool:
    """Whether the request's body is held to CREDITS_MAX_BODY_BYTES. On the admin's own routes it is not."""
    return call.path.startswith("/api/") or (call.match is not None and call.match.route.access is not Access.REFUSED)


def _of_wrong_kind(call: Call, types: list[bytes]) -> CreditsError | None:
    endpoint = call.endpoint
    if endpoint is None:
        return None
    if endpoint.form and not all(_is(kind, b"multipart/form-data") for kind in types or [b""]):
        return BadInput(problem="The request body must be a form (multipart/form-data).")
    if endpoint.routed and not endpoint.form and not all(_is(kind, b"application/json") for kind in types):
        return BadInput(problem="The request body must be a JSON object (Content-Type: application/json).")
    return None


def _is(content_type: bytes, kind: bytes) -> bool:
    return content_type.lower().partition(b";")[0].strip() == kind


def _refused(call: Call, received: bytearray) -> CreditsError | None:
    """What LiteLLM would stumble over before it asks anybody, or refuse in its own way. The body is noted on `call`."""
    try:
        request = orjson.loads(received)
    except ValueError as problem:
        return MalformedJson(problem=str(problem)[:200])
    if not isinstance(request, dict):
        return BadInput(problem="The request body must be a JSON object.")
    call.body = request
    if not isinstance(request.get("model"), str | None):
        return BadInput(problem="'model' must be the name of a model alias or of an access group.", param="model")
    metadata = request.get("metadata")
    if not isinstance(metadata, dict | None) or (metadata and "tags" in metadata and not _is_texts(metadata["tags"])):
        return BadInput(problem="'metadata' must be an object, and its 'tags' a list of texts.", param="metadata")
    if call.endpoint is not None and isinstance(call.caller, Principal):
        try:
            refuse_overrides(request, call.endpoint)
        except CreditsError as refusal:
            return refusal
    return None


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)
