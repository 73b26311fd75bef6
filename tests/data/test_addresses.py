"""Judges: urllib's own parser and unquoting, and addresses written out by hand."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tapetum.data.addresses import beside, check_url, url_of
from tapetum.errors import UserError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("HttpS://Host/고양이 A", "https://Host/고양이 A"),
        ("s3://bucket/cats\nand dogs", "s3://bucket/cats\nand dogs"),
        (Path("http://127.0.0.1:8000/고양이/b"), "http://127.0.0.1:8000/고양이/b"),
        (Path("pipe:cat shards"), "pipe:cat shards"),
        ("https:host", ""),
        ("https://", ""),
        ("내://host", ""),
        ("photos/https://host", ""),
        ("", ""),
    ],
)
def test_an_address_has_a_scheme_and_a_host(text, address):
    assert url_of(text) == address


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("https:///photos", "https:///photos"),
        ("https://ann:secret@host:8000/photos", "https://host:8000/photos"),
        ("https://a@b:secret@host/photos", "https://host/photos"),
        ("https://secret@host/고양이?secret#secret", "https://host/고양이"),
        ("ftp://ann:secret@host/photos", "ftp://host/photos"),
        ("https://ann:secret@[::1/photos", "https://[::1/photos"),
        ("https://ho℀st/photos", "https://ho℀st/photos"),
    ],
)
def test_a_refusal_repeats_the_address_without_its_secrets(address, told):
    with pytest.raises(UserError, match=r"[Ee]xpected ") as refused:
        check_url(address)
    assert str(refused.value).startswith(told)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("folder", "address"),
    [
        ("http://host:8000/개//", "http://host:8000/%EA%B0%9C/a.tar"),
        ("http://[::1]/a%20b", "http://[::1]/a%20b/a.tar"),
        ("https://host/a(1)+b,c;d=e&f'~!$*:", "https://host/a(1)+b,c;d=e&f'~!$*:/a.tar"),
        ("http://host/\udcff", "http://host/%FF/a.tar"),  # a byte that is no letter, as the command line gives it
        ("gs://bucket/고양이 100%/", "gs://bucket/고양이 100%/a.tar"),
    ],
)
def test_the_address_of_a_shard_is_quoted_for_the_web_alone(folder, address):
    check_url(folder)
    assert beside(folder, "a.tar") == address


def test_a_server_unquotes_the_name_that_was_given():
    for first in range(0x20, 0x3000, 16):  # all alphabets up to the signs of Chinese
        name = "".join(chr(code) for code in range(first, first + 16) if chr(code) not in "%/?#")
        address = beside("https://host/a", name)
        assert address.isascii()
        assert " " not in address
        assert unquote(urlsplit(address).path) == f"/a/{name}"
