# The internet of the egress tests: an answer on TCP port 80, and a DNS server that knows one name.
import socket
import struct
import sys
import threading

address = socket.inet_aton(sys.argv[1])


def web():
    server = socket.create_server(("", 80))
    while True:
        server.accept()[0].close()


threading.Thread(target=web, daemon=True).start()
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
    server.bind(("", 53))
    while True:
        query, caller = server.recvfrom(512)
        question = query[12:query.index(0, 12) + 5]
        is_address = question[-4:] == b"\0\1\0\1"
        header = query[:2] + struct.pack(">5H", 0x8180, 1, is_address, 0, 0)
        answer = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 1, 4) + address if is_address else b""
        server.sendto(header + question + answer, caller)
