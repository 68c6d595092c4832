# Runs in the sandbox: tries every place given as NAME=HOST:PORT, plainly and from a socket bound to the interface, and
# prints what came of it as JSON.
import json
import socket
import struct
import sys


def tcp(host, port, bound):
    try:
        with socket.socket() as probe:
            probe.settimeout(3)
            if bound:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0\0")
            probe.connect((host, port))
            return "open"
    except OSError as error:
        return f"{type(error).__name__}: {error}"


def udp(host, port, option=None):
    """An answer from a DNS server, or why there is none."""
    query = struct.pack(">6H", 1, 0x100, 1, 0, 0, 0) + b"\4fake\7example\0" + struct.pack(">2H", 1, 1)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.settimeout(3)
            if option:
                probe.setsockopt(socket.SOL_SOCKET, option, 1)
            probe.sendto(query, (host, port))
            return "open" if option or probe.recv(512) else "empty"
    except OSError as error:
        return f"{type(error).__name__}: {error}"


def forget_filter():
    """Asks the kernel to delete the table of the filter (NFT_MSG_DELTABLE)."""
    def message(kind, flags, family, resource, attributes=b""):
        body = struct.pack(">BBH", family, 0, resource) + attributes
        return struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body
    name = b"dindctl\0"
    table = struct.pack("=HH", 4 + len(name), 1) + name
    batch = message(0x10, 1, 0, 10) + message(10 << 8 | 2, 5, 1, 0, table) + message(0x11, 1, 0, 10)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as kernel:
            kernel.settimeout(3)
            kernel.sendto(batch, (0, 0))
            return struct.unpack_from("=i", kernel.recv(4096), 16)[0]
    except OSError as error:
        return -error.errno


places = dict(argument.split("=", 1) for argument in sys.argv[1:])
said = {"own": socket.gethostbyname(socket.gethostname())}
for name, place in places.items():
    host, port = place.rsplit(":", 1)
    if name.startswith("udp"):
        said[name] = udp(host, int(port))
    else:
        said[name] = tcp(host, int(port), False)
        said[name + ", bound"] = tcp(host, int(port), True)
said["broadcast"] = udp("255.255.255.255", 9, socket.SO_BROADCAST)
said["forget"] = forget_filter()
with socket.create_server(("", 8000)):
    said["itself"] = tcp(said["own"], 8000, False)
said["raw"] = "closed"
try:
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    said["raw"] = "open"
except PermissionError:
    pass
print(json.dumps(said))
