"""The network: what the node accepts and proposes, who may send to it, and how it sends."""
