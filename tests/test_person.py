"""Roles, and signatures whose encodings leave no room for two opinions."""

from __future__ import annotations

import itertools

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from allocator.errors import EvidenceError, Refused
from allocator.log import KINDS
from allocator.person import (
    PERMITTED,
    Person,
    Role,
    acting_role,
    check_ed25519,
    check_signature,
    roles_of,
    sign,
    signed_bytes,
)

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
PREV, BODY = bytes(32), b'{"kind":"paused"}'
ORDER = 2**252 + 27742317777372353535851937790883648493
FIELD = 2**255 - 19

# who may write what, spelled out by hand: sponsor, statistician, custodian, investigator, pharmacist, auditor
TABLE = {
    "study-opened": "S",
    "person-added": "S",
    "person-deactivated": "S",
    "person-enrolled": "STCIPA",
    "passphrase-changed": "STCIPA",
    "log-read": "SA",
    "decided": "S",
    "generated": "T",
    "imported": "T",
    "list-checked": "T",
    "list-read": "T",
    "granted": "TIP",
    "activated": "S",
    "paused": "STCIPA",
    "resumed": "S",
    "closed": "S",
    "confirmed": "I",
    "screen-failed": "I",
    "confirmation-withdrawn": "I",
    "allocated": "P",
    "shown-again": "P",
    "looked-up": "IP",
    "unblinded": "IP",
    "corrected": "SIP",
    "late": "P",
    "reassignment-proposed": "SIP",
    "reassigned": "SIP",
    "share-copied": "TC",
    "resealed": "T",
    "backed-up": "S",
    "restored": "S",
    "receipt-entered": "ST",
    "recovered": "T",
    "moved": "S",
    "arrived": "S",
    "receipt-copied": "PA",
    "share-given": "TC",
    "opened": "TC",
    "exported": "SA",
    "reviewed": "A",
    "clock-set": "S",
    "refused": "STCIPA",
}
LETTERS = dict(zip("STCIPA", Role, strict=True))
APART = ["TC", "TI", "TP", "CI", "CP", "IP", "SA", "TA", "CA", "IA", "PA"]


def person(*roles: Role) -> Person:
    """Somebody in these roles."""
    return Person(id="P1", roles=roles, sign_key=PUBLIC, seal_key=bytes(32))


@pytest.mark.requirement("A06")
@pytest.mark.parametrize("kind", TABLE)
@pytest.mark.parametrize("letter", LETTERS)
def test_the_role_table(kind: str, letter: str) -> None:
    role = LETTERS[letter]
    if letter in TABLE[kind]:
        assert acting_role(person(role), kind) == role
    else:
        with pytest.raises(Refused) as refusal:
            acting_role(person(role), kind)
        assert refusal.value.code == "not-permitted" and refusal.value.exit_code == 1


@pytest.mark.requirement("A06")
def test_every_signed_kind_has_a_row_and_no_other_has() -> None:
    assert set(PERMITTED) == set(TABLE) == {name for name, kind in KINDS.items() if kind.meaning}


@pytest.mark.requirement("C02")
@pytest.mark.parametrize("pair", ["".join(p) for p in itertools.combinations("STCIPA", 2)])
def test_which_roles_are_never_one_person(pair: str) -> None:
    roles = [str(LETTERS[letter]) for letter in pair]
    for order in (roles, roles[::-1]):
        if pair in APART:
            with pytest.raises(Refused) as refusal:
                roles_of(order)
            assert refusal.value.code == "roles-together"
        else:
            assert [str(role) for role in roles_of(order)] == order


@pytest.mark.requirement("C02")
@given(st.lists(st.sampled_from("STCIPA"), min_size=1, max_size=6))
def test_a_forbidden_pair_is_found_among_any_roles(letters: list[str]) -> None:
    forbidden = any(set(pair) <= set(letters) for pair in APART)
    try:
        roles = roles_of(str(LETTERS[letter]) for letter in letters)
    except Refused as refusal:
        assert forbidden and refusal.code == "roles-together"
    else:
        assert not forbidden and set(roles) == {LETTERS[letter] for letter in letters}


@pytest.mark.parametrize("names, code", [([], "no-role"), (["admin"], "unknown-role"), (["Sponsor"], "unknown-role")])
def test_no_role_and_an_unknown_one_are_refused(names: list[str], code: str) -> None:
    with pytest.raises(Refused) as refusal:
        roles_of(names)
    assert refusal.value.code == code


def test_a_role_given_twice_counts_once() -> None:
    assert roles_of(["sponsor", "sponsor"]) == (Role.SPONSOR,)


def test_the_first_permitted_role_acts() -> None:
    assert acting_role(person(Role.STATISTICIAN, Role.SPONSOR), "activated") == Role.SPONSOR
    assert acting_role(person(Role.SPONSOR, Role.INVESTIGATOR), "corrected") == Role.SPONSOR


@pytest.mark.requirement("S02")
def test_a_signature_is_of_one_record_at_one_place() -> None:
    signature = sign(KEY, PREV, BODY)
    check_signature(PUBLIC, signature, PREV, BODY)
    for prev, body in [(b"\x01" * 32, BODY), (PREV, BODY + b" "), (PREV, BODY[:-1])]:
        with pytest.raises(EvidenceError):
            check_signature(PUBLIC, signature, prev, body)


@pytest.mark.requirement("S02")
def test_a_signature_of_another_key_or_for_another_use_is_refused() -> None:
    other = Ed25519PrivateKey.from_private_bytes(bytes(32))
    untagged = KEY.sign(PREV + BODY).hex()
    for signature in (sign(other, PREV, BODY), untagged):
        with pytest.raises(EvidenceError) as refusal:
            check_signature(PUBLIC, signature, PREV, BODY)
        assert refusal.value.code == "signature"


def test_what_is_signed_is_the_tag_prev_and_body() -> None:
    assert signed_bytes(PREV, BODY) == b"allocator/v1/sign\x00" + PREV + BODY


@given(st.integers(0, 511))
def test_any_flipped_bit_of_a_signature_is_refused(bit: int) -> None:
    signature = bytearray.fromhex(sign(KEY, PREV, BODY))
    signature[bit // 8] ^= 1 << bit % 8
    with pytest.raises(EvidenceError):
        check_signature(PUBLIC, signature.hex(), PREV, BODY)


@pytest.mark.parametrize("signature", ["", "00", "zz" * 64, "00" * 63, "00" * 65])
def test_what_is_no_signature_is_refused(signature: str) -> None:
    with pytest.raises(EvidenceError):
        check_signature(PUBLIC, signature, PREV, BODY)


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(33)])
def test_what_is_no_key_is_refused(key: bytes) -> None:
    with pytest.raises(EvidenceError):
        check_signature(key, sign(KEY, PREV, BODY), PREV, BODY)


# ---- encodings on which libraries disagree ---------------------------------------------------------------------------

SMALL_ORDER_Y = [
    1,
    FIELD - 1,
    0,
    0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
    FIELD - 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
]


def encodings(y: int) -> list[bytes]:
    """Both signs of a point's canonical encoding, and of y + p where that fits 255 bits."""
    values = [y] + ([y + FIELD] if y + FIELD < 2**255 else [])
    return [(value | sign << 255).to_bytes(32, "little") for value in values for sign in (0, 1)]


@pytest.mark.requirement("L02")
@pytest.mark.parametrize("point", [e for y in SMALL_ORDER_Y for e in encodings(y)], ids=lambda p: p.hex()[:8])
def test_points_of_small_order_are_refused_as_key_and_as_r(point: bytes) -> None:
    # with A of small order, R = identity and S = 0 verify any message in a lax library
    identity = (1).to_bytes(32, "little")
    for key, signature in [(point, identity + bytes(32)), (PUBLIC, point + bytes(32)), (point, point + bytes(32))]:
        with pytest.raises((ValueError, InvalidSignature)):
            check_ed25519(key, signature, b"message")


@pytest.mark.requirement("L02")
def test_the_points_listed_are_of_small_order() -> None:
    """By the curve itself: −x² + y² = 1 + d x² y², and 8 times the point is the identity."""
    d = -121665 * pow(121666, FIELD - 2, FIELD) % FIELD
    for y in SMALL_ORDER_Y:
        square = (y * y - 1) * pow(d * y * y + 1, FIELD - 2, FIELD) % FIELD
        x = pow(square, (FIELD + 3) // 8, FIELD)
        if (x * x - square) % FIELD:
            x = x * pow(2, (FIELD - 1) // 4, FIELD) % FIELD
        assert (x * x - square) % FIELD == 0
        px, py = x, y
        for _ in range(3):
            cross = d * px * px * py * py
            px, py = (
                2 * px * py * pow(1 + cross, FIELD - 2, FIELD) % FIELD,
                (py * py + px * px) * pow(1 - cross, FIELD - 2, FIELD) % FIELD,
            )
        assert (px, py) == (0, 1)


@pytest.mark.requirement("L02")
@pytest.mark.parametrize("y", range(19))
def test_coordinates_beyond_the_field_are_refused(y: int) -> None:
    for sign_bit in (0, 1):
        point = (y + FIELD | sign_bit << 255).to_bytes(32, "little")
        for key, signature in [(point, KEY.sign(b"m")), (PUBLIC, point + KEY.sign(b"m")[32:])]:
            with pytest.raises((ValueError, InvalidSignature)):
                check_ed25519(key, signature, b"m")


@pytest.mark.requirement("L02")
@pytest.mark.parametrize("times", [1, 2, 7, 15])
def test_s_that_is_not_reduced_is_refused(times: int) -> None:
    signature = KEY.sign(b"m")
    s = int.from_bytes(signature[32:], "little") + times * ORDER
    assert s < 2**256
    with pytest.raises(ValueError, match="reduced"):
        check_ed25519(PUBLIC, signature[:32] + s.to_bytes(32, "little"), b"m")


def test_s_of_exactly_the_order_is_refused_and_one_below_is_looked_at() -> None:
    r = KEY.sign(b"m")[:32]
    with pytest.raises(ValueError, match="reduced"):
        check_ed25519(PUBLIC, r + ORDER.to_bytes(32, "little"), b"m")
    with pytest.raises(InvalidSignature):
        check_ed25519(PUBLIC, r + (ORDER - 1).to_bytes(32, "little"), b"m")


@pytest.mark.requirement("G02")
@pytest.mark.parametrize(
    "secret, public, message, signature",
    [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
    ],
    ids=["test 1", "test 2"],
)
def test_vectors_of_rfc_8032(secret: str, public: str, message: str, signature: str) -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret))
    assert key.public_key().public_bytes_raw().hex() == public
    assert key.sign(bytes.fromhex(message)).hex() == signature
    check_ed25519(bytes.fromhex(public), bytes.fromhex(signature), bytes.fromhex(message))


@pytest.mark.requirement("G02")
@pytest.mark.requirement("S02")
def test_the_1024_vectors_of_the_authors_of_ed25519() -> None:
    """Each signature is made and holds; over another message, or with S + L, it does not."""
    package = pytest.importorskip("cryptography_vectors", reason="cryptography-vectors is not installed")
    with package.open_vector_file("asymmetric/Ed25519/sign.input", "r") as stream:
        cases = [[bytes.fromhex(part) for part in line.split(":")[:4]] for line in stream]
    assert len(cases) == 1024
    for secret, public, message, signed in cases:
        signature = signed[:64]  # the message follows it there
        assert Ed25519PrivateKey.from_private_bytes(secret[:32]).sign(message) == signature
        check_ed25519(public, signature, message)
        beyond = (int.from_bytes(signature[32:], "little") + ORDER).to_bytes(32, "little")
        for other, text in ((signature, message + b"x"), (signature[:32] + beyond, message)):
            with pytest.raises((ValueError, InvalidSignature)):
                check_ed25519(public, other, text)
