# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A day with ``mc``: each of its everyday commands against a real server, and forms of boto3.
"""

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import HTTPErrorProcessor, Request, build_opener, urlopen

from tests.integration import tools
from tests.integration.server import ACCESS_KEY, SECRET_KEY, STATIC_KEY, base_environment
from tests.integration.test_clients import ClientCase

_TREE = {"a/one": b"one\n", "a/b/two": b"two\n", "three": b"three\n", "ü b/fünf +&": b"5"}


class MCCase(ClientCase):
    """
    A test with ``mc``, a bucket, and everything encrypted.
    """

    environment = {"MINIO_KMS_SECRET_KEY": STATIC_KEY, "MINIO_KMS_AUTO_ENCRYPTION": "on"}  # noqa: RUF012
    bucket = "k/bucket"

    def setUp(self) -> None:
        """
        Introduce the server to ``mc``.
        """
        self.program = tools.require("mc")
        super().setUp()
        self.mc("alias", "set", "k", self.server.endpoint, ACCESS_KEY, SECRET_KEY)
        self.mc("mb", self.bucket)

    def mc(
        self,
        *arguments: str | Path,
        given: bytes = b"",
        fails: bool = False,
        debug: bool = False,
    ) -> bytes:
        """
        Run a command and give what it printed.

        :param given: What it reads.
        :param fails: Whether it must fail.
        :param debug: Whether to give what it sent, too.
        """
        done = subprocess.run(
            [self.program, "--config-dir", self.work / "mc", *arguments],
            env={**base_environment(), "HOME": str(self.work)},
            cwd=self.work,
            input=given,
            capture_output=True,
            timeout=120,
            check=False,
        )
        output = done.stdout + done.stderr
        if fails:
            self.assertNotEqual(done.returncode, 0, f"{arguments}: {output!r}")
            return output
        self.assertEqual(done.returncode, 0, f"{arguments}: {output!r}\n{self.server.log}")
        self.assertNotIn(b"<ERROR>", output)
        return output if debug else done.stdout

    def told(self, *arguments: str | Path) -> list[Any]:
        """
        What a command tells as JSON, one value a line.
        """
        return [json.loads(line) for line in self.mc("--json", *arguments).splitlines()]

    def keys(self, place: str = "") -> list[str]:
        """
        The keys below a place, without it.
        """
        return sorted(one["key"] for one in self.told("ls", "-r", f"{self.bucket}/{place}"))

    def plant(self, files: Mapping[str, bytes] = _TREE) -> Path:
        """
        A folder with files in it.
        """
        folder = self.work / "tree"
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return folder

    def assert_tree(self, folder: Path, files: Mapping[str, bytes] = _TREE) -> None:
        """
        See that a folder has just these files.
        """
        found = {
            str(path.relative_to(folder)): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }
        self.assertEqual(found, files)


class TreeTests(MCCase):
    """
    Many files at once.
    """

    def test_copy(self) -> None:
        """
        ``cp -r`` takes a folder there, and back.
        """
        self.mc("cp", "-r", f"{self.plant()}/", f"{self.bucket}/t/")
        self.assertEqual(self.keys("t/"), sorted(_TREE))
        back = self.work / "back"
        self.mc("cp", "-r", f"{self.bucket}/t/", f"{back}/")
        self.assert_tree(back)
        self.mc("cp", "-r", f"{self.bucket}/t/", f"{self.bucket}/copy/")
        self.assertEqual(self.keys("copy/"), sorted(_TREE))

    def test_mirror(self) -> None:
        """
        ``mirror`` makes two places equal, both ways, and ``diff`` sees that they are.
        """
        folder, target = self.plant(), f"{self.bucket}/m"
        self.mc("mirror", folder, target)
        self.assertEqual(self.mc("diff", folder, target), b"")
        (folder / "three").unlink()
        (folder / "a" / "one").write_bytes(b"another\n")
        (folder / "four").write_bytes(b"four\n")
        seen = {
            Path(one["first"] or one["second"]).name for one in self.told("diff", folder, target)
        }
        self.assertEqual(seen, {"three", "one", "four"})
        self.mc("mirror", "--overwrite", "--remove", folder, target)
        self.assertEqual(self.mc("diff", folder, target), b"")
        back = self.work / "back"
        self.mc("mirror", target, back)
        left = {name: content for name, content in _TREE.items() if name != "three"}
        self.assert_tree(back, {**left, "a/one": b"another\n", "four": b"four\n"})

    def test_between_buckets(self) -> None:
        """
        A bucket can be mirrored to another one.
        """
        self.mc("cp", "-r", f"{self.plant()}/", self.bucket)
        self.mc("mb", "k/other")
        self.mc("mirror", self.bucket, "k/other")
        self.assertEqual(self.mc("diff", self.bucket, "k/other"), b"")

    def test_views(self) -> None:
        """
        ``ls``, ``tree``, ``du`` and ``find`` show what there is.
        """
        self.mc("cp", "-r", f"{self.plant()}/", f"{self.bucket}/t/")
        self.assertEqual([one["key"] for one in self.told("ls", self.bucket)], ["t/"])
        top = [one["key"] for one in self.told("ls", f"{self.bucket}/t/")]
        self.assertEqual(sorted(top), ["a/", "three", "ü b/"])
        tree = self.mc("tree", "-f", self.bucket).decode()
        for name in ("three", "one", "two", "fünf +&"):
            self.assertIn(f"─ {name}\n", tree)
        (used,) = self.told("du", self.bucket)
        size = sum(map(len, _TREE.values()))
        self.assertEqual((used["size"], used["objects"]), (size, 4))
        self.assertEqual(len(self.told("du", "-r", self.bucket)), 5)
        for arguments, names in (
            (("--name", "t*"), {"two", "three"}),
            (("--larger", "5B"), {"three"}),
            (("--path", "*/a/*"), {"one", "two"}),
        ):
            lines = self.mc("find", self.bucket, *arguments).decode().splitlines()
            self.assertEqual({line.rpartition("/")[2] for line in lines}, names)

    def test_remove(self) -> None:
        """
        ``rm`` takes one or all that lies below, and nothing else.
        """
        self.mc("cp", "-r", f"{self.plant()}/", f"{self.bucket}/t/")
        self.mc("rm", f"{self.bucket}/t/three")
        self.mc("rm", "-r", "--force", f"{self.bucket}/t/a")
        self.assertEqual(self.keys("t/"), ["ü b/fünf +&"])
        self.mc("rm", "-r", "--force", "--incomplete", self.bucket)
        self.mc("rm", "-r", "--force", "--versions", self.bucket)
        self.assertEqual(self.keys(), [])

    def test_purge(self) -> None:
        """
        ``rm --purge`` takes what lies below with one request.
        """
        for place in ("t/", "t/deeper/", "two/"):
            self.mc("cp", "-r", f"{self.plant()}/", f"{self.bucket}/{place}")
        self.mc("rm", "--purge", "--force", f"{self.bucket}/t")
        self.assertEqual(self.keys(), sorted(f"two/{name}" for name in _TREE))
        self.assertEqual(self.server.log.count(" ForceDeleteObject 204 "), 1)


class ObjectTests(MCCase):
    """
    One file at a time.
    """

    def test_metadata(self) -> None:
        """
        Attributes and tags are kept, shown, found and copied.
        """
        lines = self.write("lines", b"x")
        place = f"{self.bucket}/lines"
        attributes = "colour=blue;Cache-Control=no-store"
        self.mc("cp", "--attr", attributes, "--tags", "a=1&b=2 3", lines, place)
        (stat,) = self.told("stat", place)
        self.assertEqual(stat["metadata"]["X-Amz-Meta-Colour"], "blue")
        self.assertEqual(stat["metadata"]["Cache-Control"], "no-store")
        self.assertEqual(stat["metadata"]["X-Amz-Tagging-Count"], "2")
        (tags,) = self.told("tag", "list", place)
        self.assertEqual(tags["tagset"], {"a": "1", "b": "2 3"})
        for wanted in (("--metadata", "colour=blue"), ("--tags", "a=1")):
            self.assertEqual(self.mc("find", self.bucket, *wanted).decode().strip(), place)
        for wanted in (("--metadata", "colour=red"), ("--tags", "a=2")):
            self.assertEqual(self.mc("find", self.bucket, *wanted), b"")
        self.mc("cp", place, f"{self.bucket}/copy")
        (copied,) = self.told("stat", f"{self.bucket}/copy")
        self.assertEqual(copied["metadata"]["X-Amz-Meta-Colour"], "blue")

    def test_attributes_of_files(self) -> None:
        """
        ``cp -a`` brings the times of files along, and back.
        """
        source = self.write("source", b"x")
        os.utime(source, (1_600_000_000, 1_600_000_000))
        self.mc("cp", "-a", source, f"{self.bucket}/k")
        self.mc("cp", "-a", f"{self.bucket}/k", self.work / "target")
        self.assertEqual(int((self.work / "target").stat().st_mtime), 1_600_000_000)

    def test_parts_of_files(self) -> None:
        """
        ``cat`` and ``head`` show some of a file.
        """
        place = f"{self.bucket}/lines"
        self.mc("cp", self.write("lines", b"line1\nline2\nline3\n"), place)
        self.assertEqual(self.mc("cat", place), b"line1\nline2\nline3\n")
        self.assertEqual(self.mc("cat", "--offset", "6", place), b"line2\nline3\n")
        self.assertEqual(self.mc("cat", "--tail", "6", place), b"line3\n")
        self.assertEqual(self.mc("head", "-n", "2", place), b"line1\nline2\n")

    def test_pipe(self) -> None:
        """
        ``pipe`` stores what has no end yet, small or in parts.
        """
        for size in (0, 10, 20 * 1024 * 1024 + 3):
            content = os.urandom(size)
            self.mc("pipe", f"{self.bucket}/piped", given=content)
            self.assertEqual(self.mc("cat", f"{self.bucket}/piped"), content)

    def test_large(self) -> None:
        """
        ``cp``, ``put`` and ``od`` upload in parts; what comes back is the same.
        """
        source = self.write("big", os.urandom(40_000_000))
        self.mc("cp", source, f"{self.bucket}/big")
        self.mc("put", "--part-size", "5MiB", "--parallel", "3", source, f"{self.bucket}/put")
        for name in ("big", "put"):
            self.mc("get", f"{self.bucket}/{name}", self.work / "back")
            self.assertEqual((self.work / "back").read_bytes(), source.read_bytes())
            (self.work / "back").unlink()
        self.mc("cp", f"{self.bucket}/big", f"{self.bucket}/copy")
        self.assertEqual(self.mc("cat", f"{self.bucket}/copy"), source.read_bytes())
        self.mc("od", "if=/dev/zero", f"of={self.bucket}/od", "size=12MiB", "parts=2")
        # Its size is that of a part.
        self.assertEqual(self.mc("cat", f"{self.bucket}/od"), bytes(24 * 1024 * 1024))
        self.assertEqual(self.mc("ls", "--incomplete", "-r", self.bucket), b"")

    def test_move(self) -> None:
        """
        ``mv`` leaves one of two.
        """
        self.mc("mv", self.write("source", b"x"), f"{self.bucket}/one")
        self.assertFalse((self.work / "source").exists())
        self.mc("mv", f"{self.bucket}/one", f"{self.bucket}/two")
        self.assertEqual(self.keys(), ["two"])
        self.mc("mv", f"{self.bucket}/two", self.work / "back")
        self.assertEqual((self.work / "back").read_bytes(), b"x")
        self.assertEqual(self.keys(), [])

    def test_versions(self) -> None:
        """
        Where there are no versions each object is one.
        """
        self.mc("cp", self.write("source", b"x"), f"{self.bucket}/k")
        (one,) = self.told("ls", "--versions", self.bucket)
        self.assertEqual((one["key"], one["versionId"]), ("k", "null"))
        self.mc("stat", "--versions", f"{self.bucket}/k")
        self.mc("rm", "--versions", "--force", f"{self.bucket}/k")
        self.assertEqual(self.keys(), [])


class BucketTests(MCCase):
    """
    Buckets as a whole.
    """

    def test_make(self) -> None:
        """
        ``mb`` tells that a bucket exists, unless that is all right.
        """
        self.assertIn(b"you already own it", self.mc("mb", self.bucket, fails=True))
        self.mc("mb", "--ignore-existing", self.bucket)
        self.assertEqual([one["key"] for one in self.told("ls", "k")], ["bucket/"])

    def test_remove(self) -> None:
        """
        ``rb`` takes an empty bucket, and a full one when that is meant.
        """
        self.mc("cp", "-r", f"{self.plant()}/", self.bucket)
        self.assertIn(b"not empty", self.mc("rb", self.bucket, fails=True))
        self.mc("rb", "--force", self.bucket)
        self.mc("mb", self.bucket)
        self.assertEqual(self.keys(), [])
        self.mc("rb", self.bucket)
        self.assertEqual(self.mc("ls", "k"), b"")

    def test_settings(self) -> None:
        """
        What a bucket does not have is told in words that ``mc`` knows.
        """
        stat = self.mc("stat", self.bucket).decode()
        for line in ("Versioning: Un-versioned", "Location: us-east-1", "Anonymous: Disabled"):
            self.assertIn(line, stat)
        for arguments, text in (
            (("version", "info"), b"un-versioned"),
            (("anonymous", "get"), b"private"),
            (("anonymous", "list"), b""),
            (("event", "list"), b""),
            (("cors", "get"), b"No bucket CORS configuration"),
        ):
            self.assertIn(text, self.mc(*arguments, self.bucket))
        for arguments, text in (
            (("ilm", "rule", "ls"), b"lifecycle configuration does not exist"),
            (("replicate", "ls"), b"not set"),
            (("tag", "list"), b"No tags found"),
            (("undo",), b"versioned"),
        ):
            self.assertIn(text, self.mc(*arguments, self.bucket, fails=True))

    def test_tags(self) -> None:
        """
        A bucket can have tags.
        """
        self.mc("tag", "set", self.bucket, "kind=photos&year=2026")
        (told,) = self.told("tag", "list", self.bucket)
        self.assertEqual(told["tagset"], {"kind": "photos", "year": "2026"})
        self.mc("tag", "remove", self.bucket)
        self.assertIn(b"No tags found", self.mc("tag", "list", self.bucket, fails=True))

    def test_cors(self) -> None:
        """
        A bucket can have rules for browsers, which count at once, in every process.
        """
        rules = self.work / "cors.xml"
        rules.write_text(
            "<CORSConfiguration><CORSRule><AllowedOrigin>https://app.example.com</AllowedOrigin>"
            "<AllowedMethod>PUT</AllowedMethod></CORSRule></CORSConfiguration>"
        )
        self.mc("cors", "set", self.bucket, rules)
        self.assertIn(b"https://app.example.com", self.mc("cors", "get", self.bucket))
        for origin, status in (("https://app.example.com", 200), ("https://other.org", 403)):
            headers = {"Origin": origin, "Access-Control-Request-Method": "PUT"}
            request = Request(
                f"{self.server.endpoint}/bucket/key", headers=headers, method="OPTIONS"
            )
            for _ in range(4):
                try:
                    with urlopen(request) as answer:
                        found = answer.status
                except HTTPError as error:
                    found = error.code
                    error.close()
                self.assertEqual(found, status)
        self.mc("cors", "remove", self.bucket)
        self.assertIn(b"No bucket CORS", self.mc("cors", "get", self.bucket))

    def test_health(self) -> None:
        """
        ``ping`` and ``ready`` find the server well.
        """
        self.mc("ping", "-c", "1", "k")
        self.assertIn(b"is ready", self.mc("ready", "k"))


class VirtualHostTests(MCCase):
    """
    Buckets that hosts name.
    """

    environment = {**MCCase.environment, "MINIO_DOMAIN": "example.net,s3.test"}  # noqa: RUF012

    def test_objects(self) -> None:
        """
        ``mc`` finds bucket and objects under the host of the bucket.
        """
        names = ("s3.test", "dots.in.it.s3.test")
        resolve = [
            word for name in names for word in ("--resolve", f"{name}:{self.server.port}=127.0.0.1")
        ]
        self.mc("mb", "k/dots.in.it")
        endpoint = f"http://s3.test:{self.server.port}"
        self.mc(*resolve, "alias", "set", "--path", "off", "v", endpoint, ACCESS_KEY, SECRET_KEY)
        source = self.write("source", b"content\n")
        self.mc(*resolve, "cp", source, "v/dots.in.it/a/ü b")
        self.assertEqual(self.mc(*resolve, "cat", "v/dots.in.it/a/ü b"), b"content\n")
        self.assertIn("a/ü b", self.mc(*resolve, "ls", "-r", "v/dots.in.it").decode())
        self.assertIn(b"dots.in.it/", self.mc(*resolve, "ls", "v"))
        self.assertEqual(self.mc("cat", "k/dots.in.it/a/ü b"), b"content\n")
        sent = self.mc(*resolve, "--debug", "ls", "v/dots.in.it", debug=True).decode()
        self.assertIn(f"Host: dots.in.it.s3.test:{self.server.port}", sent)


class ShareTests(MCCase):
    """
    URLs and forms for others.
    """

    def test_download(self) -> None:
        """
        A shared URL needs nothing else.
        """
        self.mc("cp", self.write("source", b"shared\n"), f"{self.bucket}/a b")
        (shared,) = self.told("share", "download", f"{self.bucket}/a b")
        with urlopen(shared["share"], timeout=30) as answer:
            self.assertEqual(answer.read(), b"shared\n")

    def test_upload(self) -> None:
        """
        The command that is shared uploads with a form, to that key or below that prefix only.
        """
        source = self.write("source.txt", os.urandom(2_000_000))
        for arguments, key, good, bad in (
            ((f"{self.bucket}/up",), "up", "key=up", "key=other"),
            (("-r", f"{self.bucket}/pre/"), "pre/x", "key=pre/x", "key=x"),
        ):
            (shared,) = self.told("share", "upload", *arguments)
            command = shlex.split(
                shared["share"].replace("<FILE>", str(source)).replace("<NAME>", "x")
            )
            self.assertIn(good, command)
            self.assertEqual(self.curl(command), "204")
            self.assertEqual(self.mc("cat", f"{self.bucket}/{key}"), source.read_bytes())
            self.assertEqual(self.curl([bad if one == good else one for one in command]), "403")
        self.assertEqual(self.keys(), ["pre/x", "up"])

    def curl(self, command: Iterable[str]) -> str:
        """
        Run ``curl`` and give the status of the answer.
        """
        if shutil.which("curl") is None:
            tools.missing("curl")
        done = subprocess.run(
            [*command, "-s", "-o", os.devnull, "-w", "%{http_code}"],
            capture_output=True,
            timeout=60,
            check=True,
        )
        return done.stdout.decode()


class _NoRedirects(HTTPErrorProcessor):
    """
    Gives every answer as it is.
    """

    def http_response(self, request: Request, response: Any) -> Any:
        """
        Called by urllib.
        """
        return response


class FormTests(ClientCase):
    """
    ``generate_presigned_post`` of boto3, with both versions of signatures.
    """

    def test_forms(self) -> None:
        """
        The form uploads what its policy allows, and nothing larger.
        """
        import boto3
        from botocore.config import Config

        for version in (None, "s3v4"):
            s3 = boto3.client(
                "s3",
                endpoint_url=self.server.endpoint,
                aws_access_key_id=ACCESS_KEY,
                aws_secret_access_key=SECRET_KEY,
                region_name="us-east-1",
                config=Config(signature_version=version),
            )
            bucket = f"bucket-{version or 's3'}".lower()
            s3.create_bucket(Bucket=bucket)
            page = "https://example.test/done?x=1"
            post = s3.generate_presigned_post(
                bucket,
                "up/${filename}",
                Fields={"acl": "private", "success_action_redirect": page},
                Conditions=[
                    {"acl": "private"},
                    {"success_action_redirect": page},
                    ["content-length-range", 1, 100_000],
                ],
            )
            status, location = self.send(post["url"], post["fields"], b"x" * 100_000)
            self.assertEqual(status, 303)
            self.assertIn(f"{page}&bucket={bucket}&key=up%2Fname.txt&etag=%22", location)
            got = s3.get_object(Bucket=bucket, Key="up/name.txt")
            self.assertEqual(got["Body"].read(), b"x" * 100_000)
            self.assertEqual(self.send(post["url"], post["fields"], b"x" * 100_001)[0], 400)
            self.assertEqual(self.send(post["url"], post["fields"], b"")[0], 400)

    def send(self, url: str, fields: Mapping[str, str], content: bytes) -> tuple[int, str]:
        """
        Send a form; give status and location of the answer.
        """
        parts = [
            f'--cut\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
            for name, value in fields.items()
        ]
        head = b'--cut\r\nContent-Disposition: form-data; name="file"; filename="name.txt"\r\n\r\n'
        request = Request(
            url,
            b"".join(parts) + head + content + b"\r\n--cut--\r\n",
            {"Content-Type": "multipart/form-data; boundary=cut"},
        )
        try:
            with build_opener(_NoRedirects).open(request, timeout=30) as answer:
                return answer.status, answer.headers.get("Location") or ""
        except HTTPError as error:
            return error.code, ""
