"""Gets tokens from the emulator's stand-in of Entra ID with the official library, and uses them.

Ends with a traceback at the first difference from what Entra ID would do.
Environment: ENDPOINT, AUTHORITY (https), IDENTITY, LOCAL (http), HEADER, CONTROL (http), and the emulator's
authority in REQUESTS_CA_BUNDLE and SSL_CERT_FILE.
"""

import asyncio
import base64
import json
import os
import tempfile
import time
import urllib.request

from azure.communication.identity import CommunicationIdentityClient, CommunicationTokenScope
from azure.communication.identity.aio import CommunicationIdentityClient as AioClient
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from azure.identity import (
    ClientSecretCredential,
    ManagedIdentityCredential,
    WorkloadIdentityCredential,
)
from azure.identity.aio import ClientSecretCredential as AioClientSecretCredential

ENDPOINT, AUTHORITY, IDENTITY, LOCAL, HEADER, CONTROL = (
    os.environ[name] for name in ("ENDPOINT", "AUTHORITY", "IDENTITY", "LOCAL", "HEADER", "CONTROL")
)
TENANT, CLIENT = (f"{n}0000000-1111-2222-3333-444444444444" for n in "ab")
SECRET, SUBJECT = "a-secret-of-the-judge", "system:serviceaccount:judge:acs"
AUDIENCE = "https://communication.azure.com/"
# The library knows the real authorities, and asks no other who else there is.
THERE = {"authority": AUTHORITY, "disable_instance_discovery": True}


def settings(**changes):
    body = json.dumps(changes).encode()
    request = urllib.request.Request(f"{CONTROL}/_emulator/settings", body, method="PATCH")
    urllib.request.urlopen(request).read()


def part(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def assertion(**claims):
    """A file with a token as a cluster would sign it."""
    known = {"sub": SUBJECT, "aud": ["api://AzureADTokenExchange"], "exp": int(time.time()) + 600}
    token = f"{part({'alg': 'RS256'})}.{part(known | claims)}.c2lnbmF0dXJl"
    file = tempfile.NamedTemporaryFile("w", delete=False)
    file.write(token)
    file.close()
    return file.name


def by_assertion(**claims):
    return WorkloadIdentityCredential(
        tenant_id=TENANT, client_id=CLIENT, token_file_path=assertion(**claims), **THERE
    )


def by_secret(tenant=TENANT, client=CLIENT, secret=SECRET):
    return ClientSecretCredential(tenant, client, secret, **THERE)


def works(credential):
    client = CommunicationIdentityClient(ENDPOINT, credential)
    user, token = client.create_user_and_token([CommunicationTokenScope.CHAT])
    assert user.properties["id"].startswith("8:acs:") and token.token
    client.delete_user(user)


def refused(credential, said):
    try:
        works(credential)
    except (ClientAuthenticationError, HttpResponseError) as error:
        assert said in str(error), error
    else:
        raise AssertionError(f"{said} was to be refused")


async def works_aio():
    async with AioClientSecretCredential(TENANT, CLIENT, SECRET, **THERE) as credential:
        async with AioClient(ENDPOINT, credential) as client:
            await client.delete_user(await client.create_user())


def main():
    settings(
        entraTokens="issued",
        entraApplications=[
            {
                "tenantId": TENANT, "clientId": CLIENT, "secrets": [SECRET],
                "expiredSecrets": ["expired"], "subjects": [SUBJECT],
            }
        ],
    )
    works(by_secret())
    asyncio.run(works_aio())
    token = by_secret().get_token(f"{AUDIENCE}/.default")
    assert 3500 < token.expires_on - time.time() <= 3600, token.expires_on
    refused(by_secret(secret="wrong"), "AADSTS7000215")
    refused(by_secret(secret="expired"), "AADSTS7000222")
    refused(by_secret(client="c" + CLIENT[1:]), "AADSTS700016")
    refused(by_secret(tenant="c" + TENANT[1:]), "AADSTS90002")
    settings(entraTokens="none")
    refused(by_secret(), "Denied")
    settings(entraTokens="issued")

    works(by_assertion())
    refused(by_assertion(sub="system:serviceaccount:judge:other"), "AADSTS700213")
    refused(by_assertion(aud="another"), "AADSTS700212")
    refused(by_assertion(exp=int(time.time()) - 1), "AADSTS700024")

    os.environ |= {"IDENTITY_ENDPOINT": IDENTITY, "IDENTITY_HEADER": HEADER}
    works(ManagedIdentityCredential())
    settings(managedIdentities=[CLIENT])
    works(ManagedIdentityCredential(client_id=CLIENT))
    refused(ManagedIdentityCredential(), "Identity not found")
    del os.environ["IDENTITY_ENDPOINT"], os.environ["IDENTITY_HEADER"]

    # Else it is the fixed address of virtual machines.
    os.environ["AZURE_POD_IDENTITY_AUTHORITY_HOST"] = CONTROL
    works(ManagedIdentityCredential(client_id=CLIENT))
    refused(ManagedIdentityCredential(), "Identity not found")

    os.environ["MSI_ENDPOINT"] = LOCAL
    refused(ManagedIdentityCredential(), "not a supported MSI token audience")
    settings(localTokenAudiences=[AUDIENCE])
    works(ManagedIdentityCredential())
    print("the official library noticed nothing")


main()
