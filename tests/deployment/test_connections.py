"""A connection by itself, with a transport that only notes whether it is read."""

import asyncio
from unittest.mock import Mock

import uvicorn
from uvicorn.server import ServerState

from tapetum.deployment.connections import connection_class
from tapetum.deployment.limits import Limits


async def app(scope, receive, send):
    await asyncio.Event().wait()  # busy, and fetches nothing


def is_read_after(*arriving):
    """Whether the connection goes on reading after these bytes."""

    async def come():
        config = uvicorn.Config(app)
        config.load()
        connection = connection_class(Limits())(config, ServerState(), {}, asyncio.get_running_loop())
        transport = Mock(asyncio.Transport, **{"is_closing.return_value": False, "get_extra_info.return_value": None})
        read = [True]
        transport.pause_reading.side_effect = lambda: read.append(False)
        transport.resume_reading.side_effect = lambda: read.append(True)
        connection.connection_made(transport)
        for data in arriving:
            connection.data_received(data)
        found = read[-1]
        for task in connection.tasks:
            task.cancel()
        await asyncio.gather(*connection.tasks, return_exceptions=True)
        connection.connection_lost(None)
        return found

    return asyncio.run(come())


def post(length):
    return b"POST /v1/predict HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n" % length


def test_a_large_body_that_nobody_fetches_yet_is_not_read_on_but_after_its_end_a_hang_up_is_noticed():
    assert not is_read_after(post(200_000), b"x" * 100_000)
    assert is_read_after(post(200_000), b"x" * 100_000, b"x" * 100_000)
    assert is_read_after(post(200_000) + b"x" * 200_000)


def test_a_request_that_comes_before_the_answer_to_another_waits_unread():
    assert not is_read_after(post(5) + b"12345", post(5) + b"12345")
