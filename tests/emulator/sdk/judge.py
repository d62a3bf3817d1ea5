"""Drives the emulator with the official client, sync and aio, through every operation that it has.

Ends with a traceback at the first difference from what the service would do.
Environment: ENDPOINT (https), PRIMARY and SECONDARY (connection strings over https), CONTROL (http).
The client finds the emulator's authority by REQUESTS_CA_BUNDLE and SSL_CERT_FILE, as for any other.
"""

import asyncio
import base64
import inspect
import json
import os
import re
import time
import urllib.request
from datetime import datetime, timedelta, timezone

from azure.communication.chat import CommunicationTokenCredential
from azure.communication.chat.aio import CommunicationTokenCredential as AioTokenCredential
from azure.communication.identity import (
    CommunicationIdentityClient,
    CommunicationTokenScope,
    CommunicationUserIdentifier,
)
from azure.communication.identity.aio import CommunicationIdentityClient as AioClient
from azure.core.credentials import AccessToken, AzureKeyCredential
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceNotFoundError,
)

ENDPOINT, PRIMARY, SECONDARY, CONTROL = (
    os.environ[name] for name in ("ENDPOINT", "PRIMARY", "SECONDARY", "CONTROL")
)
KEY = PRIMARY.split("accesskey=", 1)[1]
APPLICATION, USER, TENANT = (f"{n}0000000-1111-2222-3333-444444444444" for n in "abc")
IDENTITY = re.compile(r"8:acs:[0-9a-f-]{36}_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
EXPIRES_ON = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}\+00:00")
checks = 0


def holds(condition, what):
    global checks
    assert condition, what
    checks += 1


def entra_token(**claims):
    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'RS256', 'typ': 'JWT'})}.{part(claims)}.c2lnbmF0dXJl"


class Entra:
    """A credential as azure-identity has them."""

    def get_token(self, *scopes, **_):
        holds(scopes == ("https://communication.azure.com//.default",), scopes)
        end = int(time.time()) + 3600
        return AccessToken(entra_token(aud="https://communication.azure.com/", exp=end), end)


class AioEntra:
    async def get_token(self, *scopes, **options):
        return Entra().get_token(*scopes, **options)

    async def close(self):
        pass


def check(token):
    """What the service would say to a chat client with this token."""
    request = urllib.request.Request(
        f"{CONTROL}/_emulator/check", json.dumps({"token": token}).encode()
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def is_good(token, user, scopes, life, credential):
    """Reads a token as the client packages do, and asks the emulator."""
    holds(EXPIRES_ON.fullmatch(token.expires_on), token.expires_on)
    end = datetime.strptime(token.expires_on[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    left = end - datetime.now(timezone.utc)
    holds(life - timedelta(minutes=1) < left <= life, f"{left} is left of {life}")
    read = credential(token.token)
    payload = token.token.split(".")[1]
    claims = json.loads(base64.b64decode(payload + "=="))
    holds("-" not in payload and "_" not in payload, payload)
    holds(claims["exp"] == int(end.timestamp()), claims)
    holds(f"8:{claims['skypeid']}" == user, claims)
    holds(claims["acsScope"].split(",") == scopes, claims)
    said = check(token.token)
    holds(said["valid"] and said["identityId"] == user, said)
    return read, claims["exp"]


async def raises(error, call, status, code, message=None):
    try:
        answer = call()
        if inspect.isawaitable(answer):
            await answer
    except error as raised:
        holds(type(raised) is error, repr(raised))
        holds(raised.status_code == status, raised)
        holds(raised.error and raised.error.code == code, raised)
        holds(message is None or message == raised.error.message, raised.error.message)
    else:
        raise AssertionError(f"{error.__name__} was expected")


async def scenario(client, credential):
    async def do(call):
        return await call if inspect.isawaitable(call) else call

    seen = []
    user = await do(client.create_user(raw_response_hook=seen.append))
    holds(IDENTITY.fullmatch(user.properties["id"]), user.properties)
    holds(user.raw_id == user.properties["id"], user.raw_id)
    request, response = seen[0].http_request, seen[0].http_response
    holds(response.status_code == 201, response.status_code)
    # Only the client's signing policy asks for its id, the one for Entra tokens does not.
    asked = request.headers["x-ms-client-request-id"]
    asked = asked if "x-ms-return-client-request-id" in request.headers else None
    holds(response.headers.get("x-ms-client-request-id") == asked, "the request id is not echoed")
    holds("2023-10-01" in response.headers["api-supported-versions"], response.headers)
    holds(response.headers["content-type"] == "application/json; charset=utf-8", response.headers)

    day, hour = timedelta(hours=24), timedelta(hours=1)
    both = [CommunicationTokenScope.CHAT, CommunicationTokenScope.VOIP]
    for scopes, options, life in [
        (both, {}, day),
        (["chat", "voip"], {"token_expires_in": hour}, hour),
        (["voip.join"], {"token_expires_in": day}, day),
    ]:
        made, token = await do(client.create_user_and_token(scopes, **options))
        names = [getattr(scope, "value", scope) for scope in scopes]
        read, end = is_good(token, made.properties["id"], names, life, credential)
        holds((await do(read.get_token())).expires_on == end, "the credential reads another end")
        await do(read.close())
        await do(client.delete_user(made))
        holds(not check(token.token)["valid"], "a token outlived its identity")

    tokens = []
    for scope in CommunicationTokenScope:
        for options, life in [({}, day), ({"token_expires_in": timedelta(minutes=90)}, timedelta(minutes=90))]:
            token = await do(client.get_token(user, [scope], **options))
            is_good(token, user.properties["id"], [scope.value], life, credential)
            tokens.append(token.token)
    holds(len(set(tokens)) == len(tokens), "two tokens are the same")
    holds(await do(client.revoke_tokens(user)) is None, "a revocation answers something")
    for token in tokens:
        holds(check(token)["reason"] == "revoked", "a token outlived its revocation")
    token = await do(client.get_token(user, ["chat"]))
    is_good(token, user.properties["id"], ["chat"], day, credential)

    # Teams users.
    end = int(time.time()) + 4000
    claims = {"oid": USER, "tid": TENANT, "appid": APPLICATION, "exp": end}
    token = await do(client.get_token_for_teams_user(entra_token(**claims), APPLICATION, USER))
    is_good(token, f"8:orgid:{USER}", ["chat", "voip"], timedelta(seconds=4000), credential)
    for arguments, error, status, code, message in [
        ((entra_token(**claims), APPLICATION, TENANT), HttpResponseError, 400, "ValidationError",
         "Provided AAD token issued for unexpected user."),
        ((entra_token(**claims), TENANT, USER), HttpResponseError, 400, "ValidationError",
         "AAD application is not the expected one."),
        ((entra_token(**claims), None, USER), HttpResponseError, 400, "ValidationError",
         "AppId: The AppId field is required."),
        ((entra_token(**claims), APPLICATION, None), HttpResponseError, 400, "ValidationError",
         "UserId: The UserId field is required."),
        (("", APPLICATION, USER), ClientAuthenticationError, 401, "InvalidAccessToken",
         "Provided access token is not valid."),
        (("invalid", APPLICATION, USER), ClientAuthenticationError, 401, "InvalidAccessToken",
         "Provided access token is not valid."),
        ((entra_token(**{**claims, "exp": end - 5000}), APPLICATION, USER), ClientAuthenticationError, 401,
         "InvalidAccessToken", "Provided access token is not valid."),
    ]:
        await raises(error, lambda: client.get_token_for_teams_user(*arguments), status, code, message)

    # What the service refuses.
    interval = "ExpiresInMinutes value {} is invalid. Value must be within the [60, 1440] interval."
    for minutes in 59, 1441:
        life = timedelta(minutes=minutes)
        for call in [
            lambda: client.get_token(user, ["chat"], token_expires_in=life),
            lambda: client.create_user_and_token(["chat"], token_expires_in=life),
        ]:
            await raises(HttpResponseError, call, 400, "ValidationError", interval.format(minutes))
    await raises(HttpResponseError, lambda: client.get_token(user, None), 400, "ValidationError",
                 "Scopes: The Scopes field is required.")
    await raises(HttpResponseError, lambda: client.get_token(user, []), 400, "ValidationError",
                 "Invalid scopes - Scopes field is required.")
    await raises(HttpResponseError, lambda: client.get_token(user, ["Fly"]), 400, "ValidationError")
    stranger = CommunicationUserIdentifier("8:acs:10000000-0000-0000-0000-000000000000_invented")
    for call in [
        lambda: client.get_token(stranger, ["chat"]),
        lambda: client.revoke_tokens(stranger),
        lambda: client.delete_user(stranger),
    ]:
        await raises(ClientAuthenticationError, call, 401, "IdentityNotOwned",
                     "Provided identity doesn't belong to the resource.")

    holds(await do(client.delete_user(user)) is None, "a deletion answers something")
    holds(await do(client.delete_user(user)) is None, "a second deletion answers something")
    for call in [lambda: client.get_token(user, ["chat"]), lambda: client.revoke_tokens(user)]:
        await raises(ResourceNotFoundError, call, 404, "IdentityNotFound",
                     "Provided identity doesn't exist.")


async def strangers(kind, connect):
    """Clients that the service doesn't take."""
    wrong = base64.b64encode(b"a wrong key").decode()
    clients = [
        (connect(ENDPOINT, AzureKeyCredential(wrong)), ClientAuthenticationError, 401, "Denied"),
        (kind.from_connection_string(PRIMARY, api_version="2019-01-01"), HttpResponseError, 400,
         "UnsupportedApiVersion"),
        (kind.from_connection_string(PRIMARY, api_version=""), HttpResponseError, 400,
         "ApiVersionUnspecified"),
    ]
    for client, error, status, code in clients:
        await raises(error, client.create_user, status, code)
        if kind is AioClient:
            await client.close()


async def main():
    for version in ["2021-03-07", "2022-06-01", "2022-10-01", "2023-10-01", "2025-06-30", "2026-09-23"]:
        client = CommunicationIdentityClient.from_connection_string(PRIMARY, api_version=version)
        user, token = client.create_user_and_token(["chat"])
        holds(check(token.token)["valid"], version)
        client.delete_user(user)

    for client in [
        CommunicationIdentityClient.from_connection_string(PRIMARY),
        CommunicationIdentityClient.from_connection_string(SECONDARY),
        CommunicationIdentityClient(ENDPOINT, AzureKeyCredential(KEY)),
        CommunicationIdentityClient(ENDPOINT, Entra()),
    ]:
        await scenario(client, CommunicationTokenCredential)
    await strangers(CommunicationIdentityClient, CommunicationIdentityClient)
    print(f"sync: {checks} checks")
    for client in [
        AioClient.from_connection_string(PRIMARY),
        AioClient.from_connection_string(SECONDARY),
        AioClient(ENDPOINT, AzureKeyCredential(KEY)),
        AioClient(ENDPOINT, AioEntra()),
    ]:
        async with client:
            await scenario(client, AioTokenCredential)
    await strangers(AioClient, AioClient)
    print(f"sync and aio: {checks} checks")
    print("the official client noticed nothing")


asyncio.run(main())
