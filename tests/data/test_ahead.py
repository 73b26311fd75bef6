import threading
import time

import pytest

from tapetum.data.ahead import ahead


def numbers(count, error=None):
    yield from range(count)
    if error is not None:
        raise error


@pytest.mark.parametrize("wanted", [True, False])
def test_the_same_items_in_the_same_order_and_errors_at_their_place(wanted):
    assert list(ahead(numbers(50), wanted)) == list(range(50))
    failing = ahead(numbers(3, OSError("gone")), wanted)
    assert [next(failing) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="gone"):
        next(failing)


def test_they_are_made_while_the_step_computes():
    def slow():
        for number in range(6):
            time.sleep(0.05)
            yield number

    def seconds(wanted):
        begun = time.monotonic()
        for _ in ahead(slow(), wanted):
            time.sleep(0.05)
        return time.monotonic() - begun

    assert seconds(True) < 0.8 * seconds(False)


def test_who_leaves_off_leaves_no_thread():
    before = threading.active_count()
    batches = ahead(iter(range(1_000_000)), True)
    assert [next(batches) for _ in range(3)] == [0, 1, 2]
    batches.close()
    assert threading.active_count() == before
