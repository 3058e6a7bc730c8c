# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.iam.archivefile``.
"""

import json
from base64 import b64encode
from io import BytesIO
from warnings import catch_warnings, simplefilter
from zipfile import ZIP_LZMA, ZIP_STORED, ZipFile

from hypothesis import given
from hypothesis import strategies as st

from kypello.archive import MalformedArchive
from kypello.iam.archivefile import (
    LIMITS,
    Archive,
    ArchivedGroup,
    ArchivedKey,
    ArchivedUser,
    Odd,
    read_archive,
    write_archive,
)
from kypello.iam.importreport import Thing
from tests.cases import SyncCase
from tests.iam.archives import EMBEDDED, key, minio_assets, zipped

_NAMES = st.text(max_size=8)
_POLICIES = st.dictionaries(
    _NAMES, st.lists(st.text("abc", min_size=1), min_size=1).map(tuple), max_size=3
)
_KEYS = st.builds(
    ArchivedKey,
    parent=_NAMES,
    secret_key=_NAMES,
    enabled=st.booleans(),
    policy=st.sampled_from([None, b'{"Version":"2012-10-17"}']),
    name=_NAMES,
    description=_NAMES,
    expires=st.none() | st.integers(1, 4_000_000_000).map(float),
    groups=st.lists(_NAMES, max_size=2).map(tuple),
    claims=st.just({}),
)
_ARCHIVES = st.builds(
    Archive,
    policies=st.dictionaries(_NAMES, st.sampled_from([b"{}", b'{"Statement":[]}']), max_size=3),
    users=st.dictionaries(_NAMES, st.builds(ArchivedUser, _NAMES, st.booleans()), max_size=3),
    groups=st.dictionaries(
        _NAMES,
        st.builds(ArchivedGroup, st.booleans(), st.lists(_NAMES, max_size=3).map(tuple)),
        max_size=3,
    ),
    keys=st.dictionaries(_NAMES, _KEYS, max_size=3),
    user_policies=_POLICIES,
    group_policies=_POLICIES,
    subject_policies=_POLICIES,
)


class ReadTests(SyncCase):
    """
    What archives hold.
    """

    def test_minio(self) -> None:
        """
        An export of MinIO is read whole.
        """
        archive = read_archive(zipped(minio_assets()))
        self.assertEqual(archive.users["carol"], ArchivedUser("carol-secret", False))
        self.assertEqual(archive.groups["staff"], ArchivedGroup(True, ("alice", "bob")))
        self.assertEqual(archive.user_policies, {"bob": ("readonly",)})
        self.assertEqual(archive.group_policies, {"staff": ("team",)})
        self.assertEqual(archive.subject_policies, {"uid=dora,ou=people": ("team",)})
        first, limited = archive.keys["ALICEKEY000000000001"], archive.keys["BOBKEY0000000000001"]
        self.assertEqual((first.name, first.policy, first.expires), ("first", None, None))
        self.assertEqual(json.loads(limited.policy or b""), EMBEDDED)
        self.assertEqual(limited.expires, 1796553869.0)
        self.assertEqual(archive.odd, ())

    def test_older(self) -> None:
        """
        The policies of users may stand beside their secrets; those of the mappings count more.
        """
        users = {
            name: {"secretKey": "12345678", "policyName": "a,b", "status": "enabled"}
            for name in ("alice", "bob")
        }
        archive = read_archive(zipped({"users": users, "user_mappings": {"bob": {"policy": "c"}}}))
        self.assertEqual(archive.user_policies, {"alice": ("a", "b"), "bob": ("c",)})

    def test_limit_in_claims(self) -> None:
        """
        The limit of a key may stand in its claims alone; one that should have a limit and has none
        is not read.
        """
        sealed = b64encode(json.dumps(EMBEDDED).encode()).decode()
        limited = {"sa-policy": "embedded-policy", "sessionPolicy": sealed}
        lost = {"sa-policy": "embedded-policy"}
        archive = read_archive(
            zipped({"svcaccts": {"one": key("a", claims=limited), "two": key("a", claims=lost)}})
        )
        self.assertEqual(json.loads(archive.keys["one"].policy or b""), EMBEDDED)
        self.assertEqual(
            archive.odd, (Odd(Thing.KEY, "two", "it has a policy of its own, which is missing"),)
        )

    def test_odd(self) -> None:
        """
        An entry that makes no sense is told of without its content, and the others are read; so
        with files.
        """
        archive = read_archive(
            zipped(
                {
                    "users": {
                        "alice": {"secretKey": "12345678"},
                        "bob": {"secretKey": 12345678},
                        "carol": {},
                    },
                    "groups": b"[1]",
                    "svcaccts": {"one": key("a", expiration="then"), "two": key("a", status=1)},
                    "notes": {},
                }
            )
        )
        self.assertEqual(list(archive.users), ["alice"])
        told = {(odd.thing, odd.name) for odd in archive.odd}
        self.assertEqual(
            told,
            {
                (Thing.USER, "bob"),
                (Thing.USER, "carol"),
                (Thing.FILE, "iam-assets/groups.json"),
                (Thing.KEY, "one"),
                (Thing.KEY, "two"),
                (Thing.FILE, "iam-assets/notes.json"),
            },
        )
        self.assertNotIn("12345678", repr(archive.odd))

    def test_unknown_status(self) -> None:
        """
        What is neither enabled nor disabled is not enabled.
        """
        archive = read_archive(zipped({"users": {"a": {"secretKey": "12345678", "status": "?"}}}))
        self.assertFalse(archive.users["a"].enabled)

    @given(_ARCHIVES)
    def test_written(self, archive: Archive) -> None:
        """
        What was written is read as it was, and written the same again.
        """
        content = write_archive(archive)
        found = read_archive(content)
        for name, told in found.keys.items():
            claims = {"accessKey", "parent", "sa-policy", "sessionPolicy"}
            self.assertLessEqual(told.claims.keys(), claims)
            self.assertEqual(told.policy, archive.keys[name].policy)
        self.assertEqual(found.users, archive.users)
        self.assertEqual(found.groups, archive.groups)
        self.assertEqual(found.policies, archive.policies)
        self.assertEqual(found.user_policies, archive.user_policies)
        self.assertEqual(found.group_policies, archive.group_policies)
        self.assertEqual(found.subject_policies, archive.subject_policies)
        self.assertEqual(write_archive(found), content)

    def test_repr(self) -> None:
        """
        Nothing that is shown holds a secret.
        """
        self.assertNotIn("secret-", repr(read_archive(zipped(minio_assets()))))


class RefusalTests(SyncCase):
    """
    What is no archive, or a bomb.
    """

    def refused(self, content: bytes) -> str:
        """
        Why an archive is refused.
        """
        with self.assertRaises(MalformedArchive) as caught:
            read_archive(content)
        return caught.exception.reason

    def test_no_archive(self) -> None:
        """
        What is no zip archive, cut, or damaged, is refused.
        """
        whole = zipped(minio_assets(), ZIP_STORED)
        damaged = whole.replace(b"alice-secret", b"alice-secreT", 1)
        for content in (b"", b"PK", b"{}", whole[:-10], whole[60:], damaged):
            self.assertIn("damaged", self.refused(content))

    def test_large(self) -> None:
        """
        An archive that is too large is not looked at.
        """
        self.assertIn("16 MiB", self.refused(bytes(LIMITS.size + 1)))

    def test_bomb(self) -> None:
        """
        An archive that unpacks to more than it may is refused, by one file or by several together,
        whatever it says of their sizes.
        """
        half = bytes(LIMITS.unpacked // 2 + 1)
        self.assertIn("32 MiB", self.refused(zipped({"users": bytes(LIMITS.unpacked + 1)})))
        several = zipped({"users": half, "groups": half})
        self.assertIn("32 MiB", self.refused(several))
        size = len(half).to_bytes(4, "little")
        lying = several.replace(size, (1).to_bytes(4, "little"))
        self.assertNotEqual(lying, several)
        self.assertTrue(self.refused(lying))

    def test_many_files(self) -> None:
        """
        An archive of very many files is refused.
        """
        content = zipped({str(number): {} for number in range(LIMITS.files + 1)})
        self.assertIn("64 files", self.refused(content))

    def test_twice(self) -> None:
        """
        A file that is there twice is refused: readers disagree on which of them counts.
        """
        written = BytesIO()
        with ZipFile(written, "w") as archive:
            archive.writestr("iam-assets/users.json", b"{}")
            with catch_warnings():
                simplefilter("ignore")
                archive.writestr("iam-assets/users.json", b"{}")
        self.assertIn("twice", self.refused(written.getvalue()))

    def test_packing(self) -> None:
        """
        What is packed by what takes much memory is refused.
        """
        self.assertIn("unusual", self.refused(zipped({"users": {}}, ZIP_LZMA)))

    def test_deep(self) -> None:
        """
        JSON that is nested very deeply is odd, and no harm.
        """
        for content in (b"[" * 100_000, b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"):
            archive = read_archive(zipped({"users": content}))
            self.assertEqual(archive.users, {})
            self.assertEqual(len(archive.odd), 1)
