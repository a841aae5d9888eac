"""Randomization and allocation for clinical trials.

The list of arms is drawn by a seeded generator, sealed before the first participant, and revealed one entry at a
time by two people; every act stands in a hash-chained log that anybody can verify. The bytes and rules are in
docs/spec.md; the only place where clock, entropy, keys and store meet is `allocator.service`.
"""

__version__ = "0.1.0"
PROGRAM = f"allocator {__version__}"
