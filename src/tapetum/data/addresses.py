"""Addresses of pictures that lie elsewhere, and which of them are read.

    http://, https://       a web server
    gs://, ais://           an object store, by webdataset's openers, which start the programs gsutil and ais
    s3://                   the same by ais, where the environment says USE_AIS_FOR=s3

`pipe:`, which webdataset knows too, is refused: no shell is ever started.
"""

import re
from pathlib import Path
from urllib.parse import quote, urlsplit

from tapetum.errors import UserError

WEB = ("http", "https")
_SCHEMES = (*WEB, "gs", "ais", "s3")


def url_of(data: str | Path) -> str:
    """The address that `data` is, or "" for what lies on this machine. A Path made of an address has lost one of its slashes.

    >>> url_of(Path("https://host/photos")), url_of("C:/photos"), url_of("photos")
    ('https://host/photos', '', '')
    """
    text = data.as_posix() if isinstance(data, Path) else data
    found = re.fullmatch(r"([A-Za-z][A-Za-z0-9+.-]+):/+([^/].*)", text, re.DOTALL)
    if found:
        return f"{found[1].lower()}://{found[2]}"
    return text if text.startswith("pipe:") else ""


def check_url(url: str) -> None:
    """Refuse an address that is not read.

    Raises:
        UserError: of an unknown kind, without a host, or with a password or query, which every run would write down.
    """
    shown = re.sub(r"//[^/]*@", "//", url)  # without a password
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise UserError(f"{shown} is no address: {error}. Expected one such as https://host/photos.") from error
    if parts.scheme not in _SCHEMES:
        raise UserError(f"{shown}: '{parts.scheme}' is no kind of address that is read. Expected {', '.join(_SCHEMES)}.")
    if not parts.netloc or "@" in parts.netloc or parts.query or parts.fragment:
        raise UserError(
            f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}: expected a host and a path, without a password "
            "or anything after '?' or '#', which would stand in every run folder. Give such rights another way."
        )


def beside(url: str, name: str) -> str:
    """The address of `name` in the folder `url`.

    >>> beside("https://host/cats and dogs/", "shard-000000.tar")
    'https://host/cats%20and%20dogs/shard-000000.tar'
    """
    whole = f"{url.rstrip('/')}/{name}"
    return quote(whole, safe="/:%[]~!$&'()*+,;=", errors="surrogateescape") if urlsplit(url).scheme in WEB else whole
