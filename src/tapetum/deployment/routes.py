"""The routes. No path, no address and no name of a file is ever asked for: pictures come in bodies, and only there."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect
from starlette.responses import Response

import tapetum
from tapetum.data.decode import BadPicture
from tapetum.deployment.batching import Gone
from tapetum.deployment.guard import Guard, route_paths
from tapetum.deployment.metrics import CONTENT_TYPE, GONE
from tapetum.deployment.refusals import Json, error, failure
from tapetum.deployment.service import Service

# The page: what is not named here is not served.
PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/words.js": ("words.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_PICTURES = {
    "requestBody": {
        "required": True,
        "description": "One picture as it is, or one or many as the files of a form. JPEG, PNG, WebP, GIF, BMP, TIFF or PPM.",
        "content": {
            "image/*": _BINARY,
            "application/octet-stream": _BINARY,
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"pictures": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            },
        },
    }
}
_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"description": "No picture in the request, or a form that cannot be read"},
    401: {"description": "The token is missing or wrong"},
    413: {"description": "The request is too large, or holds too many pictures"},
    415: {"description": "Neither a picture nor a form"},
    422: {"description": "None of it is a picture that can be read"},
    503: {"description": "Too many are waiting; Retry-After says when to come again"},
}
_PNG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": _BINARY}}}


def create_app(service: Service, token: str = "") -> Guard:
    """The application: routes behind their guard. `token` is what everybody who asks must know; "" lets everybody in."""
    app = FastAPI(
        title="tapetum",
        version=tapetum.__version__,
        description="Names what is in a picture.",
        docs_url=None,  # its pages fetch scripts from elsewhere
        redoc_url=None,
        lifespan=_lifespan(service),
        redirect_slashes=False,
    )
    _add_answers(app, service)
    _add_states(app, service)
    _add_page(app)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(ClientDisconnect, _hung_up)
    app.add_exception_handler(Gone, _hung_up)
    app.add_exception_handler(Exception, _broken)  # the traceback goes to the log
    return Guard(app, service, token, route_paths(app))


def _add_answers(app: FastAPI, service: Service) -> None:
    @app.post("/v1/predict", openapi_extra=_PICTURES, responses=_REFUSALS)
    async def predict(request: Request, each: bool = False) -> Response:
        """Name what is in one or many pictures.

        For each: its name, the label, its probability, those of all classes, and, where strangers are rejected, its
        familiarity; or an error with the reason why it is no picture. If none of them is one, the status is 422; with `each` it
        is 200 all the same. `model` is the SHA-256 of the model's file.
        """
        pictures = await _received(request)
        answers = await service.predict(pictures, _hangs_up(request))
        found = {"model": service.model["model"], "answers": answers}
        if not each and all("error" in answer for answer in answers):
            reason = answers[0]["error"]["message"]
            what = "this is not a picture that can be read" if len(answers) == 1 else "none is a picture that can be read"
            return Json({**error(422, f"{what}: {reason}"), **found}, 422)
        return Json(found)

    @app.post("/v1/explain", response_class=Response, openapi_extra=_PICTURES, responses={**_REFUSALS, **_PNG})
    async def explain(request: Request, label: str | None = None) -> Response:
        """Where in one picture the network sees `label` (default: its answer): a PNG with the warm places coloured."""
        pictures = await _received(request)
        if len(pictures) > 1:
            raise HTTPException(400, f"{len(pictures)} pictures: expected one.")
        try:
            return Response(await service.explain(pictures[0][1], label, _hangs_up(request)), media_type="image/png")
        except BadPicture as reason:
            raise HTTPException(422, f"this is not a picture that can be read: {reason}") from reason


def _add_states(app: FastAPI, service: Service) -> None:
    @app.get("/v1/model")
    async def model() -> Response:
        """What answers: fingerprint, network, classes, measured accuracy, limits."""
        return Json(service.model)

    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz")
    async def healthz() -> Response:
        """200 as long as the server lives."""
        return Json({"alive": True})

    @app.head("/readyz", include_in_schema=False)
    @app.get("/readyz")
    async def readyz() -> Response:
        """200 if it answers pictures; 503 while it gets ready, and from a signal to stop on."""
        ready = service.ready and not service.draining
        return Json({"ready": ready}, 200 if ready else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        """Counts and times for Prometheus."""
        return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE})


def _add_page(app: FastAPI) -> None:
    for path, (name, kind) in PAGE.items():
        content = files("tapetum.deployment").joinpath("page", name).read_bytes()
        app.add_api_route(path, _fixed(content, kind), methods=["GET", "HEAD"], include_in_schema=False)


def _fixed(content: bytes, kind: str) -> Any:
    async def fixed() -> Response:
        return Response(content, headers={"Content-Type": kind, "Cache-Control": "no-cache"})

    return fixed


async def _received(request: Request) -> list[tuple[str, bytes]]:
    """Name and bytes of each picture in a request's body."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _parts(request)
    if kind != "application/octet-stream" and not kind.startswith("image/"):
        raise HTTPException(
            415, f"Content-Type {kind[:80]!r}: expected image/*, application/octet-stream or multipart/form-data."
        )
    body = await request.body()
    if not body:
        raise HTTPException(400, "the request holds no picture. Put its bytes into the body.")
    return [("", body)]


class _InMemory(MultiPartParser):
    spool_max_size = 2**31 - 1  # the guard has counted: nothing is written to a disk


async def _parts(request: Request) -> list[tuple[str, bytes]]:
    try:
        form = await _InMemory(request.headers, request.stream(), max_files=1000, max_fields=1000).parse()
    except MultiPartException as reason:
        raise HTTPException(400, f"the form cannot be read: {reason.message}") from reason
    pictures = [(part.filename or "", await part.read()) for _, part in form.multi_items() if not isinstance(part, str)]
    await form.close()
    if not pictures:
        raise HTTPException(400, "the form holds no file. Send a picture as a file: curl -F pictures=@cat.jpg")
    return pictures


def _lifespan(service: Service) -> Any:
    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        starting = asyncio.create_task(_start(service))  # the port answers meanwhile: not ready
        if service.workers > 1:  # but connections belong to those that are ready, if there are others
            await asyncio.wait([starting])
        try:
            yield {}
        finally:
            starting.cancel()
            await asyncio.wait([starting])
            service.stop()

    return lifespan


async def _start(service: Service) -> None:
    try:
        await service.start()
    except Exception as error:
        service.failed = error


async def _refused(request: Request, refusal: Any) -> Response:
    return failure(refusal)


async def _invalid(request: Request, reason: Any) -> Response:
    names = ", ".join(sorted({str(each["loc"][-1])[:80] for each in reason.errors()}))
    return failure(HTTPException(400, f"{names}: not what /openapi.json expects."))


def _hangs_up(request: Request) -> Callable[[], bool]:
    """Whether who asked has hung up, to be asked again and again (connections.py notes it)."""
    state = request.scope["state"]
    return lambda: state.get("gone", False)


async def _broken(request: Request, reason: Exception) -> Response:
    return Json(error(500, "a bug: the server's log has it. The next request is answered all the same."), 500)


async def _hung_up(request: Request, reason: Exception) -> Response:
    return Response(status_code=GONE)  # nobody is there to read it; it is for the counts
