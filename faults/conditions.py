"""Faults of the place rather than of one call: disks, terminals, memory, journals, other processes and programs."""

from __future__ import annotations

import json
import os
import pty
import resource
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from acts import Ran, Site, Sites
from promises import Outcome, judge

Condition = Callable[[Site, str], Outcome]


def full_disk(site: Site, act: str) -> Outcome:
    """A disk of its own, filled to the last block; then room again."""
    with _own_disk(site):
        filler = site.home / "filler"
        with suppress(OSError), filler.open("wb") as stream:
            while True:
                stream.write(b"\0" * 4096)
                stream.flush()
        ran = site.run(act)
        filler.unlink()
        return judge(site, act, ran)


def read_only_disk(site: Site, act: str) -> Outcome:
    """The disk turned read-only, as a kernel does after errors; then writable again."""
    with _own_disk(site):
        subprocess.run(["mount", "-o", "remount,ro", str(site.home)], check=True)
        ran = site.run(act)
        subprocess.run(["mount", "-o", "remount,rw", str(site.home)], check=True)
        return judge(site, act, ran)


@contextmanager
def _own_disk(site: Site) -> Iterator[None]:
    """The home on a small disk in memory; PermissionError where nothing may be mounted."""
    kept = Path(f"{site.home}.kept")
    site.home.rename(kept)
    site.home.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(site.home)], capture_output=True)
    if mounted.returncode:
        raise PermissionError("no disk can be mounted here")
    try:
        shutil.copytree(kept, site.home, dirs_exist_ok=True)
        yield
    finally:
        subprocess.run(["umount", str(site.home)], check=True)
        shutil.rmtree(kept)


def no_larger_files(site: Site, act: str) -> Outcome:
    """A limit on the size of files, as a quota is."""
    ran = site.run(act, preexec_fn=_limited(resource.RLIMIT_FSIZE, 16_384, ignore=signal.SIGXFSZ))
    return judge(site, act, ran)


def no_memory(site: Site, act: str) -> Outcome:
    """Too little memory for Argon2, which wants 64 MiB for a real key."""
    _use_real_key(site, "PH" if act == "reveal" else "IN")
    ran = site.run(act, preexec_fn=_limited(resource.RLIMIT_AS, 96 << 20))
    return judge(site, act, ran)


def _limited(what: int, most: int, *, ignore: signal.Signals | None = None) -> Callable[[], None]:
    def limit() -> None:
        if ignore is not None:
            signal.signal(ignore, signal.SIG_IGN)
        resource.setrlimit(what, (most, most))

    return limit


def _use_real_key(site: Site, person: str) -> None:
    """The person's key file under the stretching of production."""
    from allocator.home import study_place
    from allocator.keys import STANDARD, KeyFolder
    from support import PASSPHRASE

    place = study_place(site.home, None)
    keys = KeyFolder(place.keys, stretching=STANDARD)
    keys.write(place.study, person, keys.unlock(place.study, person, PASSPHRASE), PASSPHRASE, os.urandom)


def closed_output(site: Site, act: str) -> Outcome:
    """Standard output closed before the command begins."""
    line = " ".join(f"'{word}'" for word in site.command(act))
    return judge(site, act, _shell(f"{line} >&-"))


def output_full(site: Site, act: str) -> Outcome:
    """Standard output on a device that is always full."""
    line = " ".join(f"'{word}'" for word in site.command(act))
    return judge(site, act, _shell(f"{line} >/dev/full"))


def reader_gone(site: Site, act: str) -> Outcome:
    """A pipe whose reader has gone."""
    line = " ".join(f"'{word}'" for word in site.command(act))
    return judge(site, act, _shell(f"{line} | true"))


def _shell(line: str) -> Ran:
    from support import PASSPHRASE

    environment = {**os.environ, "ALLOCATOR_PASSPHRASE": PASSPHRASE}
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60, env=environment)
    return Ran(code=done.returncode, out=done.stdout, err=done.stderr)


def terminal_dies(site: Site, act: str) -> Outcome:
    """The terminal goes away (SIGHUP) while the command runs, at ten moments; the last one after the commit."""
    for twentieths in range(1, 11):
        one = Site(home=Path(f"{site.home}-{twentieths}"), answers=site.answers)
        shutil.copytree(site.home, one.home)
        try:
            outcome = judge(one, act, _on_a_dying_terminal(one, act, twentieths / 20))
        finally:
            shutil.rmtree(one.home)
        if outcome.broken:
            return outcome
    return outcome


def _on_a_dying_terminal(site: Site, act: str, seconds: float) -> Ran:
    from support import PASSPHRASE

    child, terminal = pty.fork()
    if child == 0:
        os.environ["ALLOCATOR_PASSPHRASE"] = PASSPHRASE
        os.execv(site.command(act)[0], site.command(act))
    time.sleep(seconds)
    os.close(terminal)
    os.waitpid(child, 0)
    return Ran(code=None, out="", err="")


def journal_left(site: Site, act: str) -> Outcome:
    """A process killed in the middle of its commit left a journal: the next one rolls it back."""
    log = next(site.home.glob("schedules/*/log.sqlite3"))
    code = (
        "import os,sqlite3,sys; c=sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('PRAGMA cache_spill=1'); c.execute('PRAGMA cache_size=1'); c.execute('BEGIN IMMEDIATE');"
        "c.execute('DROP TRIGGER record_no_update');"
        'c.execute("UPDATE record SET kind = hex(zeroblob(4000))"); os._exit(9)'
    )
    subprocess.run([os.environ.get("PYTHON", "python3"), "-c", code, str(log)], check=False)
    if not log.with_name(log.name + "-journal").exists():
        raise RuntimeError("no journal was left")
    return judge(site, act, site.run(act))


def journal_planted(site: Site, act: str) -> Outcome:
    """An old journal of the same log, planted beside it: verify names it, or nothing comes of it."""
    log = next(site.home.glob("schedules/*/log.sqlite3"))
    connection = sqlite3.connect(log, isolation_level=None)
    connection.execute("PRAGMA journal_mode=PERSIST")
    journal = log.with_name(log.name + "-journal")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("DROP TRIGGER record_no_update")
    old = journal.read_bytes() if journal.exists() else b""
    connection.execute("ROLLBACK")
    connection.execute("PRAGMA journal_mode=DELETE")
    connection.close()
    first = site.run(act)
    journal.write_bytes(old or b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + b"\0" * 504)
    return judge(site, act, first)


def another_holds_the_lock(site: Site, act: str) -> Outcome:
    """A stopped process holds the lock: busy, nothing written, in bounded time."""
    lock = next(site.home.glob("keys/*/lock"))
    code = (
        "import fcntl,sys,time; f=open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX);print(1, flush=True); time.sleep(99)"
    )
    holder = subprocess.Popen([os.environ.get("PYTHON", "python3"), "-c", code, str(lock)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    holder.send_signal(signal.SIGSTOP)
    try:
        started = time.monotonic()
        ran = site.run(act)
        waited = time.monotonic() - started
    finally:
        holder.kill()
        holder.wait()
    outcome = judge(site, act, ran)
    late = ("it waited longer than 20 seconds",) if waited > 20 else ()
    return Outcome(seen=outcome.seen, logged=outcome.logged, after=outcome.after, broken=(*outcome.broken, *late))


def slow_disk(site: Site, act: str) -> Outcome:
    """Every sync takes 0.3 s longer, as over a bad network."""
    delay = ("-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:delay_enter=300000")
    return judge(site, act, site.run(act, under=("strace", "-f", "-qq", "-o", "/dev/null", *delay)))


def newer_program(site: Site, act: str) -> Outcome:
    """A newer program wrote a record of a kind that this one does not know: nothing new is written on it."""
    return _made_newer(site, act, _append_unknown)


def newer_schema(site: Site, act: str) -> Outcome:
    """A newer program made this log with another schema version."""
    return _made_newer(site, act, lambda connection: connection.execute("PRAGMA user_version = 99"))


def _append_unknown(connection: sqlite3.Connection) -> None:
    from allocator.canonical import canonical_bytes
    from allocator.log import link

    seq, prev, body = connection.execute("SELECT seq, prev, body FROM record ORDER BY seq DESC LIMIT 1").fetchone()
    fields = {name: json.loads(body)[name] for name in ("format", "time", "mode")}
    fields |= {"seq": seq + 1, "kind": "transferred", "program": "allocator 9.0.0"}
    row = (seq + 1, link(prev, body.encode()), canonical_bytes(fields).decode(), "transferred")
    connection.execute("INSERT INTO record (seq, prev, body, kind) VALUES (?, ?, ?, ?)", row)


def _made_newer(site: Site, act: str, change: Callable[[sqlite3.Connection], object]) -> Outcome:
    log = next(site.home.glob("schedules/*/log.sqlite3"))
    kept = log.read_bytes()
    with closing(sqlite3.connect(log)) as connection:
        change(connection)
        connection.commit()
    newer = log.read_bytes()
    ran = site.run(act)
    went_on = ran.code != 3 or log.read_bytes() != newer
    log.write_bytes(kept)
    outcome = judge(site, act, ran)
    broken = (*outcome.broken, *(("it went on beside a newer program",) if went_on else ()))
    return Outcome(seen=outcome.seen, logged=outcome.logged, after=outcome.after, broken=broken)


CONDITIONS: dict[str, Condition] = {
    "disk full": full_disk,
    "disk read-only": read_only_disk,
    "quota on file sizes": no_larger_files,
    "disk slow": slow_disk,
    "no memory for Argon2": no_memory,
    "output closed": closed_output,
    "output full": output_full,
    "output's reader gone": reader_gone,
    "terminal dies": terminal_dies,
    "journal left by a kill": journal_left,
    "journal planted": journal_planted,
    "lock held by a stopped process": another_holds_the_lock,
    "record of a newer program": newer_program,
    "schema of a newer program": newer_schema,
}
NEED_MOUNT = {"disk full", "disk read-only"}


def try_condition(sites: Sites, act: str, name: str) -> Outcome | None:
    """One condition on a home of its own; None where this machine cannot make it."""
    site = sites.new()
    try:
        return CONDITIONS[name](site, act)
    except PermissionError:
        return None
    finally:
        shutil.rmtree(site.home, ignore_errors=True)
