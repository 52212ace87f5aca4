"""Signals that come while the server begins."""

from __future__ import annotations

import asyncio
import signal
import socket
import warnings

import pytest

from worker.web import serve


class ServerStandIn:
    """Counts how often it served; its event loop is made like any other."""

    served = 0

    async def serve(self, sockets):
        assert sockets
        self.served += 1


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_amid_the_making_of_the_event_loop_ends_the_server_in_order(monkeypatch, number, error):
    def interrupted():
        signal.raise_signal(number)
        return make()

    make, server = asyncio.new_event_loop, ServerStandIn()
    monkeypatch.setattr("asyncio.events.new_event_loop", interrupted)
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with socket.socket() as listener, warnings.catch_warnings():
            warnings.simplefilter("error")
            with serve._closing_on_sigterm(), pytest.raises(error):
                serve._run(server, listener)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    assert server.served == 0


def test_without_a_signal_it_serves_and_the_handlers_are_as_before():
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    server = ServerStandIn()
    with socket.socket() as listener:
        serve._run(server, listener)
    assert server.served == 1
    assert {each: signal.getsignal(each) for each in before} == before
