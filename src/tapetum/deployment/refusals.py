"""Answers that refuse: one form for all of them, `{"error": {"code", "message"}}`."""

import json
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response

_CODES = {
    400: "bad_request", 401: "unauthorized", 403: "forbidden", 404: "not_found", 405: "method_not_allowed", 408: "too_slow",
    413: "too_large", 415: "unsupported_type", 421: "wrong_host", 422: "not_a_picture", 500: "bug", 503: "busy",
}  # fmt: skip


class Json(Response):
    """JSON in ASCII: a file's name may be text that UTF-8 cannot say."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The body."""
        return json.dumps(content, allow_nan=False).encode()


def error(status: int, message: str) -> dict[str, Any]:
    """What a refusal says of itself."""
    return {"error": {"code": _CODES.get(status, "refused"), "message": message}}


def failure(refusal: HTTPException, **more: Any) -> Json:
    """A refusal as an answer."""
    return Json({**error(refusal.status_code, refusal.detail), **more}, refusal.status_code, headers=refusal.headers)
