# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.s3.errors``.
"""

from xml.etree.ElementTree import fromstring

from kypello import errors
from kypello.errors import (
    BodyTimeout,
    Damaged,
    KeyMismatch,
    KMSForbidden,
    KMSUnavailable,
    KypelloError,
    NotAuthentic,
    Refused,
)
from kypello.http.framing import BadRequest, HeadTooLarge
from kypello.s3.errors import TABLE, Subject, error_response, refuse_framing
from tests.cases import SyncCase

#: Errors that stores and key stores keep to themselves, what only changes of accounts meet, and
#: what never meets a request.
_INTERNAL = {
    errors.AccessKeyTaken,
    errors.ConfigurationError,
    errors.Conflict,
    errors.GroupNotEmpty,
    errors.InvalidAccount,
    errors.KeyExists,
    errors.KeyNotAllowed,
    errors.KeyStoreFailed,
    errors.KeyStoreUnreachable,
    errors.NoPolicyChange,
    errors.NoSuchAccessKey,
    errors.NoSuchGroup,
    errors.NoSuchPolicy,
    errors.NoSuchUser,
    errors.PolicyInUse,
    errors.PolicyProtected,
}


class TableTests(SyncCase):
    """
    The table of errors.
    """

    def test_complete(self) -> None:
        """
        Every domain error that a request can meet has a word.
        """
        known = {
            value
            for value in vars(errors).values()
            if isinstance(value, type) and issubclass(value, KypelloError)
        }
        self.assertEqual(known - set(TABLE), _INTERNAL | {KypelloError})

    def test_words(self) -> None:
        """
        Errors have the codes and statuses that clients know.
        """
        for error, status, code in (
            (KMSUnavailable("x"), 503, "ServiceUnavailable"),
            (KMSForbidden("generate"), 403, "kms:NotAuthorized"),
            (KeyMismatch("my-key", 0.0, "f"), 503, "kms:KeyMismatch"),
            (NotAuthentic(), 500, "XMinioObjectTampered"),
            (Damaged("blob"), 500, "InternalError"),
            (BodyTimeout(), 400, "RequestTimeout"),
            (ValueError("secret"), 500, "InternalError"),
        ):
            response = error_response(
                error, Subject("/b/k", "b", "k"), "ID", "host", bodiless=False
            )
            assert isinstance(response.body, bytes)
            tree = fromstring(response.body)
            self.assertEqual((response.status, tree.findtext("Code")), (status, code))
            self.assertTrue(tree.findtext("Message"))
            self.assertNotIn(b"secret", response.body)

    def test_mismatch_names_key(self) -> None:
        """
        A key with other material is named.
        """
        error = KeyMismatch("my-key", 0.0, "f")
        response = error_response(error, Subject("/"), "ID", "host", bodiless=False)
        self.assertIn(b"my-key", response.body)

    def test_retry_after(self) -> None:
        """
        When to come again is told in whole seconds, at least one.
        """
        for seconds, told in ((5.0, "5"), (0.1, "1"), (1.5, "2")):
            error = KMSUnavailable("x", seconds)
            response = error_response(error, Subject("/"), "ID", "host", bodiless=False)
            self.assertIn(("Retry-After", told), response.headers)

    def test_bodiless(self) -> None:
        """
        For HEAD, code and text are in headers that nothing can break out of.
        """
        error = Refused("InvalidArgument", 'line\r\nX-Evil: "ä"')
        response = error_response(error, Subject("/"), "ID", "host", bodiless=True)
        self.assertIn(("X-Minio-Error-Code", "InvalidArgument"), response.headers)
        self.assertIn(("X-Minio-Error-Desc", '"line??X-Evil: "?""'), response.headers)

    def test_framing(self) -> None:
        """
        What is no HTTP is refused in XML too.
        """
        for error, status, code in (
            (BadRequest(505, "This server speaks HTTP/1.1."), 505, b"BadRequest"),
            (HeadTooLarge(), 400, b"RequestHeaderSectionTooLarge"),
        ):
            response = refuse_framing(error, "ID", "host")
            self.assertEqual(response.status, status)
            self.assertIn(b"<Code>%b</Code>" % code, response.body)
            self.assertIn(b"<RequestId>ID</RequestId>", response.body)
            self.assertIn(("x-amz-request-id", "ID"), response.headers)
            self.assertIn(("x-amz-id-2", "host"), response.headers)
