"""A cable that can be unplugged: a network namespace at the other end of a veth pair."""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor

from .processes import run, spawn
from .waiting import wait_until

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000


def why_not() -> str | None:
    """What this machine lacks for a `Cable`; None if nothing is missing."""
    if os.getuid() != 0:
        return "network namespaces need root"
    missing = [tool for tool in ("ip", "unshare", "nsenter") if shutil.which(tool) is None]
    if missing:
        return f"{missing[0]} is not installed (iproute2, util-linux)"
    trial = run(["unshare", "--net", "ip", "link", "add", "type", "veth"], check=False)
    return f"no namespace with a veth pair: {trial.stderr.strip()}" if trial.returncode else None


class Cable:
    """Leads from this machine's network to a host that has nothing but `address`.

    While it is unplugged packets are lost in both directions and nobody is told: no RST, no FIN, no ICMP message. The
    namespace is that of a process that ends with this one, whatever happens, and takes the cable along.
    """

    def __init__(self) -> None:
        self._holder = spawn(["unshare", "--net", "sleep", "infinity"], stdin=subprocess.DEVNULL)
        # The kernel's limit for names of interfaces is 15 characters.
        self._name = f"lg{self._holder.pid}"
        try:
            self._lay()
        except BaseException:
            self.remove()
            raise

    def _lay(self) -> None:
        own = os.readlink("/proc/self/ns/net")
        wait_until(lambda: os.readlink(self._namespace) != own, "the namespace is there")
        # 198.18.0.0/15 is for tests of networks (RFC 2544); four addresses of it for each cable.
        network = f"198.18.{random.randrange(256)}.{random.randrange(64) * 4}"
        prefix, _, last = network.rpartition(".")
        near, self.address = f"{prefix}.{int(last) + 1}", f"{prefix}.{int(last) + 2}"
        run(["ip", "link", "add", self._name, "type", "veth", "peer", "name", "far", "netns", str(self._holder.pid)])
        run(["ip", "address", "add", f"{near}/30", "dev", self._name])
        run(["ip", "link", "set", self._name, "up"])
        self._inside("ip", "address", "add", f"{self.address}/30", "dev", "far")
        self.plug_in()
        # Without an answer to ARP the kernel would tell that the host is unreachable.
        *_, far = self._inside("ip", "-br", "link", "show", "far").split()[:3]
        run(["ip", "neighbour", "replace", self.address, "lladdr", far, "dev", self._name, "nud", "permanent"])

    @property
    def _namespace(self) -> str:
        return f"/proc/{self._holder.pid}/ns/net"

    def _inside(self, *command: str) -> str:
        return run(["nsenter", f"--net={self._namespace}", *command]).stdout

    def listener(self) -> socket.socket:
        """A listening socket at the other end, on a port that the kernel chooses."""

        def listen() -> socket.socket:
            with open(self._namespace, "rb") as namespace:
                if _libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
            return socket.create_server((self.address, 0))

        # The thread moves to the namespace for good, and ends.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(listen).result()

    def unplug(self) -> None:
        """From now on all packets are lost."""
        self._inside("ip", "link", "set", "far", "down")

    def plug_in(self) -> None:
        """Packets arrive again; what TCP has still to send comes with its next attempt."""
        self._inside("ip", "link", "set", "far", "up")

    def remove(self) -> None:
        """Takes the cable away, and ends the namespace; by itself that would wait for all of its TCP connections."""
        run(["ip", "link", "delete", self._name], check=False)
        self._holder.kill()
        self._holder.wait(10)
