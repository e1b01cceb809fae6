"""Other CLIP services, to be measured beside ours: each in an environment of its own, which `make bench-peers` makes.

write_model(folder, bundle)             # the weights of a bundle, as a folder that every peer reads
reference = Reference.of(bundle)
with PEERS["litserve"].start(folder, log) as server:
    check_agreement(server, reference)           # raises PeerError where it computes something else
    await Client(server.url).send(server.text("a cat"))
"""

from benchmarks.peers.agreement import Agreement, Reference, check_agreement
from benchmarks.peers.catalogue import PEERS
from benchmarks.peers.peer import Peer, PeerServer
from benchmarks.peers.process import PeerError
from benchmarks.peers.weights import write_model

__all__ = ["PEERS", "Agreement", "Peer", "PeerError", "PeerServer", "Reference", "check_agreement", "write_model"]
