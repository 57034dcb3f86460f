"""Users, rights and tokens of the secured test broker."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourceType,
    UserScramCredentialUpsertion,
)

from ingestion.broker import EmbeddedBroker
from ingestion.broker.secured import ADMIN, Secured

SECRET = "s3cr3t-Of-The-Plant"
SITE_RIGHTS = (
    (ResourceType.TOPIC, "iiot.{site}.", ("READ", "WRITE", "CREATE")),
    (ResourceType.GROUP, "g-{site}", ("READ",)),
    (ResourceType.TRANSACTIONAL_ID, "g-{site}", ("WRITE", "DESCRIBE")),
)


def token(user: str, life: float = 600) -> str:
    """An unsigned web token, as the test broker takes it."""

    def part(content: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()

    now = int(time.time())
    return f"{part({'alg': 'none'})}.{part({'sub': user, 'iat': now, 'exp': now + int(life)})}."


@dataclass(frozen=True)
class SecuredBroker:
    """The broker, and what an administrator does on it."""

    broker: EmbeddedBroker
    security: Secured

    def admin(self) -> KafkaAdminClient:
        return KafkaAdminClient(
            bootstrap_servers=self.security.certificate_bootstrap, **self.security.client(ADMIN)
        )

    def user(self, name: str, password: str = SECRET) -> None:
        """Give a user a SCRAM password for both hashes."""
        admin = self.admin()
        for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
            admin.alter_user_scram_credentials([UserScramCredentialUpsertion(name, mechanism, password)])
        admin.close()

    def grant(self, principal: str, site: str, rights: Iterable[Any] = SITE_RIGHTS) -> None:
        """The rights of a site, to everything whose name begins as given."""
        acls = [
            ACL(
                principal=f"User:{principal}",
                host="*",
                operation=ACLOperation[operation],
                permission_type=ACLPermissionType.ALLOW,
                resource_pattern=ResourcePattern(
                    kind, name.format(site=site), ACLResourcePatternType.PREFIXED
                ),
            )
            for kind, name, operations in rights
            for operation in operations
        ]
        admin = self.admin()
        admin.create_acls(acls)
        admin.close()

    def topic(self, name: str, partitions: int = 1) -> None:
        admin = self.admin()
        admin.create_topics(
            {name: {"num_partitions": partitions}}, timeout_ms=120_000, wait_for_metadata=True
        )
        admin.close()

    def toml(self, way: str, user: str, folder: Any) -> str:
        """The `[kafka]` table of a client that comes this way: `certificate`, `token-file`, or a SASL mechanism."""
        lines = ["[kafka]", f'ca_file = "{self.security.ca_file}"']
        if way == "certificate":
            cert, key = self.security.issue(user)
            address = self.security.certificate_bootstrap
            lines += ['security_protocol = "SSL"', f'cert_file = "{cert}"', f'key_file = "{key}"']
        else:
            address = self.broker.bootstrap
            lines += ['security_protocol = "SASL_SSL"']
        if way == "token-file":
            (folder / "token").write_text(token(user))
            lines += ['sasl_mechanism = "OAUTHBEARER"', f'token_file = "{folder}/token"']
        elif way != "certificate":
            (folder / "password").write_text(SECRET + "\n")
            lines += [
                f'sasl_mechanism = "{way}"',
                f'username = "{user}"',
                f'password_file = "{folder}/password"',
            ]
        return "\n".join([*lines, f'bootstrap = "{address}"']) + "\n"
