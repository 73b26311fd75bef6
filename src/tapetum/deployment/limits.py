"""What the server bears: every bound in one place. docs/serving.md tells of them, docs/trust.md of their tests."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of one worker process."""

    body_bytes: int = 10_000_000
    """Of one request, counted as it arrives, whatever its Content-Length says."""
    buffered_bytes: int = 256_000_000
    """Of all requests that are being received together."""
    pictures: int = 64
    """In one request."""
    pixels: int = 25_000_000
    """Of a picture, by its header."""
    head_bytes: int = 65_536
    """Of a request's first line and headers."""
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    """From a request's head to the last byte of its body."""
    unread_seconds: float = 30.0
    """For a client to take its answer."""
    idle_seconds: int = 15
    """For which a connection is kept that asks nothing."""
    connections: int = 2_000
    """Open at once; further ones are closed."""
    decoding_seconds: float = 2.0
    """Of computing, not waiting, for one picture."""
    decoding_bytes: int = 2**30
    """Of memory that the decoding of one picture may take."""
    batch: int = 32
    """Pictures computed at once."""
    draining_seconds: float = 35.0
    """For which requests that were begun may go on after a signal to stop."""
