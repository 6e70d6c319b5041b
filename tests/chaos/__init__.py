"""Fault drills: break one part of a working system and count what is lost, doubled or wasted.

``python -m tests.chaos`` runs them all on servers of its own; ``--help`` lists them.
"""
