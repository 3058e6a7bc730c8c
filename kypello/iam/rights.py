# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Who signs, and whether they may.

What was told of an access key is kept as long as the generation and its own record are the same,
byte for byte, and as long as the data key of the accounts can be opened.  So it is never out of
date, whichever process changes something, and what the KMS has opened is used no longer than it
may be.
"""

from collections.abc import Mapping
from functools import partial

from attrs import define, evolve, field
from zope.interface import implementer

from kypello.errors import Damaged, KypelloError, MalformedPolicy, NoSuchAccessKey
from kypello.iam.lately import Lately
from kypello.iam.part import Part
from kypello.iam.records import key_key, user_key
from kypello.iam.standing import Standing, standing_of_key, standing_of_user
from kypello.interfaces import (
    BUCKET_POLICY,
    PUBLIC_ACCESS_BLOCK,
    IAuthorizer,
    IIdentities,
)
from kypello.model import Identity, Kind, Question
from kypello.policy.document import Policy, merged, parse_bucket_policy, parse_policy
from kypello.policy.evaluate import (
    NOTHING,
    WAY_OUT,
    Asker,
    Grants,
    Policies,
    decide,
    decide_key,
    needs_tags,
)
from kypello.policy.publicaccess import PublicAccessBlock

#: What everybody may do to their own account.
_OWN = parse_policy(
    b'{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["admin:CreateUser",'
    b'"admin:GetUser","admin:ListUsers","admin:CreateServiceAccount","admin:UpdateServiceAccount",'
    b'"admin:RemoveServiceAccount","admin:ListServiceAccounts","admin:ListTemporaryAccounts"]}]}'
)

_ANONYMOUS = Asker()
_EVERYTHING = Grants(True, Policies(()))


@implementer(IIdentities, IAuthorizer)
@define(eq=False)
class Rights(Part):
    """
    Those who may sign, and the one decision about every request.

    :ivar _bucket_policies_for_all: Whether policies of buckets count for those who sign, too.
    """

    _bucket_policies_for_all: bool
    _standings: Lately[tuple[Standing, Grants]] = field(init=False, factory=Lately)
    _compiled: Lately[Policies] = field(init=False, factory=Lately)

    async def identity(self, access_key: str) -> Identity | None:
        """
        Look up who signs with this access key.
        """
        if access_key == self._root.access_key:
            return self._root
        known = await self._known(access_key)
        return None if known is None else known[0].identity

    async def allows(
        self, identity: Identity | None, question: Question, settings: Mapping[str, bytes]
    ) -> bool:
        """
        Whether somebody may do something.

        :raises Damaged: The bucket has a policy, or a public access block, that cannot be read.
        """
        root = identity is not None and identity.access_key == self._root.access_key
        # A policy that cannot be read, perhaps of another release, must not lock the bucket.
        if root and (BUCKET_POLICY not in settings or question.action in WAY_OUT):
            return True
        found = await self._asking(identity)
        if found is None:
            return False
        asker, grants = found
        bucket_policy = block = None
        if settings and (identity is None or self._bucket_policies_for_all):
            bucket_policy, block = self._bucket(question, settings)
        tags = None
        if question.existing_tags is not None and needs_tags(question, grants, bucket_policy):
            tags = await question.existing_tags()
        return decide(question, asker, grants, bucket_policy, block, tags)

    async def allows_own(self, identity: Identity, question: Question) -> bool:
        """
        Whether somebody may do something to their own account: see it, change its secret, make
        access keys for it.

        Nothing has to allow that, but what limits a session or a service account; and nothing may
        deny it.
        """
        if identity.access_key == self._root.access_key:
            return True
        found = await self._asking(identity)
        known = await self._known(identity.access_key)
        if found is None or known is None:
            return False
        asker, grants = found
        policies = self._compile((*known[0].policies, _OWN))
        return decide(question, asker, evolve(grants, policies=policies))

    async def allows_key(self, identity: Identity | None, question: Question) -> bool:
        """
        Whether somebody may have a master key used.
        """
        found = await self._asking(identity)
        return found is not None and decide_key(question, *found)

    async def effective_policy(self, access_key: str) -> bytes:
        """
        What somebody may do, as one document: what limits a service account or a session, else
        all that it has by its parent; without statements for who acts for the root user.

        :raises NoSuchAccessKey: Also for the root user.
        """
        known = await self._known(access_key)
        if known is None:
            raise NoSuchAccessKey(access_key)
        return merged(known[0].limits or known[0].policies)

    async def _asking(self, identity: Identity | None) -> tuple[Asker, Grants] | None:
        """
        Who asks, and what they have; ``None`` for who may nothing any more.
        """
        if identity is None:
            return _ANONYMOUS, NOTHING
        if identity.access_key == self._root.access_key:
            return Asker(Kind.ROOT, identity.access_key), _EVERYTHING
        known = await self._known(identity.access_key)
        if known is None:
            return None
        now = known[0].identity
        if not now.enabled or (now.expires is not None and now.expires <= self._clock.seconds()):
            return None
        return known[0].asker, known[1]

    async def _known(self, access_key: str) -> tuple[Standing, Grants] | None:
        """
        Who has an access key, and what they may do, as of now.
        """
        known = self._standings.get(access_key)
        if known is not None and await self._still(known[0]):
            return known
        found = await self._find(access_key)
        if found is None:
            return None
        limits = tuple(self._compile((policy,)) for policy in found.limits)
        grants = Grants(found.unlimited, self._compile(found.policies), limits)
        return self._standings.put(access_key, (found, grants), found.limits)

    async def _find(self, access_key: str) -> Standing | None:
        """
        Who has an access key, by the records.
        """
        for own, tell in (
            (user_key(access_key), standing_of_user),
            (key_key(access_key), partial(standing_of_key, root=self._root)),
        ):
            if await self._ledger.exists(own):
                return await self._ledger.resolve((own,), partial(tell, access_key=access_key))
        return None

    async def _still(self, known: Standing) -> bool:
        """
        Whether somebody is as they were.
        """
        try:
            return await self._ledger.still(known.stamp)
        except KypelloError:
            # What cannot be opened any more is not kept open.
            self._standings.clear()
            raise

    def _bucket(
        self, question: Question, settings: Mapping[str, bytes]
    ) -> tuple[Policies | None, PublicAccessBlock | None]:
        """
        What the settings of a bucket say of who may do what.

        :raises Damaged: They cannot be read: they were checked when they were put.
        """
        text, block = settings.get(BUCKET_POLICY), settings.get(PUBLIC_ACCESS_BLOCK)
        policies = None
        if text is not None:
            bucket = question.resource.partition("/")[0]
            policies = self._compiled.get((bucket, text))
            if policies is None:
                try:
                    policy = parse_bucket_policy(text, bucket)
                except MalformedPolicy as error:
                    raise Damaged(f"the policy of the bucket {bucket}: {error.reason}") from error
                policies = self._compiled.put((bucket, text), Policies((policy,)), (policy,))
        return policies, None if block is None else PublicAccessBlock.from_bytes(block)

    def _compile(self, policies: tuple[Policy, ...]) -> Policies:
        """
        Policies, ready to decide; those who have the same ones share them.
        """
        found = self._compiled.get(policies)
        return (
            self._compiled.put(policies, Policies(policies), policies) if found is None else found
        )
