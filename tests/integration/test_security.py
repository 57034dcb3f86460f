"""Every command against a broker that lets nobody in without a name, and shows each site only its own topics."""

import json
import pickle
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from kafka.admin import ResourceType

from ingestion.settings import IngestSettings, Site
from pipeline.cli.main import run
from pipeline.config import load_config
from pipeline.runs import detector_root
from pipeline.scoring.settings import ScoreSettings
from pipeline.streams.cluster import client_options, connect
from tests.securing import SECRET, SecuredBroker, token

WAYS = ("certificate", "SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN", "token-file")


def site_files(folder: Path, *sites: str) -> Path:
    target = folder / "files"
    target.mkdir(exist_ok=True)
    rows = "".join(
        f"2026-03-01T10:{m:02d}:{s:02d}Z,pump,{m + s / 60}\n" for m in range(6) for s in range(0, 60, 5)
    )
    for site in sites:
        (target / f"{site}.csv").write_text("timestamp,asset,t\n" + rows)
    return target


def config_of(folder: Path, kafka: str, *sites: str, group: str | None = None) -> Path:
    path = folder / "fedplant.toml"
    named = "".join(f'[[sites]]\nname = "{site}"\n' for site in sites)
    rules = f'[ingestion]\ngroup = "{group or "g-" + sites[0]}"\n[scoring]\ngroup = "{group or "g-" + sites[0]}-score"\n'
    path.write_text(f'[project]\ndata_dir = "{folder}/data"\n{kafka}request_timeout = "60s"\n{named}{rules}')
    return path


def said(capfd: Any, *arguments: str) -> tuple[int, str, str]:
    capfd.readouterr()
    code = run(list(arguments))
    out, err = capfd.readouterr()
    assert SECRET not in out + err and "eyJ" not in out + err
    return code, out, err


@pytest.mark.parametrize("way", WAYS)
def test_a_site_works_with_its_own_topics_by_every_way_in(
    secured: SecuredBroker, topic: Any, tmp_path: Path, capfd: Any, way: str
) -> None:
    site = topic("site")
    user = "plain-user" if way == "PLAIN" else f"user-{site}"
    secured.user(user) if way.startswith("SCRAM") else None
    secured.grant(f"CN={user}" if way == "certificate" else user, site)
    config = str(config_of(tmp_path, secured.toml(way, user, tmp_path), site))
    files = str(site_files(tmp_path, site))
    assert said(capfd, "replay", files, "--config", config)[0] == 0
    code, out, err = said(capfd, "ingest", config, "--json")
    assert code == 0, err
    assert json.loads(out)["sites"][site]["kept"] == 60
    code, out, err = said(capfd, "audit", config, "--json")
    assert code == 0 and json.loads(out)["clean"], err
    code, out, _ = said(capfd, "inspect", f"iiot.{site}.telemetry.v1", "--config", config, "--json")
    assert code == 0 and json.loads(out)["profile"]["messages"] == 72
    _, out, _ = said(capfd, "doctor", config, "--json")
    found = {f["name"]: f["status"] for f in json.loads(out)["findings"]}
    assert found["broker"] == "ok" and found[f"topic iiot.{site}.telemetry.v1"] == "ok"
    assert found["consumer groups"] == "ok"


def test_another_sites_topics_are_denied_by_name_with_what_to_grant(
    secured: SecuredBroker, topic: Any, tmp_path: Path, capfd: Any
) -> None:
    mine, other = topic("site"), topic("site")
    secured.user(f"user-{mine}")
    secured.grant(f"user-{mine}", mine)
    for site in (mine, other):
        secured.topic(f"iiot.{site}.telemetry.v1")
    kafka = secured.toml("SCRAM-SHA-512", f"user-{mine}", tmp_path)
    config = str(config_of(tmp_path, kafka, other, group=f"g-{mine}"))
    files = str(site_files(tmp_path, other))
    for command in (["ingest", config], ["audit", config]):
        code, _, err = said(capfd, *command)
        assert code == 3
        assert f"user 'user-{mine}' lacks" in err and f"Read on topic iiot.{other}.telemetry.v1" in err
    code, _, err = said(capfd, "replay", files, "--config", config)
    assert code == 3 and f"iiot.{other}.telemetry.v1" in err and "may not write" in err
    code, _, err = said(capfd, "inspect", f"iiot.{other}.telemetry.v1", "--config", config)
    assert code in (3, 5) and f"iiot.{other}.telemetry.v1" in err
    code, out, _ = said(capfd, "doctor", config, "--json")
    assert code == 12
    finding = next(f for f in json.loads(out)["findings"] if f["name"] == f"topic iiot.{other}.telemetry.v1")
    assert finding["status"] == "fail" and "Grant" in finding["advice"]

    foreign = config_of(tmp_path, kafka, mine, group="somebody-elses")
    code, _, err = said(capfd, "ingest", str(foreign))
    assert code == 3 and "Read on group somebody-elses" in err
    code, out, _ = said(capfd, "doctor", str(foreign), "--json")
    findings = {f["name"]: f for f in json.loads(out)["findings"]}
    assert code == 12 and findings["consumer groups"]["status"] == "fail"
    assert "Read on group somebody-elses" in findings["consumer groups"]["detail"]
    assert findings[f"topic iiot.{mine}.telemetry.v1"]["status"] == "ok"


def test_a_reader_that_may_not_write_dead_letters_is_told_before_it_begins(
    secured: SecuredBroker, topic: Any, tmp_path: Path, capfd: Any
) -> None:
    site = topic("site")
    secured.user(f"user-{site}")
    rights = [(ResourceType.TOPIC, "iiot.{site}.", ("READ",)), (ResourceType.GROUP, "g-{site}", ("READ",))]
    secured.grant(f"user-{site}", site, rights)
    for name in ("telemetry.v1", "dlq", "late"):
        secured.topic(f"iiot.{site}.{name}")
    config = config_of(tmp_path, secured.toml("SCRAM-SHA-256", f"user-{site}", tmp_path), site)
    code, _, err = said(capfd, "ingest", str(config))
    assert code == 3
    assert f"Write on topic iiot.{site}.dlq, Write on topic iiot.{site}.late; grant these" in err
    assert not (tmp_path / "data" / "windows").exists()


def test_a_scorer_that_may_not_use_its_alerts_or_memory_is_told_before_it_begins(
    secured: SecuredBroker, topic: Any, tmp_path: Path, capfd: Any
) -> None:
    site = topic("site")
    secured.user(f"user-{site}")
    read = (ResourceType.TOPIC, "iiot.{site}.", ("READ",))
    secured.grant(f"user-{site}", site, [read, (ResourceType.GROUP, "g-{site}", ("READ",))])
    for name in ("telemetry.v1", "alerts.v1", "scorer.v1"):
        secured.topic(f"iiot.{site}.{name}")
    path = config_of(tmp_path, secured.toml("SCRAM-SHA-256", f"user-{site}", tmp_path), site)
    (detector_root(load_config(path, {})) / "1").mkdir(parents=True)
    code, _, err = said(capfd, "score", str(path))
    lacks = f"Write on topic iiot.{site}.alerts.v1, Write on topic iiot.{site}.scorer.v1; grant these"
    assert code == 3 and f"user 'user-{site}' lacks {lacks}" in err
    assert len([line for line in err.splitlines() if line.startswith("fedplant:")]) == 1
    secured.grant(f"user-{site}", site, [(ResourceType.TOPIC, "iiot.{site}.alerts", ("WRITE",))])
    code, _, err = said(capfd, "score", str(path))
    assert code == 3 and f"lacks Write on topic iiot.{site}.scorer.v1; grant these" in err


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (("password_file", "wrong"), "user 'user-known' was refused with SCRAM-SHA-512"),
        (("username", "nobody"), "user 'nobody' was refused with SCRAM-SHA-512"),
        (("ca_file", "other"), "no TLS connection: SSL handshake failed"),
        (("security_protocol", "SASL_PLAINTEXT"), "no secured connection within 2 s"),
    ],
)
def test_a_refused_client_is_told_why_in_one_line(
    secured: SecuredBroker, tmp_path: Path, capfd: Any, change: tuple[str, str], line: str
) -> None:
    secured.user("user-known")
    (tmp_path / "wrong").write_text(SECRET + "?")
    kafka = secured.toml("SCRAM-SHA-512", "user-known", tmp_path)
    key, value = change
    if key == "ca_file":
        from ingestion.broker.secured import secure

        value = str(secure(tmp_path / "other").ca_file)
    elif key == "password_file":
        value = str(tmp_path / value)
    lines = [f'{key} = "{value}"' if text.startswith(f"{key} =") else text for text in kafka.splitlines()]
    kafka = (
        "\n".join(text for text in lines if value != "SASL_PLAINTEXT" or not text.startswith("ca_file"))
        + "\n"
    )
    config = config_of(tmp_path, kafka, "site")
    config.write_text(config.read_text().replace('"60s"', '"2s"' if value == "SASL_PLAINTEXT" else '"60s"'))
    code, out, err = said(capfd, "ingest", str(config))
    assert code == 3 and line in err and len([t for t in err.splitlines() if t.startswith("fedplant:")]) == 1
    code, out, _ = said(capfd, "doctor", str(config), "--json")
    assert (
        code == 12
        and next(f for f in json.loads(out)["findings"] if f["name"] == "broker")["status"] == "fail"
    )


def test_a_client_without_a_certificate_is_kept_out(
    secured: SecuredBroker, tmp_path: Path, capfd: Any
) -> None:
    kafka = secured.toml("certificate", "user-x", tmp_path)
    kafka = "\n".join(t for t in kafka.splitlines() if not t.startswith(("cert_file", "key_file"))) + "\n"
    code, _, err = said(capfd, "ingest", str(config_of(tmp_path, kafka, "site")))
    assert code == 3 and "certificate required" in err


@pytest.fixture
def endpoint() -> Iterator[tuple[str, list[Any]]]:
    """A token endpoint for client `plant` with the secret."""
    asked: list[Any] = []

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            import base64

            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            who = base64.b64decode(self.headers["Authorization"].removeprefix("Basic ")).decode()
            asked.append((who, form))
            good = who == f"plant:{SECRET}"
            body = {"access_token": token("user-oauth"), "expires_in": 600} if good else {"error": SECRET}
            self.send_response(200 if good else 401)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/token", asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_tokens_come_from_an_endpoint_or_a_function(
    secured: SecuredBroker,
    endpoint: tuple[str, list[Any]],
    topic: Any,
    tmp_path: Path,
    capfd: Any,
    monkeypatch: Any,
) -> None:
    site = topic("site")
    secured.grant("user-oauth", site)
    url, asked = endpoint
    base = secured.toml("token-file", "user-oauth", tmp_path)
    lines = [text for text in base.splitlines() if not text.startswith("token_file")]
    by_url = (
        "\n".join([*lines, f'token_url = "{url}"', 'token_client = "plant"', 'token_scope = "kafka"']) + "\n"
    )
    config = str(config_of(tmp_path, by_url, site))
    files = str(site_files(tmp_path, site))
    monkeypatch.setenv("FEDPLANT_KAFKA_TOKEN_SECRET", SECRET)
    assert said(capfd, "replay", files, "--config", config)[0] == 0
    code, out, err = said(capfd, "ingest", config, "--json")
    assert code == 0 and json.loads(out)["sites"][site]["kept"] == 60, err
    assert asked and all(form["grant_type"] == ["client_credentials"] for _, form in asked)
    assert asked[0][1]["scope"] == ["kafka"] and len(asked) <= 4
    monkeypatch.setenv("FEDPLANT_KAFKA_TOKEN_SECRET", SECRET + "?")
    code, _, err = said(capfd, "ingest", config)
    assert code == 3 and f"token endpoint {url} for client 'plant': status 401" in err

    (tmp_path / "plant_tokens.py").write_text(
        "from tests.securing import token\ndef get(): return token('user-oauth')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    by_function = "\n".join([*lines, 'token_function = "plant_tokens:get"']) + "\n"
    assert said(capfd, "audit", str(config_of(tmp_path, by_function, site)))[0] == 0


def test_no_secret_is_in_any_text_that_an_object_makes_of_itself(tmp_path: Path) -> None:
    (tmp_path / "pw").write_text(SECRET)
    kafka = (
        '[kafka]\nbootstrap = "k:1"\nsecurity_protocol = "SASL_SSL"\nsasl_mechanism = "PLAIN"\nusername = "u"\n'
        f'password_file = "{tmp_path}/pw"\n'
    )
    config = load_config(config_of(tmp_path, kafka, "site"), {})
    client = client_options(config.kafka, {})
    assert client["sasl_plain_password"] == SECRET
    oauth = kafka.replace(
        '"PLAIN"\nusername = "u"', '"OAUTHBEARER"\ntoken_url = "http://k"\ntoken_client = "c"'
    )
    oauth = oauth.replace("password_file", "token_secret_file")
    source = client_options(load_config(config_of(tmp_path, oauth, "site"), {}).kafka, {})[
        "sasl_oauth_token_provider"
    ]
    from pipeline.streams.cluster import Cluster

    sites = (Site("a"),)
    values = [
        config,
        source,
        Cluster("k:1", client),
        IngestSettings(sites, "k:1", tmp_path, client=client),
        ScoreSettings(sites, "k:1", tmp_path, client=client),
    ]
    for value in values:
        assert SECRET not in repr(value) + str(value)
    # As worker processes get it.
    assert repr(pickle.loads(pickle.dumps(source))) == repr(source)


def test_a_secret_written_into_the_configuration_is_refused_without_repeating_it(
    tmp_path: Path, capfd: Any
) -> None:
    for key in ("password", "token_secret", "client_secret", "key_password"):
        config = config_of(tmp_path, f'[kafka]\n{key} = "{SECRET}"\n', "site")
        code, _, err = said(capfd, "ingest", str(config))
        assert code == 2 and f"kafka.{key}: secrets do not belong in this file" in err


def test_connecting_waits_for_no_longer_than_asked(tmp_path: Path) -> None:
    from ingestion.errors import BrokerUnavailable

    kafka = '[kafka]\nbootstrap = "127.0.0.1:1"\nsecurity_protocol = "SSL"\n'
    path = config_of(tmp_path, kafka, "site")
    path.write_text(path.read_text().replace('"60s"', '"1s"'))
    with (
        pytest.raises(BrokerUnavailable, match="no secured connection within 1 s"),
        connect(load_config(path, {}), None, print),
    ):
        raise AssertionError
