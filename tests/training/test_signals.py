"""Judges: the interpreter's own table of signal handlers."""

import signal
import threading

import pytest

from tapetum.training.signals import StopRequest

BOTH = (signal.SIGINT, signal.SIGTERM)


def handlers():
    return [signal.getsignal(number) for number in BOTH]


@pytest.fixture
def heard():
    """The signals that reach the handlers of whoever was there before."""
    numbers = []
    before = {number: signal.signal(number, lambda got, frame: numbers.append(got)) for number in BOTH}
    yield numbers
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("first", "second"), [(a, b) for a in BOTH for b in BOTH])
def test_the_first_signal_is_noted_and_the_second_is_for_whoever_was_there_before(heard, first, second):
    with StopRequest() as stop:
        assert stop.signal_number == 0
        signal.raise_signal(first)
        assert (stop.signal_number, heard) == (first, [])
        signal.raise_signal(second)
        assert (stop.signal_number, heard) == (first, [second])


@pytest.mark.usefixtures("heard")
def test_an_error_inside_passes_and_gives_the_handlers_back():
    before = handlers()
    with pytest.raises(ZeroDivisionError), StopRequest():
        _ = 1 / len(set(before) & set(handlers()))
    assert handlers() == before


def test_another_thread_leaves_the_signals_to_the_main_one():
    inside = []

    def work():
        with StopRequest():
            inside.extend(handlers())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert inside == handlers()
