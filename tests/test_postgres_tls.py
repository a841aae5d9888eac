"""Who answers for a database: TLS, passwords and service files by libpq's conventions, and what is refused, with words.

A server of this module's own has a certificate for db.example.org, which `hostaddr` leads to loopback. Where its
binaries were built without TLS, a proxy before it speaks that. What must not be told to anybody is tried on a server
that is none: it answers the first message, and keeps all that it hears.
"""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from allocator import postgres_address, stores
from allocator.cli import run
from allocator.errors import AllocatorError
from allocator.postgres_connection import connect
from allocator.postgres_store import schema_text
from certificates import Authority, server_context, tls_before
from postgres_server import PASSWORD, own_server, put, reload, turned_to_tls

HOST, USER = "db.example.org", "trial_app"
HBA = f"""local all postgres trust
host all postgres 127.0.0.1/32 trust
{{}} all {USER} 127.0.0.1/32 scram-sha-256
"""
GREETING = 8  # bytes of the one message that asks for TLS


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """A port of loopback where a server speaks TLS; `whole` where it does that itself, with its rules for it."""

    port: int
    whole: bool


@pytest.fixture(scope="module")
def authority() -> Authority:
    """The unit's own."""
    return Authority("the unit's own authority")


@pytest.fixture(scope="module")
def server(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tls]:
    """With TLS, the schema, and a user who comes by TLS and password only."""
    certificate = authority.issue(HOST)
    files = {"server.crt": certificate[0], "server.key": certificate[1], "pg_hba.conf": HBA.format("hostssl")}
    with own_server(files, debian_first=True) as made:
        if made is None:
            pytest.skip("no PostgreSQL: install the extra `dev`")
        with psycopg.connect(made.admin, autocommit=True) as connection:
            connection.execute(schema_text().encode())
            connection.execute(f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}' IN ROLE allocator_writer".encode())
        if turned_to_tls(made):
            yield Tls(port=made.port, whole=True)
            return
        put(made.folder / "data" / "pg_hba.conf", HBA.format("host"))
        reload(made)
        with tls_before(made.port, certificate, tmp_path_factory.mktemp("front")) as port:
            yield Tls(port=port, whole=False)


@pytest.fixture(autouse=True)
def own(tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder, with the authority's certificate where libpq looks for it."""
    (tmp_path / ".postgresql").mkdir()
    (tmp_path / ".postgresql" / "root.crt").write_text(authority.certificate)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("PGSSLMODE", "PGHOST", "PGHOSTADDR", "PGSERVICE", "PGPASSWORD"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback counts as another machine."""
    monkeypatch.setattr(postgres_address, "_is_here", lambda host: host.startswith("/"))


def address(server: Tls, *more: str, host: str = HOST, user: str = f"{USER}:{PASSWORD}") -> str:
    """Of the database, by this name."""
    return f"postgresql://{user}@{host}:{server.port}/postgres?{'&'.join(('hostaddr=127.0.0.1', *more))}"


def refused(address: str) -> AllocatorError:
    """The error, which never holds the password."""
    with pytest.raises(AllocatorError) as refusal:
        connect(address, busy_seconds=1)
    error = refusal.value
    assert PASSWORD not in str(error.as_json())
    assert (error.exit_code, "Nothing was written" in error.hint) in ((2, False), (5, True))
    return error


def is_encrypted(address: str) -> bool:
    """Whether a connection is made, and by TLS."""
    connection, _ = connect(address, busy_seconds=1)
    with connection:
        return bool(connection.pgconn.ssl_in_use)


# ---- the right one --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["verify-full", "verify-ca"])
@pytest.mark.usefixtures("elsewhere")
def test_the_server_of_that_name_is_talked_to_by_tls(server: Tls, mode: str) -> None:
    assert is_encrypted(address(server, f"sslmode={mode}"))


@pytest.mark.usefixtures("elsewhere")
def test_without_a_word_another_machine_must_prove_who_it_is(server: Tls) -> None:
    assert is_encrypted(address(server))
    said = refused(address(server, host="127.0.0.1"))  # the certificate is not for this name
    assert (said.exit_code, said.code) == (5, "unavailable")


# ---- the wrong one, before a password is sent -----------------------------------------------------------------------


class Stranger:
    """Answers the wish for TLS as told, and keeps what it hears after that."""

    def __init__(self, certificate: tuple[str, str] | None, folder: Path) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.heard: list[bytes] = []
        self._context = server_context(certificate, folder) if certificate else None
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with client, suppress(OSError):
                    client.settimeout(5)
                    assert len(client.recv(GREETING, socket.MSG_WAITALL)) == GREETING
                    client.sendall(b"S" if self._context else b"N")
                    if self._context:
                        with self._context.wrap_socket(client, server_side=True) as encrypted:
                            self.heard.append(encrypted.recv(4096))
                    else:
                        self.heard.append(client.recv(4096))

    def close(self) -> None:
        """No further connection."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


@contextmanager
def stranger(certificate: tuple[str, str] | None, folder: Path) -> Iterator[Stranger]:
    """Somebody else at a port of loopback."""
    made = Stranger(certificate, folder)
    try:
        yield made
    finally:
        made.close()


WRONG: dict[str, Callable[[Authority], tuple[str, str] | None]] = {
    "no TLS": lambda _: None,
    "another authority": lambda _: Authority("somebody").issue(HOST),
    "another name": lambda authority: authority.issue("other.example.org"),
}


@pytest.mark.requirement("S04")
@pytest.mark.parametrize("who", WRONG)
@pytest.mark.usefixtures("elsewhere")
def test_a_stranger_hears_no_password_and_is_named(authority: Authority, own: Path, who: str) -> None:
    with stranger(WRONG[who](authority), own) as other:
        error = refused(f"postgresql://{USER}:{PASSWORD}@{HOST}:{other.port}/postgres?hostaddr=127.0.0.1")
    assert (error.exit_code, error.code) == (5, "unavailable")
    assert {"no TLS": "SSL", "another authority": "certificate", "another name": HOST}[who] in error.message
    assert "no password was sent" in error.hint and "root.crt" in error.hint
    assert set(other.heard) <= {b""}  # not even who would have asked


@pytest.mark.usefixtures("elsewhere")
def test_without_the_authority_s_certificate_nobody_is_believed(server: Tls, own: Path) -> None:
    (own / ".postgresql" / "root.crt").unlink()
    error = refused(address(server))
    assert "root.crt" in error.message and "root.crt" in error.hint and error.exit_code == 5


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require"])
@pytest.mark.parametrize("by", ["address", "environment"])
@pytest.mark.usefixtures("elsewhere")
def test_an_address_that_lets_anybody_answer_is_refused_before_anybody_is_asked(
    own: Path, mode: str, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stranger(None, own) as other:
        where = f"postgresql://{USER}:{PASSWORD}@{HOST}:{other.port}/postgres?hostaddr=127.0.0.1"
        if by == "environment":
            monkeypatch.setenv("PGSSLMODE", mode)
        error = refused(where if by == "environment" else f"{where}&sslmode={mode}")
    assert (error.exit_code, error.code) == (2, "not-private") and "verify-full" in error.hint
    assert other.heard == []


@pytest.mark.parametrize(
    ("where", "others"),
    [
        ("postgresql:///trials", False),
        ("postgresql:///trials?host=/var/run/postgresql", False),
        ("postgresql://localhost/trials", False),
        ("postgresql://127.0.0.1:5433/trials", False),
        ("postgresql://[::1]/trials", False),
        ("postgresql://db.example.org/trials?hostaddr=127.0.0.1", False),
        ("postgresql://db.example.org/trials", True),
        ("postgresql://192.0.2.5/trials", True),
        ("postgresql://127.0.0.1,db.example.org/trials", True),
        ("postgresql://localhost.example.org/trials", True),
    ],
)
def test_which_addresses_lead_to_another_machine(where: str, others: bool) -> None:
    given = psycopg.conninfo.conninfo_to_dict(where)
    assert postgres_address.secured(given) == {**given, **({"sslmode": "verify-full"} if others else {})}


@pytest.mark.parametrize("mode", ["verify-full", "prefer"])
def test_a_service_file_gives_the_address(server: Tls, own: Path, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = f"[trials]\nhost={HOST}\nhostaddr=127.0.0.1\nport={server.port}\ndbname=postgres\nsslmode={mode}\n"
    (own / "services").write_text(f"{lines}user={USER}\npassword={PASSWORD}\n")
    monkeypatch.setenv("PGSERVICEFILE", str(own / "services"))
    assert is_encrypted("postgresql://?service=trials")
    monkeypatch.setenv("PGSERVICE", "trials")
    assert is_encrypted("postgresql://")
    monkeypatch.setattr(postgres_address, "_is_here", lambda host: host.startswith("/"))
    if mode == "verify-full":
        assert is_encrypted("postgresql://?service=trials")
    else:
        assert refused("postgresql://?service=trials").code == "not-private"
    assert "pg_service.conf" in refused("postgresql://?service=none").hint


# ---- passwords ------------------------------------------------------------------------------------------------------


def passfile(own: Path, server: Tls, mode: int, password: str = PASSWORD) -> None:
    """~/.pgpass with one line."""
    file = own / ".pgpass"
    file.write_text(f"{HOST}:{server.port}:postgres:{USER}:{password}\n")
    file.chmod(mode)


def test_the_passfile_gives_the_password(server: Tls, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passfile(own, server, 0o600)
    assert is_encrypted(address(server, user=USER))
    shutil.move(own / ".pgpass", own / "elsewhere")
    assert "~/.pgpass" in refused(address(server, user=USER)).hint
    monkeypatch.setenv("PGPASSFILE", str(own / "elsewhere"))
    assert is_encrypted(address(server, user=USER))


@pytest.mark.requirement("S04")
def test_a_passfile_that_others_can_read_is_not_used(server: Tls, own: Path, capfd: pytest.CaptureFixture[str]) -> None:
    passfile(own, server, 0o644)
    error = refused(address(server, user=USER))
    assert error.exit_code == 5 and "no password supplied" in error.message and "chmod 600" in error.hint
    assert "group or world access" in capfd.readouterr().err  # libpq's own warning


@pytest.mark.requirement("S04")
def test_a_wrong_password_is_said_without_any_password(server: Tls, own: Path) -> None:
    passfile(own, server, 0o600, "canary-wrong-password")
    error = refused(address(server, user=USER))
    assert error.exit_code == 5 and "password authentication failed" in error.message
    assert "canary-wrong-password" not in str(error.as_json()) and ".pgpass" in error.hint


def test_a_user_whom_the_server_does_not_let_in_is_told_where_to_look(server: Tls) -> None:
    error = refused(address(server, user=f"somebody:{PASSWORD}"))
    assert "pg_hba.conf" in error.message and "lets this host and user in" in error.hint
    if server.whole:  # loopback may be asked without TLS, and this server wants it
        assert "no encryption" in refused(address(server, "sslmode=disable")).message


@pytest.mark.parametrize(
    ("change", "step"),
    [
        (lambda where: where.replace("/postgres?", "/none?"), "ALLOCATOR_STORE"),
        (lambda where: where.replace("hostaddr=127.0.0.1&", "").replace(HOST, "nowhere.invalid"), "the host"),
    ],
)
def test_an_address_that_leads_nowhere_is_said(server: Tls, change: Callable[[str], str], step: str) -> None:
    assert step in refused(change(address(server, "sslmode=verify-full"))).hint


@pytest.mark.usefixtures("elsewhere")
def test_a_command_says_it_and_writes_nothing(
    own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home: Any = own / "home"
    (home / "schedules" / "S").mkdir(parents=True)
    (home / "keys").mkdir()
    (home / "schedules" / "S" / "study.toml").write_text("")
    (home / "schedules" / "S" / "log.postgresql").write_text('{"first_record":"' + "00" * 32 + '"}')
    monkeypatch.setenv(stores.VARIABLE, f"postgresql://{USER}:{PASSWORD}@127.0.0.1:1/trials?sslmode=prefer")
    assert run(["--home", str(home), "status"]) == 2
    said = capsys.readouterr()
    assert "lets anybody answer for 127.0.0.1" in said.err and "What next" in said.err and PASSWORD not in said.err
