# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The one owner of everything, as clients are shown it.

The name and number are MinIO's, which clients and scripts may compare with.
"""

OWNER_ID = "02d6176db174dc93cb1b899f7c6078f08654445fe8cf1b6ce98d8855f66bdbf4"

_ELEMENTS = f"<ID>{OWNER_ID}</ID><DisplayName>minio</DisplayName>"

#: The element that names the owner.
OWNER = f"<Owner>{_ELEMENTS}</Owner>"

#: The content of an access control list by which the owner may do everything.
FULL_CONTROL = (
    f"{OWNER}<AccessControlList><Grant>"
    '<Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser">'
    f"{_ELEMENTS}</Grantee><Permission>FULL_CONTROL</Permission></Grant></AccessControlList>"
)
