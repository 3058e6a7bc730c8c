# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Users and policies as stock clients meet them, on a server of two workers: what one of them is
told holds in the other before the next answer, and after a kill.
"""

import json
from typing import Any
from urllib.request import Request, urlopen

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.integration.test_account_cli import run
from tests.integration.test_workers import WorkersCase

#: Secret keys of users.
_SECRETS = {"alice": "alice-secret", "bob": "bob-secret-key"}

_OWN_FOLDER = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"],
            "Resource": ["arn:aws:s3:::bucket/home/${aws:username}/*"],
        },
        {
            "Effect": "Allow",
            "Action": ["s3:ListBucket"],
            "Resource": ["arn:aws:s3:::bucket"],
            "Condition": {"StringLike": {"s3:prefix": ["home/${aws:username}/*"]}},
        },
    ],
}


def statement(effect: str, principal: Any, action: str, resource: str) -> str:
    """
    A policy of a bucket with one statement.
    """
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": effect,
                    "Principal": principal,
                    "Action": action,
                    "Resource": f"arn:aws:s3:::{resource}",
                }
            ],
        }
    )


class AuthorizationTests(WorkersCase):
    """
    Two users, two workers.
    """

    def setUp(self) -> None:
        """
        Make the users; each may use a folder of their own.
        """
        super().setUp()
        policy = self.work / "own.json"
        policy.write_text(json.dumps(_OWN_FOLDER))
        self.command("policy", "create", "own", str(policy))
        for name, secret in _SECRETS.items():
            self.command("user", "add", name, "--secret-file", "-", given=f"{secret}\n")
            self.command("policy", "attach", "own", "--user", name)

    def command(self, *arguments: str, given: str = "") -> str:
        """
        Do something as the root user from the command line.
        """
        code, out, err = run(self.work, self.server.endpoint, *arguments, given=given)
        self.assertEqual(code, 0, err)
        return out

    def of(self, name: str, service: str = "s3") -> Any:
        """
        A client of a user, with a connection of its own.
        """
        return boto3.client(
            service,
            endpoint_url=self.server.endpoint,
            aws_access_key_id=name,
            aws_secret_access_key=_SECRETS[name],
            region_name="us-east-1",
            config=Config(
                signature_version="s3v4", retries={"max_attempts": 1}, max_pool_connections=1
            ),
        )

    def refused(self, code: str, call: Any, **arguments: Any) -> None:
        """
        See that a call is refused.
        """
        with self.assertRaises(ClientError) as caught:
            call(**arguments)
        self.assertEqual(caught.exception.response["Error"]["Code"], code)

    def test_own_folders(self) -> None:
        """
        Each user has a folder, sees what is in it, and learns nothing of others.
        """
        alice, bob = self.of("alice"), self.of("bob")
        alice.put_object(Bucket="bucket", Key="home/alice/x", Body=b"mine")
        body = alice.get_object(Bucket="bucket", Key="home/alice/x")["Body"].read()
        self.assertEqual(body, b"mine")
        for key in ("home/alice/x", "home/alice/absent"):
            self.refused("AccessDenied", bob.get_object, Bucket="bucket", Key=key)
            self.refused("AccessDenied", bob.put_object, Bucket="bucket", Key=key, Body=b"")
        source = {"Bucket": "bucket", "Key": "home/alice/x"}
        copy = {"Bucket": "bucket", "Key": "home/bob/x", "CopySource": source}
        self.refused("AccessDenied", bob.copy_object, **copy)
        found = alice.list_objects_v2(Bucket="bucket", Prefix="home/alice/")["Contents"]
        self.assertEqual([one["Key"] for one in found], ["home/alice/x"])
        for prefix in ("", "home/", "home/alice/"):
            self.refused("AccessDenied", bob.list_objects_v2, Bucket="bucket", Prefix=prefix)
        self.refused("AccessDenied", alice.delete_bucket, Bucket="bucket")
        self.refused("NoSuchBucket", alice.list_objects_v2, Bucket="absent")

    def test_presigned(self) -> None:
        """
        What a user signs carries the rights of the user, as they are when it is used.
        """
        alice = self.of("alice")
        mine, others = (
            alice.generate_presigned_url("put_object", {"Bucket": "bucket", "Key": key})
            for key in ("home/alice/p", "home/bob/p")
        )
        self.assertEqual(self.put(mine), 200)
        self.assertEqual(self.put(others), 403)
        self.command("user", "disable", "alice")
        self.assertEqual(self.put(mine), 403)

    def put(self, url: str) -> int:
        """
        Use a presigned URL.
        """
        try:
            with urlopen(Request(url, b"x", method="PUT")) as answer:
                status: int = answer.status
        except OSError as error:
            status = getattr(error, "code", 0)
        return status

    def test_changes_hold_at_once(self) -> None:
        """
        Whichever worker is told of a change, all obey it with the next request.
        """
        clients = [self.of("alice") for _ in range(8)]
        for client in clients:
            client.put_object(Bucket="bucket", Key="home/alice/x", Body=b"")
        self.command("policy", "detach", "own", "--user", "alice")
        for client in clients:
            self.refused("AccessDenied", client.get_object, Bucket="bucket", Key="home/alice/x")
        self.command("group", "add", "team", "alice")
        self.command("policy", "attach", "own", "--group", "team")
        for client in clients:
            client.get_object(Bucket="bucket", Key="home/alice/x")
        self.command("user", "disable", "alice")
        for client in clients:
            self.refused("InvalidAccessKeyId", client.list_buckets)

    def test_bucket_policies(self) -> None:
        """
        A bucket can let others in and keep everybody out, the root user included; but who it
        belongs to can always mend its policy.
        """
        root, bob = self.client(), self.of("bob")
        root.put_object(Bucket="bucket", Key="shared/x", Body=b"shared")
        url = f"{self.server.endpoint}/bucket/shared/x"
        self.refused("AccessDenied", bob.get_object, Bucket="bucket", Key="shared/x")
        let_bob = statement("Allow", {"AWS": ["bob"]}, "s3:GetObject", "bucket/shared/*")
        for client in (self.first, self.second):
            client.put_bucket_policy(Bucket="bucket", Policy=let_bob)
        bob.get_object(Bucket="bucket", Key="shared/x")
        self.refused("AccessDenied", self.of("alice").get_object, Bucket="bucket", Key="shared/x")
        self.assertEqual(self.status(url), 403)
        let_all = statement("Allow", "*", "s3:GetObject", "bucket/shared/*")
        root.put_bucket_policy(Bucket="bucket", Policy=let_all)
        self.assertEqual(self.status(url), 200)
        block = {"RestrictPublicBuckets": True}
        root.put_public_access_block(Bucket="bucket", PublicAccessBlockConfiguration=block)
        self.assertEqual(self.status(url), 403)
        root.delete_public_access_block(Bucket="bucket")
        nobody = statement("Deny", "*", "s3:*", "bucket*")
        root.put_bucket_policy(Bucket="bucket", Policy=nobody)
        for client in (self.first, self.second, bob):
            self.refused("AccessDenied", client.get_object, Bucket="bucket", Key="shared/x")
        self.assertEqual(root.get_bucket_policy(Bucket="bucket")["Policy"], nobody)
        root.delete_bucket_policy(Bucket="bucket")
        self.first.get_object(Bucket="bucket", Key="shared/x")

    def status(self, url: str) -> int:
        """
        The status of a GET of somebody unknown.
        """
        try:
            with urlopen(url) as answer:
                status: int = answer.status
        except OSError as error:
            status = getattr(error, "code", 0)
        return status

    def test_survive(self) -> None:
        """
        Users, their policies and sessions outlive a kill; revoked sessions are over.
        """
        made = self.of("alice", "sts").assume_role(
            RoleArn="arn:aws:iam::1:role/any", RoleSessionName="session"
        )
        session = self.session(made["Credentials"])
        session.put_object(Bucket="bucket", Key="home/alice/s", Body=b"x")
        self.server.kill()
        self.server.start()
        session = self.session(made["Credentials"])
        session.get_object(Bucket="bucket", Key="home/alice/s")
        self.refused("AccessDenied", session.get_object, Bucket="bucket", Key="home/bob/s")
        self.command("user", "rm", "alice")
        self.refused("InvalidAccessKeyId", session.get_object, Bucket="bucket", Key="home/alice/s")
        self.refused("InvalidAccessKeyId", self.of("alice").list_buckets)

    def session(self, credentials: Any) -> Any:
        """
        A client with temporary credentials.
        """
        return boto3.client(
            "s3",
            endpoint_url=self.server.endpoint,
            aws_access_key_id=credentials["AccessKeyId"],
            aws_secret_access_key=credentials["SecretAccessKey"],
            aws_session_token=credentials["SessionToken"],
            region_name="us-east-1",
        )
