# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Does what a story asks for, on standard input, with a client in a Python of its own.
"""

import json
import sys


class Client:
    """
    The operations of a story, by the names that ``ClientStory`` has for them; what a client
    cannot is ``None``.

    :ivar names: What the settings define.
    :ivar bucket: The bucket of the story.
    :ivar customer_key: The key of SSE-C.
    """

    def connect(self, code, bucket, customer_key):
        """
        Run the settings.
        """
        self.names = {}
        exec(code, self.names)
        self.bucket = bucket
        self.customer_key = bytes.fromhex(customer_key)
        return True

    def copy(self, source, target, kind):
        """
        Cannot.
        """

    def sync(self, folder, prefix, kind):
        """
        Cannot.
        """


def serve(client):
    """
    Answer until there are no more questions; an error ends everything.
    """
    for line in sys.stdin:
        operation, arguments = json.loads(line)
        print(json.dumps(getattr(client, operation)(**arguments)), flush=True)
