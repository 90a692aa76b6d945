"""A real nginx in front of a server: Debian's nginx-light, which `.ci/run` installs."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.server import free_port

CONFIGURATION = """
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
{user}
events {{}}
http {{
  access_log off;
  client_max_body_size 50m;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  upstream service {{ server {upstream}; keepalive 8; }}
  map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
  server {{
    listen 127.0.0.1:{port};
    proxy_http_version 1.1;
    proxy_set_header Host $host;
    proxy_set_header Connection $connection_upgrade;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto https;
    {locations}
  }}
}}
"""


@contextmanager
def running_nginx(folder: Path, upstream: str, locations: str) -> Iterator[str]:
    """Start nginx in front of a server at `upstream` (HOST:PORT); yield its address; skip the test without nginx."""
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if nginx is None:
        pytest.skip("NO NGINX: install Debian's package nginx-light")
    port = free_port()
    configuration = folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    configuration.write_text(
        CONFIGURATION.format(folder=folder, user=user, upstream=upstream, port=port, locations=locations)
    )
    process = subprocess.Popen([nginx, "-e", str(folder / "error.log"), "-p", str(folder), "-c", str(configuration)])
    try:
        deadline_s = time.monotonic() + 10
        while not (folder / "pid").exists() and time.monotonic() < deadline_s:
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)
