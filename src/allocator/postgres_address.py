"""Whom an address of PostgreSQL lets answer, and what to do when nobody does (postgresql.org/docs, "libpq", 34.19).

libpq's own default, sslmode=prefer, talks to whoever answers, in the clear when asked to. What is said here are
participants' answers, so another host must prove who it is: verify-full unless the address says verify-ca, and nothing
less. A socket and loopback stay on this machine; that is also where a tunnel ends.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from allocator.errors import InputError

PROVEN = ("verify-full", "verify-ca")
_ENVIRONMENT = {"host": "PGHOST", "hostaddr": "PGHOSTADDR", "sslmode": "PGSSLMODE", "service": "PGSERVICE"}
_CERTIFICATE = (
    "Nothing was written, and no password was sent. Is it the right host? The certificate of the authority that signed"
    " the server's belongs into ~/.postgresql/root.crt, or name it: sslrootcert=FILE (docs/postgres.md)."
)
_STEPS = {  # by words of libpq's, which its packages for Python say in English only; the first that fits
    "pg_hba.conf": "Nothing was written. The database's administrator lets this host and user in, with TLS"
    " (docs/postgres.md).",
    "SSL": _CERTIFICATE,
    "certificate": _CERTIFICATE,
    "no password supplied": "Nothing was written. A line of ~/.pgpass gives it: host, port, database and user as in the"
    " address, and nobody else may read the file (chmod 600).",
    "password authentication failed": "Nothing was written. Look at the password in ~/.pgpass, or ask the database's"
    " administrator.",
    "does not exist": "Nothing was written. Look at the address in ALLOCATOR_STORE.",
    "definition of service": "Nothing was written. Look at ~/.pg_service.conf, or PGSERVICEFILE.",
    "failed to resolve host": "Nothing was written. Look at the host in ALLOCATOR_STORE.",
}


def secured(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of an address, with verify-full where they lead to another host and say nothing of TLS.

    Raises:
        InputError: they let anybody answer for another host.
    """
    known = {name: os.environ[variable] for name, variable in _ENVIRONMENT.items() if variable in os.environ}
    effective = {**known, **parameters}
    if effective.get("service"):
        return dict(parameters)  # what its file says is known to `refuse_open` only, once connected
    if "sslmode" not in effective and _other_hosts(effective):
        return {**parameters, "sslmode": "verify-full"}
    refuse_open(effective)
    return dict(parameters)


def refuse_open(parameters: Mapping[str, Any]) -> None:
    """InputError when these parameters, libpq's defaults included, let anybody answer for another host."""
    others = _other_hosts(parameters)
    if others and parameters.get("sslmode") not in PROVEN:
        raise InputError(
            "not-private",
            f"the address lets anybody answer for {others[0]}, and read what is said",
            "Write sslmode=verify-full, or leave sslmode out. A tunnel ends at 127.0.0.1 (docs/postgres.md).",
        )


def next_step(said: str) -> str:
    """What to do after these words of a connection that was not made."""
    for words, step in _STEPS.items():
        if words in said:
            return step
    return "Nothing was written. Ask again, or tell the sponsor."


def _other_hosts(parameters: Mapping[str, Any]) -> list[str]:
    """The hosts beyond this machine."""
    hosts = str(parameters.get("hostaddr") or parameters.get("host") or "").split(",")
    return [host for host in hosts if not _is_here(host)]


def _is_here(host: str) -> bool:
    """Whether libpq reaches this machine by it: no host, a folder with a socket, an abstract socket, loopback."""
    if not host or host[0] in "/@" or host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
