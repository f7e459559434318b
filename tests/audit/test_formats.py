"""Notes, checkpoints, cosignatures, receipts, policies, tiles: one spelling each, there and back, and none but that.

Each format is written twice, in its own file and in the verifier; what one accepts the other must accept too.
"""

import base64
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedge.audit import tiles, verify
from fedge.audit.checkpoint import Checkpoint, check_cosignature, cosign, parse_body
from fedge.audit.merkle import Tree, leaf_hash
from fedge.audit.note import COSIGNATURE, ED25519, Note, Signature, VerifierKey, parse, sign, verifier_key
from fedge.audit.note import verify as verify_note
from fedge.audit.proof import Receipt, parse_receipt, verify_receipt
from fedge.audit.trust import Trust, majority, parse_trust
from fedge.encoding import canonical
from fedge.encoding import parse as parse_json
from fedge.errors import AuditError, ParseError, SignatureError
from fedge.signing import PrivateKey

KEY, WITNESS, SECOND = (PrivateKey(bytes([n]) * 32) for n in (1, 2, 3))
AT = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
BODY = Checkpoint("fedge/run", 7, b"\x07" * 32).body
NOTE = sign(BODY, "fedge/run", KEY)
LOG = VerifierKey("fedge/run", ED25519, KEY.public)
names = st.text("abcdefghijklmnop0123456789./-_äß漢", min_size=1, max_size=20)


def witness(name: str, key: PrivateKey) -> VerifierKey:
    return VerifierKey(name, COSIGNATURE, key.public)


def trust(quorum: int = 2, organisations: tuple[str, str] = ("clinic", "St. Mary's & Co/2")) -> Trust:
    keys = {"w1": witness("w1", WITNESS), "w2": witness("w2", SECOND)}
    return Trust(LOG, keys, dict(zip(keys, organisations, strict=True)), quorum)


def refuse(first: Callable[[], object], second: Callable[[], object]) -> None:
    """Both writings of a format refuse, each with its own error."""
    with pytest.raises(AuditError):
        first()
    with pytest.raises(verify.Unproven):
        second()


# ---- golden values of known origin -------------------------------------------------------------------------------


def test_the_example_of_the_go_note_package() -> None:
    """https://pkg.go.dev/golang.org/x/mod/sumdb/note: the key and the note of its documentation."""
    vkey = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    text = (
        "If you think cryptography is the answer to your problem,\n"
        "then you don't know what your problem is.\n"
        "\n"
        "\u2014 PeterNeumann "
        "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
    )
    note, key = parse(text), verifier_key(vkey)
    verify_note(note, key)
    assert (note.text, key.text, key.key_id.hex()) == (text, vkey, "c74f20a3")
    second = verify.parse_vkey(vkey)
    assert (second.text, second.hash.hex()) == (vkey, "c74f20a3")
    assert second.key.signed(note.signatures[0].raw, note.body.encode())


def test_the_key_of_a_public_witness() -> None:
    """A witness that runs in public, type 0x04: https://github.com/transparency-dev/formats (note tests)."""
    vkey = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2"
    assert verifier_key(vkey).kind == COSIGNATURE
    assert verifier_key(vkey).text == verify.parse_vkey(vkey).text == vkey


def test_the_time_in_a_public_cosignature() -> None:
    """From the same tests: key id, time as 64-bit big-endian seconds, 64 bytes of signature."""
    raw = base64.b64decode(
        "ZGhGuQAAAABm/qTPeyKXD+R2rzyQsxPiP8mXum7qq/iF0u4vanlqJyocWODBt97w9uL+8qT7S5gxEHWWOworDcFiEBYJXORmnFBOBA=="
    )
    assert len(raw) == 4 + 8 + 64
    assert int.from_bytes(raw[4:12], "big") == 1727964367


def test_the_example_checkpoint_of_the_specification() -> None:
    """https://c2sp.org/tlog-cosignature: its example parses, and prints back byte for byte."""
    text = (
        "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
        "\u2014 example.com/behind-the-sofa "
        "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
        "\u2014 witness.example.com/w1 "
        "jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
    )
    note = parse(text)
    assert note.text == text
    found, second = parse_body(note.body), verify.parse_checkpoint(text)
    assert (found.origin, found.size) == (second.origin, second.size) == ("example.com/behind-the-sofa", 20852163)
    assert found.body == second.body
    assert [s.key_id.hex() for s in note.signatures] == ["033de0ae", "8d66cf3f"]


def test_the_tile_paths_of_the_specification() -> None:
    """https://c2sp.org/tlog-tiles: 1234067 is x001/x234/067."""
    for path in (tiles.path, verify.tile_path):
        assert path("0", 1234067, 256) == "tile/0/x001/x234/067"
        assert path("entries", 1234067, 256) == "tile/entries/x001/x234/067"
        assert path("1", 0, 12) == "tile/1/000.p/12"
        assert path("0", 1000, 256) == "tile/0/x001/000"


@given(st.integers(0, 10**10), st.integers(1, 256))
def test_both_write_the_same_tile_paths(number: int, width: int) -> None:
    assert tiles.path("0", number, width) == verify.tile_path("0", number, width)


# ---- there and back ----------------------------------------------------------------------------------------------


@given(names, st.integers(0, 2**53), st.binary(min_size=32, max_size=32))
def test_checkpoint_there_and_back(origin: str, size: int, root: bytes) -> None:
    checkpoint = Checkpoint(origin, size, root)
    assert parse_body(checkpoint.body) == checkpoint
    note = sign(checkpoint.body, origin, KEY)
    assert parse(note.text) == note
    second = verify.parse_checkpoint(note.text)
    assert (second.origin, second.size, second.root, second.body) == (origin, size, root, checkpoint.body)


@given(names, st.sampled_from([ED25519, COSIGNATURE]))
def test_verifier_key_there_and_back(name: str, kind: int) -> None:
    key = VerifierKey(name, kind, KEY.public)
    assert verifier_key(key.text) == key
    assert verify.parse_vkey(key.text).text == key.text


@given(st.integers(1, 2**36))
def test_cosignature_there_and_back(seconds: int) -> None:
    at = datetime.fromtimestamp(seconds, UTC)
    line = cosign(BODY, "w1", WITNESS, at)
    assert check_cosignature(BODY, line, witness("w1", WITNESS)) == at
    text = NOTE.with_signatures((line,)).text
    assert parse(text).text == text
    seen = verify.check_signatures(
        verify.parse_checkpoint(text), verify.parse_vkey(LOG.text), [verify.parse_vkey(witness("w1", WITNESS).text)]
    )
    assert dict(seen.at) == {"w1": at}


@given(st.integers(1, 40), st.data())
def test_receipt_there_and_back(size: int, data: st.DataObject) -> None:
    entries = [str(i).encode() for i in range(size)]
    tree, index = Tree(map(leaf_hash, entries)), data.draw(st.integers(0, size - 1))
    note = sign(Checkpoint("fedge/run", size, tree.root()).body, "fedge/run", KEY)
    receipt = Receipt(index, tuple(tree.inclusion(index)), note, data.draw(st.sampled_from([None, entries[index]])))
    assert parse_receipt(receipt.text) == receipt
    assert verify_receipt(receipt, entries[index], LOG) == receipt.checkpoint
    second = verify.parse_receipt(receipt.text)
    assert (second.index, second.proof, second.entry) == (index, receipt.proof, receipt.entry)
    assert verify.root_of_proof(index, size, leaf_hash(entries[index]), second.proof) == tree.root()


@pytest.mark.parametrize("quorum", [1, 2])
def test_policy_there_and_back(quorum: int) -> None:
    given_ = trust(quorum)
    assert parse_trust(given_.text) == given_
    second = verify.parse_policy(given_.text)
    assert second.text == given_.text
    assert (dict(second.organisations), second.quorum) == (given_.organisations, quorum)


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=12), min_size=2, max_size=2))
def test_any_name_of_an_organisation_survives_the_policy(organisations: list[str]) -> None:
    given_ = trust(1, (organisations[0], organisations[1]))
    assert parse_trust(given_.text) == given_
    assert verify.parse_policy(given_.text).text == given_.text


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_bundle_there_and_back(entries: list[bytes]) -> None:
    assert tiles.unpack(tiles.pack(entries)) == verify.unpack(tiles.pack(entries)) == entries


def test_an_organisation_has_one_vote() -> None:
    one = Trust(LOG, trust().witnesses, {"w1": "clinic", "w2": "clinic"}, 1)
    assert one.vouching(["w1", "w2"]) == verify.parse_policy(one.text).vouching(["w1", "w2"]) == {"clinic"}


def test_a_majority_is_more_than_half() -> None:
    for n in range(1, 20):
        assert majority(n) == verify.majority(n)
        assert 2 * majority(n) > n >= 2 * (majority(n) - 1)


# ---- what is refused, each for its own reason --------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        BODY.replace("7\n", "07\n", 1),
        BODY.replace("7\n", "+7\n", 1),
        BODY.replace("7\n", "\u0667\n", 1),
        BODY.replace("7\n", "9" * 5000 + "\n", 1),
        BODY.replace("BwcH", "BwcH\r", 1),
        BODY + "extension\n",
        BODY.replace("fedge/run\n", "\n", 1),
        BODY.replace("=\n", "\n"),
        BODY.replace("Bwc=\n", "Bwd=\n"),
        "fedge/run\n7\n" + base64.b64encode(b"short").decode() + "\n",
    ],
    ids=[
        "leading_zero", "plus_sign", "unicode_digit", "endless_size", "carriage_return", "extension_line", "no_origin",
        "no_padding", "padding_bits", "short_root",
    ],
)  # fmt: skip
def test_checkpoint_refused(text: str) -> None:
    signed = f"{text}\n{NOTE.signatures[0].line}"
    refuse(lambda: parse_body(parse(signed).body), lambda: verify.parse_checkpoint(signed))


LINE = NOTE.signatures[0].line


@pytest.mark.parametrize(
    "text",
    [
        NOTE.text.replace("\n\n", "\n\n\n"),
        NOTE.text + "\n",
        NOTE.text[:-1],
        BODY,
        BODY + "\n",
        NOTE.text.replace("\u2014", "-"),
        NOTE.text.replace("\u2014 ", "\u2014  "),
        NOTE.text.replace("\u2014 fedge/run", "\u2014 fedge\u2003run"),
        NOTE.text.replace("\u2014 fedge/run", "\u2014 fedge\u00a0run"),
        NOTE.text.replace("\u2014 fedge/run", "\u2014 fedge+run"),
        NOTE.text[:-2] + "\n",
        NOTE.text.replace("fedge", "fed\tge", 1),
        BODY + "\n" + f"{LINE}" * 5_001,
        BODY + "\n\u2014 fedge/run AAAA\n",
        BODY + "\n" + LINE.replace(" ", " \u200b", 1).replace("\u200b", "\u2028"),
    ],
    ids=[
        "extra_blank_line", "blank_line_at_the_end", "no_newline_at_the_end", "no_signature", "empty_signatures",
        "hyphen_for_dash", "two_spaces", "em_space_in_name", "no_break_space_in_name", "plus_in_name",
        "lenient_base64", "control_character", "too_many_signatures", "signature_without_bytes", "line_separator",
    ],
)  # fmt: skip
def test_note_refused(text: str) -> None:
    refuse(lambda: parse_body(parse(text).body), lambda: verify.parse_checkpoint(text))


@pytest.mark.parametrize(
    "text",
    [
        "name",
        "name+00000000+" + LOG.text.rpartition("+")[2],
        LOG.text.replace("fedge/run", "fedge run"),
        LOG.text.replace("fedge/run", "fedge\u3000run"),
        LOG.text.upper(),
        LOG.text + "=",
        LOG.text + "\n",
        "+" + LOG.text.partition("+")[2],
        VerifierKey("n", 0x05, KEY.public).text,
    ],
    ids=[
        "no_key", "another_hash", "space_in_name", "ideographic_space_in_name", "upper_case", "padding", "newline",
        "no_name", "unknown_type",
    ],
)  # fmt: skip
def test_verifier_key_refused(text: str) -> None:
    refuse(lambda: verifier_key(text), lambda: verify.parse_vkey(text))


RECEIPT = Receipt(3, (b"\x01" * 32, b"\x02" * 32, b"\x03" * 32), NOTE).text


@pytest.mark.parametrize(
    "text",
    [
        RECEIPT.replace("@v1", "@v2"),
        RECEIPT.replace("index 3", "index 03"),
        RECEIPT.replace("index 3", "index -3"),
        RECEIPT.replace("index 3", "index " + "3" * 5000),
        RECEIPT.replace("index", "extra \nindex"),
        RECEIPT.replace("index", "extra aGl=\nindex"),
        RECEIPT.replace("index", "extra aGk=\nextra aGk=\nindex"),
        RECEIPT.replace("index", f"extra {'AAAA' * 21846}\nindex"),
        RECEIPT.replace("index 3\n", "index 3\n\n"),
        RECEIPT.replace("AQEB", "AQEB ", 1),
        RECEIPT.replace("AQEBAQE=\n", "AQEBAQF=\n"),
        RECEIPT.replace("index 3\n", "index 3\n" + "AAAA\n"),
        RECEIPT.replace("index 3\n", "index 3\n" + (base64.b64encode(bytes(32)).decode() + "\n") * 61),
        RECEIPT.partition("\n\n")[0],
        "",
    ],
    ids=[
        "another_version", "leading_zero", "negative", "endless_index", "empty_entry", "lenient_entry", "two_entries",
        "endless_entry", "extra_blank_line",
        "space_in_base64", "lenient_base64", "short_hash", "too_many_hashes", "no_checkpoint", "empty",
    ],
)  # fmt: skip
def test_receipt_refused(text: str) -> None:
    refuse(lambda: parse_receipt(text).checkpoint, lambda: verify.parse_receipt(text))


POLICY = trust().text
TWICE = Trust(LOG, {"w1": witness("w1", WITNESS), "w2": witness("w2", WITNESS)}, {"w1": "a", "w2": "b"}, 2).text


@pytest.mark.parametrize(
    "text",
    [
        "",
        POLICY.replace("quorum organisations\n", ""),
        POLICY.replace("quorum organisations", "quorum none"),
        POLICY.replace("organisations 2", "organisations 02"),
        POLICY.replace("organisations 2", "organisations 0"),
        POLICY.replace("organisations 2", "organisations 3"),
        POLICY.replace("organisations 2", "organisations all"),
        POLICY + "# a remark\n",
        POLICY.replace("log ", "log  "),
        POLICY + POLICY.partition("\n")[0] + "\n",
        POLICY.replace("witness w1 w1", "witness w3 w1"),
        POLICY.replace(LOG.text, witness("fedge/run", KEY).text),
        POLICY.replace(witness("w1", WITNESS).text, VerifierKey("w1", ED25519, WITNESS.public).text),
        "\n".join(line for line in POLICY.split("\n") if " any w2" not in line),
        POLICY.replace("\n", "\r\n"),
        TWICE,
    ],
    ids=[
        "empty", "no_quorum", "quorum_none", "leading_zero", "quorum_of_nobody", "quorum_out_of_reach", "quorum_all",
        "remark", "two_spaces", "two_logs", "another_name", "log_key_is_a_witness", "witness_key_is_a_log",
        "witness_without_organisation", "carriage_returns", "one_key_under_two_names",
    ],
)  # fmt: skip
def test_policy_refused(text: str) -> None:
    refuse(lambda: parse_trust(text), lambda: verify.parse_policy(text))


@pytest.mark.parametrize("bundle", [b"\x00", b"\x00\x02a", b"\x00\x01a\x00"], ids=["length", "entry", "next"])
def test_cut_bundle_refused(bundle: bytes) -> None:
    refuse(lambda: tiles.unpack(bundle), lambda: verify.unpack(bundle))


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":1}',
        b'{"b":1,"a":2}',
        b'{"a": 1}',
        b'{"a":1}\n',
        b'{"a":1.0}',
        b'{"a":1e2}',
        b'{"a":-0}',
        b'{"a":01}',
        b'{"a":9007199254740992}',
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":NaN}',
        b'{"a":"\\u0061"}',
        b'{"a":"\\/"}',
        b'{"a":"\\ud800"}',
        b'{"a":"\xff"}',
        b"\xef\xbb\xbf{}",
        b"[" * 100_000,
        b'{"a":1',
        b"",
    ],
    ids=[
        "duplicate_key", "unsorted_keys", "space", "newline", "float", "exponent", "minus_zero", "leading_zero",
        "beyond_2_53", "endless_number", "nan", "needless_escape", "escaped_slash", "lone_surrogate", "not_utf_8",
        "byte_order_mark", "endless_depth", "cut_off", "empty",
    ],
)  # fmt: skip
def test_json_refused(data: bytes) -> None:
    refuse(lambda: parse_json(data), lambda: verify.parse_json(data))


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(plain)
def test_both_read_the_same_json(value: object) -> None:
    assert verify.parse_json(canonical(value)) == parse_json(canonical(value)) == value


@given(st.dictionaries(st.text("a\uffff\U00010000é\x7f\u2028", max_size=3), st.none(), max_size=6))
def test_keys_are_sorted_as_utf_16(value: dict[str, None]) -> None:
    """RFC 8785, section 3.2.3: an astral character sorts before U+FFFF."""
    assert verify.parse_json(canonical(value)) == value


# ---- cosignatures that do not hold -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        cosign(BODY.replace("7", "8", 1), "w1", WITNESS, AT),
        Signature("w1", cosign(BODY, "w1", WITNESS, AT).key_id, cosign(BODY, "w1", WITNESS, AT).raw[:-1]),
        Signature("w1", cosign(BODY, "w1", WITNESS, AT).key_id, b"\x00" + cosign(BODY, "w1", WITNESS, AT).raw[1:-1]),
        Signature("w1", witness("w1", WITNESS).key_id, sign(BODY, "w1", WITNESS).signatures[0].raw),
    ],
    ids=["another_checkpoint", "cut_off", "moved", "without_a_time"],
)
def test_cosignature_refused(line: Signature) -> None:
    text = NOTE.with_signatures((line,)).text
    refuse(
        lambda: check_cosignature(BODY, line, witness("w1", WITNESS)),
        lambda: verify.check_signatures(
            verify.parse_checkpoint(text), verify.parse_vkey(LOG.text), [verify.parse_vkey(witness("w1", WITNESS).text)]
        ),
    )


def test_a_time_beyond_all_calendars_is_refused() -> None:
    """Signed as it should be, by a hostile witness: no clock shows it, and no date can hold it."""
    seconds = 2**64 - 1
    message = f"cosignature/v1\ntime {seconds}\n{BODY}".encode()
    key = witness("w1", WITNESS)
    line = Signature("w1", key.key_id, seconds.to_bytes(8, "big") + WITNESS.sign(message))
    text = NOTE.with_signatures((line,)).text
    refuse(
        lambda: check_cosignature(BODY, line, key),
        lambda: verify.check_signatures(
            verify.parse_checkpoint(text), verify.parse_vkey(LOG.text), [verify.parse_vkey(key.text)]
        ),
    )


def test_a_note_signed_twice_by_one_key_is_refused() -> None:
    twice = Note(BODY, NOTE.signatures * 2)
    with pytest.raises(SignatureError, match="bears 2 signatures"):
        verify_note(twice, LOG)
    with pytest.raises(verify.Unproven, match="must bear one signature"):
        verify.check_signatures(verify.parse_checkpoint(twice.text), verify.parse_vkey(LOG.text), [])


def test_a_name_with_a_space_signs_nothing() -> None:
    with pytest.raises(ParseError, match="cannot name a key"):
        sign(BODY, "two words", KEY)
