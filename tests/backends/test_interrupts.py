import os
import signal
import threading

import pytest

from keras_fcn.backends.interrupts import interrupts_wait

pytestmark = pytest.mark.any_backend


def interrupted_step(done, error=None):
    with interrupts_wait():
        os.kill(os.getpid(), signal.SIGINT)
        done.append("all of it")
        if error is not None:
            raise error


@pytest.mark.parametrize("error", [None, OSError("a full disk")])
def test_ctrl_c_comes_at_the_end_of_a_step_whatever_it_raises(error):
    handler, done = signal.getsignal(signal.SIGINT), []
    with pytest.raises(KeyboardInterrupt):
        interrupted_step(done, error)
    assert done == ["all of it"]
    assert signal.getsignal(signal.SIGINT) is handler


def test_sigterm_comes_at_the_end_of_a_step_where_python_handles_it():
    class Terminated(BaseException):
        pass

    def handler(number, frame):
        raise Terminated

    def step():
        with interrupts_wait():
            os.kill(os.getpid(), signal.SIGTERM)
            done.append("all of it")

    before, done = signal.signal(signal.SIGTERM, handler), []
    try:
        with pytest.raises(Terminated):
            step()
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)
    assert done == ["all of it"]


def test_without_ctrl_c_an_error_is_itself():
    with pytest.raises(OSError, match="full disk"), interrupts_wait():
        raise OSError("a full disk")


def test_other_threads_leave_the_handler_alone():
    handler, found = signal.getsignal(signal.SIGINT), []

    def work():
        with interrupts_wait():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [handler]
