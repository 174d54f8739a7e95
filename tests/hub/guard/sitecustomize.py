"""What a test changes in a Python process of its own; PYTHONPATH leads here, so it runs before anything else.

COURSE_TEST_NETWORK   "local": connections to this machine alone; "none": no connection at all
COURSE_TEST_MEMORY    bytes that devices.free_memory() finds: the plan counts the real checkpoints' weights
COURSE_TEST_SIZES     JSON, family to pixels: a smaller full_size for the catalogue, as the served checkpoints have it
COURSE_TEST_ROUNDS    how often measure_each() repeats at most: a chapter runs the same cells, in less time
"""

import functools
import importlib.abc
import importlib.util
import ipaddress
import json
import os
import socket
import sys


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


def _sizes(module):
    for checkpoint in module.CATALOG.values():
        size = json.loads(os.environ["COURSE_TEST_SIZES"]).get(checkpoint.family)
        if size:
            object.__setattr__(checkpoint, "full_size", size)


def _memory(module):
    module.free_memory = lambda device: int(os.environ["COURSE_TEST_MEMORY"])


def _rounds(module):
    plain, most = module.measure_each, int(os.environ["COURSE_TEST_ROUNDS"])

    @functools.wraps(plain)
    def measure_each(variants, *, repeats=3, **more):
        return plain(variants, repeats=min(repeats, most), **more)

    module.measure_each = measure_each


class _After(importlib.abc.MetaPathFinder):
    """Calls a function with a module as soon as it was imported."""

    def __init__(self, calls):
        self.calls = calls

    def find_spec(self, name, path, target=None):
        change = self.calls.pop(name, None)
        spec = importlib.util.find_spec(name) if change else None
        if spec is not None:
            run = spec.loader.exec_module

            def exec_module(module):
                run(module)
                change(module)

            spec.loader.exec_module = exec_module
        return spec


if "COURSE_TEST_NETWORK" in os.environ:
    _network(os.environ["COURSE_TEST_NETWORK"])
changes = {
    "COURSE_TEST_SIZES": ("helpers.catalog.checkpoints", _sizes),
    "COURSE_TEST_MEMORY": ("helpers.catalog.devices", _memory),
    "COURSE_TEST_ROUNDS": ("helpers.analysis.benchmark", _rounds),
}
sys.meta_path.insert(0, _After({name: call for key, (name, call) in changes.items() if key in os.environ}))
