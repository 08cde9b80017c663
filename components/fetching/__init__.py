"""The published data and weights, by name: fetched in pieces that survive an interruption, and checked."""
