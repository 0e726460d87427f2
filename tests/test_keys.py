"""The key file and the ring of keys that a server asks."""

import os
import stat
from pathlib import Path

import pytest

from serow.errors import RequestError, StoreError
from serow.keys import Key, KeyFile, Keyring, Scope, digest

ALL = tuple(Scope)


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "deep" / "keys.json")


def test_a_key_is_kept_as_a_hash_that_only_its_owner_reads(file: KeyFile) -> None:
    secret = file.create("laptop", ALL)
    assert secret not in file.path.read_text()
    assert [(key.name, key.sha256, key.scopes) for key in file.read()] == [("laptop", digest(secret), ALL)]
    assert os.name != "posix" or stat.S_IMODE(file.path.stat().st_mode) == 0o600


def test_no_two_keys_are_alike(file: KeyFile) -> None:
    secrets = {file.create(f"key-{number}", ALL) for number in range(20)}
    assert len(secrets) == 20 and min(map(len, secrets)) > 40


@pytest.mark.parametrize("name", ["", " ", "a b", "-a", "a\n", "é", "x" * 65])
def test_a_name_that_will_not_do_is_refused(file: KeyFile, name: str) -> None:
    with pytest.raises(RequestError, match="no name"):
        file.create(name, ALL)


def test_a_name_stands_for_one_key(file: KeyFile) -> None:
    file.create("laptop", ALL)
    with pytest.raises(RequestError, match="there is a key"):
        file.create("laptop", ALL)
    with pytest.raises(RequestError, match="there is no key"):
        file.revoke("phone")
    assert [key.name for key in file.read()] == ["laptop"]


def test_two_commands_do_not_change_the_file_at_once(file: KeyFile) -> None:
    file.create("laptop", ALL)
    file.path.with_name("keys.json.new").touch()
    with pytest.raises(StoreError, match="another command"):
        file.revoke("laptop")


@pytest.mark.parametrize(
    "text", [b"", b"{}", b'[{"name": "a"}]', b'[{"name": "a", "sha256": "b", "scopes": ["root"]}]', b"\xff"]
)
def test_a_broken_file_is_an_error_and_stays_as_it_is(file: KeyFile, text: bytes) -> None:
    file.path.parent.mkdir()
    file.path.write_bytes(text)
    file.path.chmod(0o600)
    with pytest.raises(StoreError, match="broken"):
        file.create("laptop", ALL)
    assert [path.name for path in file.path.parent.iterdir()] == ["keys.json"]
    assert file.path.read_bytes() == text


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_a_file_that_others_may_write_is_not_trusted(file: KeyFile) -> None:
    file.create("laptop", ALL)
    file.path.chmod(0o620)
    with pytest.raises(StoreError, match="written by others"):
        Keyring((), file).find("x")


def test_a_ring_finds_given_and_kept_keys_and_no_others(file: KeyFile) -> None:
    secret = file.create("laptop", (Scope.INFER,))
    ring = Keyring(("first", "zweiter Schlüssel"), file)
    found = [ring.find(text) for text in ("first", "zweiter Schlüssel", secret, "", "First", secret[:-1], digest(secret))]
    assert [key and key.name for key in found] == ["SEROW_API_KEYS #1", "SEROW_API_KEYS #2", "laptop", None, None, None, None]


def test_a_change_of_the_file_holds_from_the_next_question_on(file: KeyFile) -> None:
    ring = Keyring((), file)
    assert not ring.is_set
    secret = file.create("laptop", ALL)
    assert ring.is_set and isinstance(ring.find(secret), Key)
    file.create("phone", ALL)
    file.revoke("laptop")
    assert ring.find(secret) is None


def test_revoking_the_last_key_opens_nothing(file: KeyFile) -> None:
    file.create("laptop", ALL)
    assert file.revoke("laptop") == 0
    assert Keyring((), file).is_set


as_root = pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root can give files away")
STRANGER = 12345


@as_root
def test_a_file_of_another_user_is_not_obeyed(file: KeyFile) -> None:
    secret = file.create("laptop", ALL)
    keyring = Keyring((), file)
    assert keyring.find(secret)
    os.chown(file.path, STRANGER, STRANGER)
    for read in (file.read, lambda: keyring.find(secret), lambda: file.create("phone", ALL)):
        with pytest.raises(StoreError, match="belongs to another user"):
            read()


@as_root
@pytest.mark.parametrize(
    ("mode", "owner", "is_obeyed"), [(0o700, 0, True), (0o777, 0, False), (0o1777, 0, True), (0o700, STRANGER, False)]
)
def test_a_file_in_a_directory_that_others_change_is_not_obeyed(file: KeyFile, mode: int, owner: int, is_obeyed: bool) -> None:
    file.create("laptop", ALL)
    file.path.parent.chmod(mode)
    os.chown(file.path.parent, owner, owner)
    if is_obeyed:
        assert len(file.read()) == 1
    else:
        with pytest.raises(StoreError, match="may be replaced by others"):
            file.read()


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize("mode", [0o720, 0o702])
def test_a_directory_that_others_may_write_is_told_with_what_to_do(file: KeyFile, mode: int) -> None:
    file.create("laptop", ALL)
    file.path.parent.chmod(mode)
    with pytest.raises(StoreError, match="may be replaced by others") as caught:
        file.read()
    assert str(file.path.parent) in caught.value.hint
