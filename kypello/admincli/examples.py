# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Examples of the commands for accounts, as their help shows them.
"""

#: By the first word of the commands.
EXAMPLES = {
    "user": """\
Examples:
  kypello user add alice
      Make a user; the secret key is asked for.
  kypello user add --generate backup
      Make a user with a secret key that is shown once.
  kypello policy attach readwrite --user alice
      Until then she may do nothing.
""",
    "group": """\
Examples:
  kypello group add staff alice bob
  kypello policy attach readonly --group staff
  kypello group rm staff bob
      Take him out again; without users, remove the group, which must be empty.
""",
    "policy": """\
Examples:
  kypello policy create team team.json
  kypello policy attach team readonly --group staff
  kypello policy entities --policy team
      Who has it?
""",
    "key": """\
Examples:
  kypello key create --user alice --name laptop
      A key that may do what alice may; its secret key is shown once.
  kypello key create --policy read-only.json --expires 2027-01-31T00:00:00Z
      One of your own that may do less, and ends.
  kypello key ls --all
""",
    "iam": """\
Examples:
  kypello iam export accounts.zip
  kypello iam import --dry-run accounts.zip
      What would come from this server, or from MinIO's mc admin cluster iam export?
  kypello iam import --old-root admin accounts.zip
      Keys of admin, the root user there, become keys of the root user here.
""",
    "bucket": """\
Examples:
  kypello bucket expiring photos
      What do the rules of its lifecycle remove in the next round?  Nothing is removed.
  kypello bucket expiring --at 2027-01-31 photos
      And of what there is now, until then?
  kypello bucket require photos --kinds sse-kms --key key-2027
      Refuse whatever would not be encrypted so, whoever writes it.
  kypello bucket rules photos
      Which encryption has it by default, requires and blocks?
""",
    "encrypt": """\
Examples:
  kypello encrypt rotate --all --to key-2027 --dry-run
      How many versions have another master key?
  kypello encrypt rotate --all --to key-2027 --resume progress.json
      Move all of them, also the keys of buckets and accounts; then the old key can be deleted.
  kypello encrypt rotate photos/2026 --from key-2025 --to key-2027 --rate 200
  kypello encrypt rotate photos --to key-2027 --again
      The key has the same name, and another version: seal everything with that.

Nothing that clients see changes but the encryption: no content is written, but with
--encrypt-plain. Ended at any time, it can be run again: what is done is left.

Exit code: 1 also when something was left: what cannot be opened, or an unfinished upload.
""",
    "kms": """\
Examples:
  kypello kms usage
      What needs each master key, by buckets.
  kypello kms usage old-key
      May it be deleted?
  kypello kms doctor /srv/objects
      Check the settings of a server, its key servers and the keys that its data needs; see
      kypello kms doctor --help.
""",
}
