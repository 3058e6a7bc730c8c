# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What can go wrong, in the words of the domain.

No HTTP status is in here: each front has one table from these classes to its wire form.
The exceptions carry data for messages and never a secret.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

from attrs import define, field


@define(eq=False)
class KypelloError(Exception):
    """
    The root of everything that Kypello raises on purpose.
    """

    def __str__(self) -> str:
        """
        Tell the class and its data, which never hold a secret.
        """
        return repr(self)


# Objects and buckets


@define(eq=False)
class NoSuchBucket(KypelloError):
    """
    There is no bucket of this name.
    """

    bucket: str


@define(eq=False)
class BucketExists(KypelloError):
    """
    The name is taken; the existing bucket has not changed.
    """

    bucket: str


@define(eq=False)
class BucketNotEmpty(KypelloError):
    """
    The bucket still holds objects, so it was not deleted.
    """

    bucket: str


@define(eq=False)
class NoSuchKey(KypelloError):
    """
    The bucket exists and holds no current object under this key.

    :ivar marker: The version id of the delete marker that hides what there was; empty for none.
    """

    bucket: str
    key: str
    marker: str = ""


@define(eq=False)
class NoSuchUpload(KypelloError):
    """
    No unfinished upload of this key has this id.
    """

    upload_id: str


@define(eq=False)
class NoSuchVersion(KypelloError):
    """
    The bucket holds no version with this id under this key.
    """

    bucket: str
    key: str
    version_id: str


@define(eq=False)
class IsDeleteMarker(KypelloError):
    """
    The version with this id is a delete marker, which has no content.

    :ivar modified: When it was made, nanoseconds since the epoch.
    """

    bucket: str
    key: str
    version_id: str
    modified: int


@define(eq=False)
class PreconditionFailed(KypelloError):
    """
    A condition of the request does not hold; nothing has changed.

    :ivar condition: The header that failed, such as ``If-Match``.
    """

    condition: str


# Storage


@define(eq=False)
class Conflict(KypelloError):
    """
    An index commit found another value than it expected; nothing was changed.

    The caller reads again and decides again.
    """

    key: bytes


@define(eq=False)
class StorageFull(KypelloError):
    """
    The device has no room; what was under way has been removed.
    """


@define(eq=False)
class QuotaExceeded(KypelloError):
    """
    A bucket may not hold as much as it would; nothing was stored.
    """

    bucket: str

    def __str__(self) -> str:
        """
        Tell it to people.
        """
        return (
            f"the quota of the bucket {self.bucket} leaves no room for it, beside what it takes the"
            " place of"
        )


@define(eq=False)
class StorageFailed(KypelloError):
    """
    The device or the index refused an operation; nothing was acknowledged.
    """

    reason: str


@define(eq=False)
class Damaged(KypelloError):
    """
    What is stored is not what was written.  It is reported and never returned.
    """

    what: str


# Bodies


@define(eq=False)
class Refused(KypelloError):
    """
    A request that breaks a rule of the S3 protocol.

    :ivar code: The S3 error code, the vocabulary that all S3 users share.
    :ivar message: What is wrong, for people.
    :ivar fields: Further elements of the error document, by name.
    """

    code: str
    message: str = ""
    fields: Mapping[str, str] = field(factory=dict)


@define(eq=False)
class BodyTruncated(KypelloError):
    """
    The peer went away, or ended the body, before the announced length.
    """


@define(eq=False)
class BodyTimeout(KypelloError):
    """
    The peer sent nothing for too long.
    """


# Cryptography and keys


@define(eq=False)
class NotAuthentic(KypelloError):
    """
    A ciphertext, its key or its associated data is not what it should be.
    """

    what: str = "ciphertext"


@define(eq=False)
class InvalidKeyName(KypelloError):
    """
    A key name is empty, too long or holds characters that are not allowed.
    """

    name: str


@define(eq=False)
class KeyNotFound(KypelloError):
    """
    The key server, or the key store, has no key of this name.
    """

    name: str

    def __str__(self) -> str:
        """
        Tell it to people.
        """
        return f"there is no key {self.name}"


@define(eq=False)
class KeyExists(KypelloError):
    """
    The name is taken; what is stored has not changed.
    """

    name: str


@define(eq=False)
class KeyMismatch(KypelloError):
    """
    The key server holds other material under a name that data depends on.

    :ivar name: The master key.
    :ivar since: When this data directory first used the key, seconds since the epoch.
    :ivar expected: The fingerprint that the data was written under.
    """

    name: str
    since: float
    expected: str

    def __str__(self) -> str:
        """
        Tell it to people.
        """
        since = datetime.fromtimestamp(self.since, UTC).strftime("%Y-%m-%d %H:%M UTC")
        return (
            f"the key server holds other material under {self.name} than the data is encrypted"
            f" with: that has the fingerprint {self.expected} and is in use since {since}"
        )


@define(eq=False)
class KMSUnavailable(KypelloError):
    """
    No key server answered in time, or none is configured to answer.

    :ivar reason: What was tried, for logs.
    :ivar retry_after: When to try again, in seconds.
    """

    reason: str
    retry_after: float = 5.0

    def __str__(self) -> str:
        """
        Tell it to people.
        """
        return f"no key server answers: {self.reason}"


@define(eq=False)
class KMSForbidden(KypelloError):
    """
    The key server knows us and forbids the operation.
    """

    operation: str

    def __str__(self) -> str:
        """
        Tell it to people.
        """
        return (
            f"the key server forbids us to {self.operation}: its policy for our identity must"
            " allow that"
        )


@define(eq=False)
class KMSNotSupported(KypelloError):
    """
    The key service has no such operation.
    """

    operation: str


@define(eq=False)
class KMSNotConfigured(KypelloError):
    """
    Encryption was asked for, or is needed to read, and no key service is configured.
    """


@define(eq=False)
class KeyStoreUnreachable(KypelloError):
    """
    The key store did not answer in time; the operation may or may not have happened.
    """

    reason: str


@define(eq=False)
class KeyStoreFailed(KypelloError):
    """
    The key store answered and refused, or holds something that is no key.
    """

    reason: str


# Policies


@define(eq=False)
class MalformedPolicy(KypelloError):
    """
    A document is not a policy, or not one that is good for its purpose.

    :ivar reason: What is wrong, for who wrote it.
    """

    reason: str


# Accounts


@define(eq=False)
class NoSuchUser(KypelloError):
    """
    There is no user of this name.  The root user is none of them.
    """

    name: str


@define(eq=False)
class NoSuchGroup(KypelloError):
    """
    There is no group of this name.
    """

    name: str


@define(eq=False)
class GroupNotEmpty(KypelloError):
    """
    The group still has members, so it was not removed.
    """

    name: str


@define(eq=False)
class NoSuchPolicy(KypelloError):
    """
    There is no policy of this name, neither kept nor canned.
    """

    name: str


@define(eq=False)
class PolicyInUse(KypelloError):
    """
    Somebody has the policy, so it was not removed.
    """

    name: str


@define(eq=False)
class PolicyProtected(KypelloError):
    """
    The policy is a canned one that nobody has replaced: it cannot be removed.
    """

    name: str


@define(eq=False)
class NoPolicyChange(KypelloError):
    """
    Who should get policies has them already, or has none of those that should be taken away.
    """


@define(eq=False)
class NoSuchAccessKey(KypelloError):
    """
    There is no service account, or no session, with this access key.
    """

    access_key: str


@define(eq=False)
class AccessKeyTaken(KypelloError):
    """
    The access key is that of a user, of the root user, of a service account or of a session.
    """

    access_key: str


@define(eq=False)
class KeyNotAllowed(KypelloError):
    """
    Who should get a service account or a session cannot have one.

    :ivar reason: Why, for people.
    """

    reason: str


@define(eq=False)
class InvalidAccount(KypelloError):
    """
    A name, a secret or a limit of an account is not as it has to be; nothing was changed.

    :ivar what: What is wrong: ``access key``, ``reserved access key`` (that of the root user),
        ``secret key``, ``group name``, ``policy name``, ``policy``, ``name``, ``description``,
        ``expiration`` or ``duration``.
    :ivar reason: Why, for people.
    """

    what: str
    reason: str


# Configuration


@define(eq=False)
class ConfigurationError(KypelloError):
    """
    The configuration is wrong.

    :ivar mistakes: Every mistake, each a sentence that says what to change.
    """

    mistakes: tuple[str, ...]

    def __str__(self) -> str:
        """
        Tell all of them.
        """
        return " ".join(self.mistakes)
