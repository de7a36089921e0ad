import signal


def pytest_configure() -> None:
    # A shell that starts us in the background has us ignore SIGINT, and every program we start would inherit that:
    # the tests that press Ctrl-C would press it in vain.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
