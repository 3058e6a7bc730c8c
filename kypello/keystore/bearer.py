# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Calls to services that want a bearer token and speak JSON.
"""

import json
from typing import Any

from attrs import define
from twisted.web.http_headers import Headers

from kypello.keystore.renewed import Renewed
from kypello.keystore.web import Answer, WebClient


@define(eq=False)
class BearerClient:
    """
    Shows a token with every call.  One that the service refuses is replaced, and the call made
    once more, for then nothing has been done.
    """

    _web: WebClient
    _tokens: Renewed[str]

    async def call(self, method: str, url: str, content: Any = None) -> Answer:
        """
        Send a request.

        :param content: What becomes the JSON of the body; ``None`` for no body.
        :raises KeyStoreFailed: There is no token.
        :raises KeyStoreUnreachable: No whole answer in time.
        """
        token = await self._tokens.value()
        answer = await self._once(method, url, content, token)
        if answer.status != 401:
            return answer
        self._tokens.forget(token)
        return await self._once(method, url, content, await self._tokens.value())

    def close(self) -> None:
        """
        Give up what is under way with tokens.
        """
        self._tokens.close()

    async def _once(self, method: str, url: str, content: Any, token: str) -> Answer:
        headers = Headers({"Authorization": [f"Bearer {token}"], "Accept": ["application/json"]})
        body = None
        if content is not None:
            headers.addRawHeader("Content-Type", "application/json")
            body = json.dumps(content).encode()
        return await self._web.call(method, url, headers, body)
