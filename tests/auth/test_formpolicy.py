# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of the policies of forms, and of their signatures.
"""

import json
from base64 import b64encode

from hypothesis import given
from hypothesis import strategies as st

from kypello.auth import formsign
from kypello.auth.formpolicy import read_policy
from kypello.errors import Refused
from tests.auth.examples import IDENTITY
from tests.cases import SyncCase

#: The example of the API reference.
EXAMPLE = (
    "eyAiZXhwaXJhdGlvbiI6ICIyMDE1LTEyLTMwVDEyOjAwOjAwLjAwMFoiLA0KICAiY29uZGl0aW9ucyI6IFsNCiAgICB7"
    "ImJ1Y2tldCI6ICJzaWd2NGV4YW1wbGVidWNrZXQifSwNCiAgICBbInN0YXJ0cy13aXRoIiwgIiRrZXkiLCAidXNlci91"
    "c2VyMS8iXSwNCiAgICB7ImFjbCI6ICJwdWJsaWMtcmVhZCJ9LA0KICAgIHsic3VjY2Vzc19hY3Rpb25fcmVkaXJlY3Qi"
    "OiAiaHR0cDovL3NpZ3Y0ZXhhbXBsZWJ1Y2tldC5zMy5hbWF6b25hd3MuY29tL3N1Y2Nlc3NmdWxfdXBsb2FkLmh0bWwi"
    "fSwNCiAgICBbInN0YXJ0cy13aXRoIiwgIiRDb250ZW50LVR5cGUiLCAiaW1hZ2UvIl0sDQogICAgeyJ4LWFtei1tZXRh"
    "LXV1aWQiOiAiMTQzNjUxMjM2NTEyNzQifSwNCiAgICB7IngtYW16LXNlcnZlci1zaWRlLWVuY3J5cHRpb24iOiAiQUVT"
    "MjU2In0sDQogICAgWyJzdGFydHMtd2l0aCIsICIkeC1hbXotbWV0YS10YWciLCAiIl0sDQoNCiAgICB7IngtYW16LWNy"
    "ZWRlbnRpYWwiOiAiQUtJQUlPU0ZPRE5ON0VYQU1QTEUvMjAxNTEyMjkvdXMtZWFzdC0xL3MzL2F3czRfcmVxdWVzdCJ9"
    "LA0KICAgIHsieC1hbXotYWxnb3JpdGhtIjogIkFXUzQtSE1BQy1TSEEyNTYifSwNCiAgICB7IngtYW16LWRhdGUiOiAi"
    "MjAxNTEyMjlUMDAwMDAwWiIgfQ0KICBdDQp9"
)
SIGNED = {
    "policy": EXAMPLE,
    "x-amz-algorithm": "AWS4-HMAC-SHA256",
    "x-amz-credential": "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request",
    "x-amz-date": "20151229T000000Z",
    "x-amz-signature": "8afdbf4008c03f22c2cd3cdb72e4afbb1f6a588f3255ac628749a66d7f09699e",
}
FIELDS = {
    **SIGNED,
    "bucket": "sigv4examplebucket",
    "key": "user/user1/picture.png",
    "acl": "public-read",
    "success_action_redirect": (
        "http://sigv4examplebucket.s3.amazonaws.com/successful_upload.html"
    ),
    "content-type": "image/jpeg",
    "x-amz-meta-uuid": "14365123651274",
    "x-amz-server-side-encryption": "AES256",
    "x-amz-meta-tag": "",
}
#: 2015-12-30T12:00:00Z.
EXPIRATION = 1451476800.0
_END = "2015-12-30T12:00:00Z"


def encoded(document: object) -> str:
    """
    A policy as forms hold it; text is taken as it is.
    """
    text = document if isinstance(document, str) else json.dumps(document)
    return b64encode(text.encode()).decode()


def policy(*conditions: object, expiration: object = _END) -> str:
    """
    A policy of some conditions.
    """
    return encoded({"expiration": expiration, "conditions": conditions})


class SignatureTests(SyncCase):
    """
    The signature over a policy.
    """

    def test_example(self) -> None:
        """
        The published form verifies, and its policy allows it until it expires.
        """
        claim = formsign.read_fields(FIELDS, "us-east-1")
        assert claim is not None
        self.assertEqual(claim.access_key, IDENTITY.access_key)
        formsign.verify(claim, IDENTITY.secret_key)
        read_policy(EXAMPLE).check(FIELDS, EXPIRATION - 1)
        with self.assertRaises(Refused):
            read_policy(EXAMPLE).check(FIELDS, EXPIRATION)

    def test_region(self) -> None:
        """
        The region must be the one that is configured.
        """
        with self.assertRaises(Refused) as caught:
            formsign.read_fields(FIELDS, "eu-test-1")
        self.assertEqual(caught.exception.code, "InvalidArgument")
        self.assertEqual(caught.exception.fields, {"Region": "eu-test-1"})

    def test_none(self) -> None:
        """
        A form without policy and signature is signed by nobody.
        """
        self.assertIsNone(formsign.read_fields({"key": "k"}, None))

    def test_secret(self) -> None:
        """
        No signature is shown.
        """
        self.assertNotIn("8afdbf", repr(formsign.read_fields(FIELDS, None)))


class PolicyTests(SyncCase):
    """
    What policies say.
    """

    def allowed(self, text: str, **fields: str) -> bool:
        """
        Whether a policy allows a form; underscores in names stand for hyphens.
        """
        named = {name.replace("_", "-"): value for name, value in fields.items()}
        try:
            read_policy(text).check(named, EXPIRATION - 1)
        except Refused as error:
            self.assertEqual(error.code, "AccessDenied")
            return False
        return True

    def test_dates(self) -> None:
        """
        The end is an instant in ISO 8601, with fractions or without.
        """
        for text in (
            "2015-12-30T12:00:00Z",
            "2015-12-30T12:00:00.000Z",
            "2015-12-30T12:00:00.000000Z",
            "2015-12-30T13:00:00+01:00",
        ):
            self.assertEqual(read_policy(policy(expiration=text)).expiration, EXPIRATION)

    def test_matches(self) -> None:
        """
        Names and operators have no case, values have.
        """
        for condition, value, allowed in (
            ({"Key": "k"}, "k", True),
            ({"key": "K"}, "k", False),
            (["EQ", "$KEY", "k"], "k", True),
            (["eq", "$key", "k"], "kk", False),
            (["Starts-With", "$key", "k"], "kk", True),
            (["starts-with", "$key", "k"], "xk", False),
            (["starts-with", "$key", ""], "", True),
        ):
            self.assertEqual(self.allowed(policy(condition), key=value), allowed, condition)
        self.assertFalse(self.allowed(policy(["starts-with", "$key", ""])))

    def test_types(self) -> None:
        """
        Of several types in one field each must begin as it should.
        """
        text = policy(["starts-with", "$Content-Type", "image/"])
        self.assertTrue(self.allowed(text, content_type="image/png, image/jpeg"))
        self.assertFalse(self.allowed(text, content_type="image/png,text/html"))

    def test_dollar(self) -> None:
        """
        A dollar sign may be escaped, as JSON itself does not allow.
        """
        text = encoded(
            f'{{"expiration": "{_END}", "conditions": [{{"key": "\\$a\\\\$b\\u0041"}}]}}'
        )
        self.assertTrue(self.allowed(text, key="$a\\$bA"))

    def test_free_fields(self) -> None:
        """
        Only what is signed anyway, and what is ignored, needs no condition.
        """
        free = {"policy": "p", "x-amz-signature": "s", "signature": "s", "awsaccesskeyid": "a"}
        read_policy(policy()).check({**free, "x-ignore-me": "?"}, 0)
        for name in ("x-amz-date", "x-amz-security-token", "acl", "x-ignore"):
            with self.assertRaises(Refused) as caught:
                read_policy(policy()).check({name: "v"}, 0)
            self.assertIn(f"Extra input fields: {name}", caught.exception.message)

    def test_sizes(self) -> None:
        """
        Of several ranges all hold.
        """
        text = policy(["content-length-range", 1, 10], ["Content-Length-Range", "0", "7"])
        found = read_policy(text)
        self.assertEqual((found.smallest, found.largest), (1, 7))
        found = read_policy(policy())
        self.assertEqual((found.smallest, found.largest), (0, None))

    def test_base64(self) -> None:
        """
        The policy may be broken into lines.
        """
        text = policy({"key": "k"})
        self.assertTrue(self.allowed("\r\n".join((text[:20], text[20:])), key="k"))

    def test_malformed(self) -> None:
        """
        Whatever else is refused, and told what is wrong with it.
        """
        for text, detail in (
            ("", "Invalid JSON"),
            ("!", "Invalid JSON"),
            (encoded("{"), "Invalid JSON"),
            (encoded("[]"), "Invalid JSON"),
            (b64encode(b"\xff{}").decode(), "Invalid JSON"),
            (encoded("[" * 10_000), "Invalid JSON"),
            (encoded(f'{{"expiration": "{_END}", "conditions": [], "conditions": []}}'), "JSON"),
            (encoded({"conditions": []}), "missing expiration"),
            (encoded({"expiration": _END}), "missing conditions"),
            (encoded({"expiration": _END, "conditions": [], "x": 1}), "Unexpected: 'x'"),
            (encoded({"expiration": _END, "conditions": {}}), "must be a List"),
            (policy(expiration="2015-12-30"), "'expiration' value: '2015-12-30'"),
            (policy(expiration="2015-12-30T12:00:00"), "'expiration' value"),
            (policy(expiration="2015-13-30T12:00:00Z"), "'expiration' value"),
            (policy(expiration=5), "'expiration' value: '5'"),
            (policy("key"), "must be a List or an Object"),
            (policy([]), "missing operation"),
            (policy([1, "$key", "k"]), "missing operation"),
            (policy(["ends-with", "$key", "k"]), "unknown operation 'ends-with'"),
            (policy(["eq", "$key"]), "wrong number of arguments for 'eq'"),
            (policy(["eq", "$key", "k", "l"]), "wrong number"),
            (policy(["eq", "key", "k"]), "must be a field"),
            (policy(["eq", "$key", 1]), "must be a field"),
            (policy({}), "exactly one property"),
            (policy({"key": "k", "acl": "a"}), "exactly one property"),
            (policy({"key": 1}), "a string"),
            (policy(["content-length-range", 1]), "wrong number"),
            (policy(["content-length-range", -1, 5]), "two numbers"),
            (policy(["content-length-range", 1, "x"]), "two numbers"),
            (policy(["content-length-range", True, 5]), "two numbers"),
            (policy(["content-length-range", 1.5, 5]), "two numbers"),
            (policy(["content-length-range", 0, "9" * 5000]), "two numbers"),
            (
                encoded('{{"expiration": "{}", "conditions": [{}]}}'.format(_END, "9" * 5000)),
                "JSON",
            ),
        ):
            with self.assertRaises(Refused) as caught:
                read_policy(text)
            self.assertEqual(caught.exception.code, "InvalidPolicyDocument")
            self.assertIn(detail, caught.exception.message)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner),
            max_leaves=10,
        )
    )
    def test_any_condition(self, condition: object) -> None:
        """
        No condition breaks the reader.
        """
        try:
            read_policy(policy(condition))
        except Refused as error:
            self.assertEqual(error.code, "InvalidPolicyDocument")
