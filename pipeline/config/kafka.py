"""The Kafka cluster and how this client names itself to it: the `[kafka]` table."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from pipeline.config.address import wrong_address
from pipeline.config.durations import Seconds
from pipeline.config.section import Section


class KafkaConfig(Section):
    """The Kafka cluster. Secrets never stand in this file."""

    bootstrap: str = Field(
        "embedded",
        description="`host:port[,host:port]` of a cluster, or `embedded` for the broker that FedPlant starts itself.",
    )
    embedded_dir: Path | None = Field(
        None, description="Data folder of the embedded broker; default under the user's cache directory."
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How connections are secured."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None = Field(
        None, description="How this client names itself; needed with the SASL protocols, and only there."
    )
    username: str | None = Field(None, description="SASL user name.")
    password_file: Path | None = Field(
        None,
        description="File that holds the SASL password (or set the environment variable `FEDPLANT_KAFKA_PASSWORD`).",
    )
    ca_file: Path | None = Field(
        None, description="PEM file of the authority that signed the broker's certificate."
    )
    cert_file: Path | None = Field(
        None, description="PEM file with this client's certificate, for mutual TLS."
    )
    key_file: Path | None = Field(
        None, description="PEM file with this client's private key, for mutual TLS."
    )
    key_password_file: Path | None = Field(
        None,
        description="File that holds the password of an encrypted private key (or set `FEDPLANT_KAFKA_KEY_PASSWORD`).",
    )
    token_url: str | None = Field(
        None,
        pattern=r"^https?://",
        description="OAUTHBEARER: token endpoint that is asked with client credentials.",
    )
    token_client: str | None = Field(None, description="OAUTHBEARER: client id at the token endpoint.")
    token_secret_file: Path | None = Field(
        None,
        description="OAUTHBEARER: file that holds the client's secret (or set `FEDPLANT_KAFKA_TOKEN_SECRET`).",
    )
    token_scope: str | None = Field(None, description="OAUTHBEARER: scope to ask for.")
    token_ca_file: Path | None = Field(
        None, description="OAUTHBEARER: PEM file of the endpoint's authority; default: the system's."
    )
    token_file: Path | None = Field(
        None, description="OAUTHBEARER: file that holds the token and is kept fresh by something else."
    )
    token_function: str | None = Field(
        None,
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
        description="OAUTHBEARER: your own `module:function`, returning a token or a token and its life in seconds.",
    )
    request_timeout: Seconds = Field(
        30.0, ge=1, le=300, description="Bound on every single request to the broker."
    )

    @field_validator("bootstrap")
    @classmethod
    def _address(cls, text: str) -> str:
        wrong = None if text == "embedded" else wrong_address(text)
        if wrong:
            raise ValueError(wrong)
        return text

    @model_validator(mode="after")
    def _combinations(self) -> KafkaConfig:
        sasl = self.security_protocol.startswith("SASL")
        if sasl and self.sasl_mechanism is None:
            raise ValueError(f"security_protocol {self.security_protocol} needs sasl_mechanism")
        if sasl and self.username is None and self.sasl_mechanism != "OAUTHBEARER":
            raise ValueError(f"security_protocol {self.security_protocol} needs username")
        if not sasl and self.sasl_mechanism is not None:
            raise ValueError(
                f"sasl_mechanism {self.sasl_mechanism} needs security_protocol SASL_SSL or SASL_PLAINTEXT, "
                f"not {self.security_protocol}"
            )
        self._token_keys()
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file go together")
        tls = self.security_protocol.endswith("SSL")
        if not tls and (self.ca_file or self.cert_file):
            raise ValueError(
                f"ca_file and cert_file need security_protocol SSL or SASL_SSL, not {self.security_protocol}"
            )
        if self.key_password_file is not None and self.key_file is None:
            raise ValueError("key_password_file needs key_file")
        if self.bootstrap == "embedded" and self.security_protocol != "PLAINTEXT":
            raise ValueError("the embedded broker speaks PLAINTEXT on this machine only")
        return self

    def _token_keys(self) -> None:
        sources = ("token_url", "token_file", "token_function")
        given = [name for name in sources if getattr(self, name) is not None]
        if self.sasl_mechanism == "OAUTHBEARER":
            if len(given) != 1:
                found = " and ".join(given) or "none"
                raise ValueError(
                    f"sasl_mechanism OAUTHBEARER needs exactly one of {', '.join(sources)}; there is {found}"
                )
            if self.username is not None or self.password_file is not None:
                raise ValueError("sasl_mechanism OAUTHBEARER goes without username and password_file")
        elif given:
            raise ValueError(f"{given[0]} needs sasl_mechanism OAUTHBEARER, not {self.sasl_mechanism}")
        if (self.token_url is None) != (self.token_client is None):
            raise ValueError("token_url and token_client go together")
        extras = [
            n for n in ("token_secret_file", "token_scope", "token_ca_file") if getattr(self, n) is not None
        ]
        if extras and self.token_url is None:
            raise ValueError(f"{extras[0]} needs token_url")
