"""The configurations of nginx and Caddy in docs/deploying.md, where they are: a device gets through."""

import os
import ssl
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio
import httpx
import pytest
import trio
import trustme
from anyio.abc import ByteStream
from anyio.streams.tls import TLSStream

from localful_ws.client import ReceivedEvent, SnapshotNeeded, open_client
from localful_ws.demo.daemon import JWT_SECRET, PUBLISHER_KEY, DaemonProcess, running_daemon
from localful_ws.tokens import mint_token
from tests.printed import with_ports
from tests.programs import find_program
from tests.spec_document import ROOT, blocks

DEPLOYING = (ROOT / "docs" / "deploying.md").read_text(encoding="utf-8")
HOST = "sync.example.org"
PATIENCE = 20
Proxy = Callable[[Path, Path, DaemonProcess, trustme.LeafCert], list[str]]

NGINX = """
daemon off;
pid {directory}/pid;
error_log stderr;
worker_processes 1;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
{server}
}}
"""


def configuration(language: str, changes: dict[str, str]) -> str:
    """A configuration as it is printed, but for these changes."""
    (block,) = [block for block in blocks(DEPLOYING) if block.language == language]
    text = block.text
    for printed, ours in changes.items():
        assert text.count(printed) == 1
        text = text.replace(printed, ours)
    return text


def nginx(directory: Path, entrance: Path, daemon: DaemonProcess, certificate: trustme.LeafCert) -> list[str]:
    """Set up nginx as printed, but for where it listens and where its certificate is."""
    chain, key = directory / "chain.pem", directory / "key.pem"
    chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    key.write_bytes(certificate.private_key_pem.bytes())
    changes = {
        "listen 443 ": f"listen unix:{entrance} ",
        "/etc/ssl/sync.example.org.pem": str(chain),
        "/etc/ssl/sync.example.org.key": str(key),
    }
    server = with_ports(configuration("nginx", changes), daemon)
    (directory / "nginx.conf").write_text(NGINX.format(directory=directory, server=server))
    return ["nginx", "-e", "stderr", "-p", str(directory), "-c", str(directory / "nginx.conf")]


def caddy(directory: Path, entrance: Path, daemon: DaemonProcess, certificate: trustme.LeafCert) -> list[str]:
    """Set up Caddy as printed, but for where it listens and where its certificate is."""
    key_and_chain = directory / "key-and-chain.pem"
    key_and_chain.write_bytes(certificate.private_key_and_cert_chain_pem.bytes())
    ours = f"{HOST} {{\n\tbind unix/{entrance}\n\ttls {key_and_chain} {key_and_chain}\n"
    site = with_ports(configuration("caddyfile", {f"{HOST} {{\n": ours}), daemon)
    (directory / "Caddyfile").write_text("{\n\tadmin off\n\tauto_https disable_redirects\n}\n" + site)
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(directory / "Caddyfile")]


@pytest.mark.parametrize("proxy", [nginx, caddy], ids=lambda proxy: proxy.__name__)
async def test_device_behind_a_proxy(proxy: Proxy, tmp_path: Path) -> None:
    find_program(proxy.__name__)
    authority = trustme.CA()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    entrance = tmp_path / "entrance"

    async def open_stream() -> ByteStream:
        stream = await anyio.connect_unix(entrance)
        return await TLSStream.wrap(stream, hostname=HOST, ssl_context=trusting, standard_compatible=False)

    def get_token() -> str:
        return mint_token(JWT_SECRET.encode(), "ada", "laptop", 600, int(time.time()))

    with (tmp_path / "log").open("wb") as log, trio.fail_after(PATIENCE):
        async with running_daemon() as daemon, trio.open_nursery() as nursery:
            command = proxy(tmp_path, entrance, daemon, authority.issue_cert(HOST))
            home = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
            nursery.start_soon(
                partial(trio.run_process, command, env=home, stdout=log, stderr=log, check=False)
            )
            while not entrance.exists():  # noqa: ASYNC110 - nothing else tells that a proxy listens
                await trio.sleep(0.01)
            async with open_client(
                f"wss://{HOST}/v1/sync", get_token, vaults=["v1"], open_stream=open_stream
            ) as device:
                assert isinstance(await anext(device), SnapshotNeeded)
                async with httpx.AsyncClient(trust_env=False) as api:
                    answer = await api.post(
                        f"http://127.0.0.1:{daemon.internal_port}/v1/events",
                        headers={"Authorization": f"Bearer {PUBLISHER_KEY}"},
                        json={"event": "item-create", "user": "ada", "vault": "v1"},
                    )
                assert answer.status_code == 202
                event = await anext(device)
                assert isinstance(event, ReceivedEvent)
                assert event.event == "item-create"
            nursery.cancel_scope.cancel()
