"""A second implementation of docs/spec.md, written from its text: standard library and `cryptography`, nothing else.

It imports nothing of the package that it is held against. Each module names the sections it follows.
"""
