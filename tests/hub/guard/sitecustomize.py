"""What a test changes in a Python process of its own; PYTHONPATH leads here, so it runs before anything else.

COURSE_TEST_NETWORK   "local": connections to this machine alone; "none": no connection at all
COURSE_TEST_MEMORY    bytes that devices.free_memory() finds: the plan counts the real checkpoints' weights
COURSE_TEST_SIZES     JSON, family to pixels: a smaller full_size for the catalogue, as the served checkpoints have it
COURSE_TEST_ROUNDS    how often measure_each() repeats at most: a chapter runs the same cells, in less time
"""

import functools
import ipaddress
import json
import os
import socket


def _network(allowed):
    connect = socket.socket.connect

    def is_local(host):
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    def guarded(self, address, *rest):
        inet = self.family in (socket.AF_INET, socket.AF_INET6)
        if inet and (allowed == "none" or not is_local(address[0])):
            raise ConnectionRefusedError(f"a test reached for {address[0]}:{address[1]}; it has no network")
        return connect(self, address, *rest)

    socket.socket.connect = guarded


def _rounds(plain, most):
    @functools.wraps(plain)
    def measure_each(variants, *, repeats=3, **more):
        return plain(variants, repeats=min(repeats, most), **more)

    return measure_each


if allowed := os.environ.get("COURSE_TEST_NETWORK"):
    _network(allowed)
if sizes := os.environ.get("COURSE_TEST_SIZES"):
    from helpers.catalog.checkpoints import CATALOG

    for checkpoint in CATALOG.values():
        object.__setattr__(checkpoint, "full_size", json.loads(sizes).get(checkpoint.family, checkpoint.full_size))
if memory := os.environ.get("COURSE_TEST_MEMORY"):
    from helpers.catalog import devices

    devices.free_memory = lambda device: int(memory)
if rounds := os.environ.get("COURSE_TEST_ROUNDS"):
    from helpers.analysis import benchmark

    benchmark.measure_each = _rounds(benchmark.measure_each, int(rounds))
