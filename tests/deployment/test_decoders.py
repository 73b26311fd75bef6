"""Decoders that crash, hang and grow take nobody with them."""

import asyncio
import dataclasses
import os
import time

import numpy as np
import pytest
from PIL import Image

from conftest import encoded
from tapetum.data.decode import BadPicture, decode
from tapetum.deployment.decoders import Decoders
from tapetum.deployment.limits import Limits

QUICK = dataclasses.replace(Limits(), decoding_seconds=0.5, decoding_bytes=200 * 1024**2)


def wild(data, max_pixels):
    """What a decoder may do with a picture; its first pixel says which."""
    picture_HWC = decode(data, max_pixels)
    match int(picture_HWC[0, 0, 0]):
        case 1:
            os._exit(11)
        case 2:
            while True:
                pass
        case 3:
            return np.ones(2**28, np.uint8)
    return picture_HWC


def png(first):
    return encoded(Image.new("RGB", (4, 4), (first, 0, 0)))


def ask(pictures):
    async def work():
        decoders = Decoders(wild, 2, QUICK, "numpy")
        await decoders.start()
        try:
            return await asyncio.gather(*(decoders.square(data) for data in pictures), return_exceptions=True)
        finally:
            decoders.stop()

    return asyncio.run(work())


def test_each_gets_its_own_picture():
    found = ask([png(n) for n in range(10, 60)])
    assert [int(square[0, 0, 0]) for square in found] == list(range(10, 60))
    assert found[0].shape == (4, 4, 3)


@pytest.mark.parametrize(("first", "words"), [(1, "too much time or memory"), (2, "too much time"), (3, "memory")])
def test_a_wild_one_is_ended_and_the_others_are_served(first, words):
    begun = time.monotonic()
    found = ask([png(7), png(first), png(8), png(first), png(9)])
    for bad in (found[1], found[3]):
        assert isinstance(bad, BadPicture)
        assert words in str(bad)
    assert [int(found[n][0, 0, 0]) for n in (0, 2, 4)] == [7, 8, 9]
    assert time.monotonic() - begun < 60


def test_what_is_no_picture_has_its_reason():
    (found,) = ask([b"hello"])
    assert "not a picture" in str(found)
