"""Opens connections to replicas and keeps them, without another word; prints `open` when it has them.

    connections.py COUNT ADDRESS…    ADDRESS is HOST:PORT; each gets COUNT connections
"""

import socket
import sys
import time

# ApiVersions v0 with a client id of one letter.
API_VERSIONS = bytes.fromhex("0000000b" "0012" "0000" "00000001" "0001" "61")


def connect(address):
    host, port = address.rsplit(":", 1)
    try:
        client = socket.create_connection((host, int(port)), timeout=2)
        client.sendall(API_VERSIONS)
        return client
    except OSError:
        # Refused or closed, as it should be beyond a limit.
        return None


count, addresses = int(sys.argv[1]), sys.argv[2:]
clients = [connect(address) for address in addresses for _ in range(count)]
print("open", sum(client is not None for client in clients), flush=True)
time.sleep(600)
