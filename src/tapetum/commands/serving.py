"""A trained classifier at work for others: serve."""

import sys
from typing import Annotated

from tyro.conf import arg

from tapetum.commands.common import Json, Reject, Run, expect_run, whole_number
from tapetum.errors import UserError


def serve(
    run: Run,
    /,
    host: Annotated[
        str, arg(help="Address to listen on; any but a loopback address asks everybody for a token.")
    ] = "127.0.0.1",
    port: Annotated[int, arg(help="Port to listen on; 0 takes a free one.")] = 8000,
    workers: Annotated[int, arg(help="Processes that share the port, each with the model in its memory.")] = 1,
    token: Annotated[str, arg(help="What everybody must know who asks; better in the environment, as TAPETUM_TOKEN.")] = "",
    reject: Reject = 0.0,
    queue: Annotated[
        int | None,
        arg(
            help="Pictures that wait in each worker; for more the answer is 503 (default: half a second's, 64 at most).",
            metavar="INT",
            help_behavior_hint="",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Serve a run over HTTP: a page to drop pictures on, and POST /v1/predict for programs.

    Ctrl-C stops it; requests that were begun are answered first. docs/serving.md tells of the rest.

    Args:
        run: Run folder, model file or ONNX file.
    """
    whole_number("workers", workers)
    if queue is not None:
        whole_number("queue", queue)
    if not 0 <= port <= 65_535:
        raise UserError(f"--port is {port}: expected 0 to 65535.")
    expect_run(run)
    from tapetum.deployment.serve import Serving
    from tapetum.deployment.serve import serve as run_server

    sys.exit(run_server(Serving(run, host, port, workers, token, reject, queue or 0, json)))
