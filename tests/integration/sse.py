# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``docs/encryption.md``, made of the table that ``test_sse_matrix`` tries with boto3:

    python -m tests.integration.sse >docs/encryption.md

Each kind of encryption is stored in each way, and must be what the table says: how it is told, what
its ETag is, what of it is found on the disk.
"""

import sys
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any

from attrs import field, frozen

#: The master key that is not the default one.
NAMED_KEY = "named-key"

_DEFAULT_KEY = "arn:aws:kms:kypello-default-key"
_KMS = {"ServerSideEncryption": "aws:kms"}
_DUAL = {"ServerSideEncryption": "aws:kms:dsse"}

#: The key of a client.
CUSTOMER = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "a key of 32 bytes for the client"}


@frozen
class Kind:
    """
    A kind of encryption.

    :ivar name: Without blanks.
    :ivar title: For people.
    :ivar asked: What a write of boto3 asks for.
    :ivar told: What is told of the object, but for the digest of a client's key.
    :ivar rule: How a bucket asks for it by default; empty when it cannot.
    :ivar digest: Whether the ETag is the MD5 of the content.
    :ivar data_key: What seals the key of the object, for people.
    :ivar seen: How it lies on the disk, for people.
    """

    name: str
    title: str
    asked: Mapping[str, Any] = field(factory=dict)
    told: Mapping[str, Any] = field(factory=dict)
    rule: Mapping[str, Any] = field(factory=dict)
    digest: bool = False
    data_key: str = ""
    seen: str = "encrypted"

    @property
    def key(self) -> Mapping[str, Any]:
        """
        What a read has to bring.
        """
        return CUSTOMER if "SSECustomerKey" in self.asked else {}


NONE = Kind("none", "nothing", digest=True, seen="in clear")
S3 = Kind(
    "s3",
    "SSE-S3",
    {"ServerSideEncryption": "AES256"},
    {"ServerSideEncryption": "AES256"},
    {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}},
    digest=True,
    data_key="of the bucket, under the default master key",
)
KMS = Kind(
    "kms",
    "SSE-KMS",
    _KMS,
    {**_KMS, "SSEKMSKeyId": _DEFAULT_KEY},
    {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}},
    data_key="of the object, under the default master key",
)
NAMED = Kind(
    "named",
    "SSE-KMS, key named",
    {**_KMS, "SSEKMSKeyId": NAMED_KEY},
    {**_KMS, "SSEKMSKeyId": NAMED_KEY},
    {
        "ApplyServerSideEncryptionByDefault": {
            "SSEAlgorithm": "aws:kms",
            "KMSMasterKeyID": NAMED_KEY,
        }
    },
    data_key="of the object, under the named master key",
)
CONTEXT = Kind(
    "context",
    "SSE-KMS, context",
    {**_KMS, "SSEKMSEncryptionContext": b64encode(b'{"team":"blue"}').decode()},
    {**_KMS, "SSEKMSKeyId": _DEFAULT_KEY},
    data_key="of the object, bound to the context, too",
)
BUCKET_KEY = Kind(
    "bucketkey",
    "SSE-KMS, bucket key",
    {**_KMS, "BucketKeyEnabled": True},
    {**_KMS, "SSEKMSKeyId": _DEFAULT_KEY, "BucketKeyEnabled": True},
    {
        "ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"},
        "BucketKeyEnabled": True,
    },
    data_key="of the bucket, under the default master key",
)
NO_BUCKET_KEY = Kind(
    "nobucketkey",
    "SSE-KMS, no bucket key",
    {**_KMS, "BucketKeyEnabled": False},
    {**_KMS, "SSEKMSKeyId": _DEFAULT_KEY},
    {
        "ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"},
        "BucketKeyEnabled": False,
    },
    data_key="of the object, under the default master key",
)
SSE_C = Kind(
    "customer",
    "SSE-C",
    CUSTOMER,
    {"SSECustomerAlgorithm": "AES256"},
    data_key="none: the client's key does",
)

DUAL = Kind(
    "dual",
    "DSSE-KMS",
    _DUAL,
    {**_DUAL, "SSEKMSKeyId": _DEFAULT_KEY},
    {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms:dsse"}},
    data_key="of each layer of the object, under the default master key",
    seen="encrypted twice",
)
#: What is asked for beside it changes nothing.
DUAL_NAMED = Kind(
    "dualnamed",
    "DSSE-KMS, key named",
    {**_DUAL, "SSEKMSKeyId": NAMED_KEY, "BucketKeyEnabled": True},
    {**_DUAL, "SSEKMSKeyId": NAMED_KEY},
    {
        "ApplyServerSideEncryptionByDefault": {
            "SSEAlgorithm": "aws:kms:dsse",
            "KMSMasterKeyID": NAMED_KEY,
        },
        "BucketKeyEnabled": True,
    },
    data_key="of each layer of the object, under the named master key",
    seen="encrypted twice",
)

#: All kinds, in the order of the table.
KINDS = (NONE, S3, KMS, NAMED, CONTEXT, BUCKET_KEY, NO_BUCKET_KEY, DUAL, DUAL_NAMED, SSE_C)


def _as_asked(kind: Kind) -> Kind:
    return kind


def _or_s3(kind: Kind) -> Kind:
    return S3 if kind is NONE else kind


@frozen
class Way:
    """
    A way in which an object comes into being.

    :ivar title: For people.
    :ivar becomes: How something is encrypted that asks for a kind.
    """

    name: str
    title: str
    becomes: Callable[[Kind], Kind] = _as_asked


#: All ways, in the order of the table.  A test has a method for each.
WAYS = (
    Way("put", "PUT"),
    Way("chunked", "PUT in signed chunks with a trailing checksum"),
    Way("form", "POST of a form; it asks in its fields"),
    Way("multipart", "upload in parts"),
    Way("copy", "copy, from each other kind"),
    Way("part_copy", "upload of copied parts"),
    Way("version", "further versions of a key"),
    Way("checksum", "PUT with each kind of checksum"),
    Way("bucket_default", "nothing said, and the bucket's default asks"),
    Way("over_default", "against a bucket's default of SSE-S3", _or_s3),
    Way("auto", "against `MINIO_KMS_AUTO_ENCRYPTION=on`", _or_s3),
)


def expected(way: Way, kind: Kind) -> Kind | None:
    """
    How an object is encrypted; ``None`` for what cannot be asked for in this way.
    """
    if way.name == "bucket_default" and kind is not NONE and not kind.rule:
        return None
    return way.becomes(kind)


_HEAD = """\
# Encryption

What is encrypted, with which keys, and how to prove it. Key servers are set up in
[kms-guide.md](kms-guide.md); where they keep their keys is in [keystores.md](keystores.md).

## Four keys

| key | where it is | what it does |
|---|---|---|
| master key | in the key server alone, by name | seals data keys |
| data key | sealed, beside the object; open in memory for 5 minutes at most | seals object keys |
| object key | sealed, beside the object | encrypts the content of one object |
| part key | nowhere: derived from the object key and the number | encrypts one part |

With SSE-C the client's key takes the place of the data key: no master key, and no key server, has
to do with it. It is forgotten with the request.

- **Content** is cut into packages of 64 KiB, each encrypted with AES-256-GCM and authenticated with
  its place: no package can be changed, moved, left out or taken from another object. Before a byte
  of a package leaves the server, all of the package is authenticated. If one is damaged, a client
  gets an error, or at most the content up to there, and then the connection is cut.
- **An object key** is bound to bucket and key of its object. A stored object that is given another
  name, or another object's metadata, does not open.
- **Metadata** (ETag, checksums, headers, user metadata, tags) is sealed under a key of the bucket,
  or with SSE-C under the object key; then ETag and tags lie in clear. Names, sizes and times lie in
  clear always.
- **A bucket key** (`BucketKeyEnabled`; always with SSE-S3) lets objects of a bucket share a data
  key for 5 minutes, so that few calls of the key server are needed. Each has its own object key.
- **An encryption context** is sealed into the data key by the key server, whose log shows it.
- **Two layers** (DSSE-KMS, `aws:kms:dsse`): the packages of the content are content again, and are
  cut into packages and encrypted once more, with AES-256-GCM, too. Each layer has an object key of
  its own, sealed under a data key of its own from the key server; both are bound to the layer that
  they are for, and who has those of one does not get past the other. They are never shared: to ask
  for a bucket key changes nothing, as in AWS. Metadata has one layer.

## Which encryption applies

What the request asks for; else what the bucket's default asks for; else, with
`MINIO_KMS_AUTO_ENCRYPTION=on`, SSE-S3; else none. A copy is a new object: it is encrypted as it
asks for, whatever its source is.

"""

_TAIL = """
With SSE-C, uploads of parts and all reads bring the key: HEAD, GET and attributes without it are
refused with `InvalidRequest` (400), with another one with `AccessDenied` (403). A key for an object
that has none is refused with `InvalidRequest` (400). Keys of clients come over TLS only.

Sizes are always those of the content: in HEAD, listings, parts, attributes and ranges. Checksums
are those of the content, too.

A test tries each cell of both tables with boto3, reads the object back (whole, in ranges, its
head, its attributes), and searches the data directory for its content. This file is made of its
table by `python -m tests.integration.sse`.

## Proof

    kypello encrypt verify DIR [BUCKET[/PREFIX]]

opens every version of every encrypted object as it lies on the disk: the data key with the master
key, the sealed object key, the metadata, and every package to the last; the content must have the
checksums and, with SSE-S3, the ETag that were sealed with it. A server may run meanwhile. The keys
are those of the server: set `MINIO_KMS_KES_…` or `MINIO_KMS_SECRET_KEY` as for `kypello server`;
without them the keys in `DIR/kes` are used.

| finding | meaning |
|---|---|
| `damaged` | content, sealed key or metadata are not what was written, or are missing |
| `missing key` | there is no master key of the name |
| `wrong key` | the master key of the name is another one than the data was encrypted with |
| `key forbidden` | the key server does not let the identity use the master key |
| `plaintext` | the object lies in clear where encryption is the default, or required |
| `refused encryption` | the object has another kind of encryption, or key, than is required |

Encryption is the default where the bucket asks for it, or `MINIO_KMS_AUTO_ENCRYPTION` does. It is
required by `kypello bucket require`, or by the policy of the bucket
([encryption-keys.md](encryption-keys.md)). What is found may be older than that.

Of a policy those statements count that deny `s3:PutObject` to everybody for nothing but the
encryption: whose conditions ask for `s3:x-amz-server-side-encryption`, `-aws-kms-key-id` and
`-customer-algorithm` alone, with `Null`, `StringEquals`, `StringLike` and their opposites. An
object is told when they deny every request that would have made it: with its master key in each
form that the policy knows, and without headers where a default does the same. Other conditions,
users, variables, and patterns of master keys say nothing of an object that is there. With
`KYPELLO_BUCKET_POLICY_SCOPE=anonymous` policies do not count.

What a client has the key of cannot be verified without it. It is counted apart, and the headers,
sizes and order of its packages are looked at.

In each bucket unfinished uploads come after the versions: the key of each is opened, and each part
is read like an object. What is wrong names bucket, key, upload and part.

| option | meaning |
|---|---|
| `--json` | a JSON object in each line: findings, then the summary |
| `--rate MIB` | read no more MiB of content in a second |
| `--patience SECONDS` | how long to wait for a key server that does not answer; 60 unless given |
| `--resume FILE` | keep in FILE how far it has come; a run with the same FILE goes on from there |

A run that goes on counts what was found before, which the earlier run has printed.

The exit code is 0 when all is sound, 1 when something was found, 2 when it could not be verified,
as when no key server answers, and 130 when it was interrupted.

`kypello store check` looks at records and blobs, and what belongs to what ([store.md](store.md)).
"""


def document() -> str:
    """
    The whole document.
    """
    return _HEAD + _kinds() + "\n" + _ways() + _TAIL


def _kinds() -> str:
    lines = [
        "| asked for | ETag | sealed under a data key | lies on the disk |",
        "|---|---|---|---|",
    ]
    for kind in KINDS:
        etag = "MD5" if kind.digest else "random"
        lines.append(f"| {kind.title} | {etag} | {kind.data_key or '-'} | {kind.seen} |")
    return "\n".join(lines) + "\n"


def _ways() -> str:
    titles = " | ".join(kind.title for kind in KINDS)
    lines = [f"| an object that comes by | {titles} |", "|---" * (len(KINDS) + 1) + "|"]
    for way in WAYS:
        cells = [_cell(kind, expected(way, kind)) for kind in KINDS]
        lines.append(f"| {way.title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(kind: Kind, stored: Kind | None) -> str:
    if stored is None:
        return "cannot be asked"
    return "in clear" if stored is NONE else "yes" if stored is kind else stored.title


if __name__ == "__main__":
    sys.stdout.write(document())
