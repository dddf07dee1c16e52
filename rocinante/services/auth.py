"""etcdserverpb.Auth, as much of it as `etcdctl --user NAME:TOKEN` and etcd's clients need: the password is an access
token, whatever the name, and is what they present from then on (tokens.py). There are no users, roles or rights.
"""

from __future__ import annotations

from rocinante.errors import FailedPrecondition, InvalidArgument
from rocinante.pb.etcd import rpc_pb2 as pb
from rocinante.services import header
from rocinante.services.call import Call, Calls, Handlers

SERVICE = "etcdserverpb.Auth"
AUTHENTICATE = f"/{SERVICE}/Authenticate"


class AuthService:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def handlers(self) -> Handlers:
        return {AUTHENTICATE: self._calls.unary(AUTHENTICATE, pb.AuthenticateRequest, self.authenticate)}

    async def authenticate(self, _call: Call, request: pb.AuthenticateRequest) -> pb.AuthenticateResponse:
        """Raises InvalidArgument, and FailedPrecondition where no token is needed; with etcd's words, by which its
        clients tell them apart (api/v3rpc/rpctypes/error.go): of the second they go on without."""
        tokens = self._calls.keyring.tokens
        if not tokens.accepts(request.password):
            if tokens.anonymous:
                raise FailedPrecondition("etcdserver: authentication is not enabled")
            self._calls.keyring.refused += 1
            raise InvalidArgument("", "etcdserver: authentication failed, invalid user ID or password")
        answer = pb.AuthenticateResponse(token=request.password)
        answer.header.revision = self._calls.node.state.revision
        header.fill(answer.header, self._calls.leader)
        return answer
