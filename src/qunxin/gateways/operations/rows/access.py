"""The rows of the table of operations that concern tokens and API keys."""

from __future__ import annotations

from typing import Final

from qunxin.gateways.operations import handlers as run
from qunxin.gateways.operations import requests as req
from qunxin.gateways.operations import responses as res
from qunxin.gateways.operations.rows.common import CREATED, NO_USER, OK, always
from qunxin.gateways.operations.table import Operation

ACCESS: Final = (
    Operation(
        name="token.create",
        method="POST",
        path="/v1/tokens",
        tag="access",
        summary="Make a token for a user's devices",
        chinese="签发用户令牌",
        description=(
            "Your server asks for it with its API key and hands it to the user's device. Never "
            "give a device an API key."
        ),
        request=req.CreateToken,
        response=res.Token,
        statuses=CREATED,
        errors=(*NO_USER, "user_suspended"),
        rules=("token.create",),
        run=run.create_token,
        status_of=always(201),
    ),
    Operation(
        name="token.revoke",
        method="DELETE",
        path="/v1/users/{user}/tokens/{id}",
        tag="access",
        summary="Revoke one token",
        chinese="吊销一个令牌",
        description=(
            "The token with that id (its claim `jti`) is refused from now on, and the sessions "
            "that came with it end. A user without tokens of that id loses nothing. Of a user "
            "1,000 ids are remembered: one more, and in place of the oldest every token issued "
            "before its revocation is refused."
        ),
        request=req.RevokeToken,
        response=res.TokensRevoked,
        statuses=OK,
        errors=NO_USER,
        rules=("token.revoke",),
        run=run.revoke_token,
        status_of=always(200),
    ),
    Operation(
        name="token.revoke_all",
        method="DELETE",
        path="/v1/users/{user}/tokens",
        tag="access",
        summary="Revoke all of a user's tokens",
        chinese="吊销用户的所有令牌",
        description=(
            "Every token issued until now is refused, and the user's sessions end. Tokens issued "
            "later are good. Where the claim `iat` is in whole seconds, later means from the next "
            "second on; without `iat` a token counts as issued before."
        ),
        request=req.OfUser,
        response=res.TokensRevoked,
        statuses=OK,
        errors=NO_USER,
        rules=("token.revoke_all",),
        run=run.revoke_all_tokens,
        status_of=always(200),
    ),
    Operation(
        name="key.create",
        method="POST",
        path="/v1/keys",
        tag="access",
        summary="Make an API key",
        chinese="创建 API 密钥",
        description="The secret is shown this once; only its digest is kept.",
        request=req.CreateKey,
        response=res.NewKey,
        statuses=CREATED,
        errors=(),
        rules=("key.create",),
        run=run.create_key,
        status_of=always(201),
    ),
    Operation(
        name="key.list",
        method="GET",
        path="/v1/keys",
        tag="access",
        summary="List API keys",
        chinese="API 密钥列表",
        description="All keys, revoked ones too, without their secrets.",
        request=req.Nothing,
        response=res.KeyList,
        statuses=OK,
        errors=(),
        rules=("key.list",),
        run=run.list_keys,
        status_of=always(200),
    ),
    Operation(
        name="key.revoke",
        method="DELETE",
        path="/v1/keys/{id}",
        tag="access",
        summary="Revoke an API key",
        chinese="吊销 API 密钥",
        description="The key is refused from now on. Cannot be undone.",
        request=req.OfKey,
        response=res.KeyView,
        statuses=OK,
        errors=("not_found",),
        rules=("key.revoke",),
        run=run.revoke_key,
        status_of=always(200),
    ),
)
