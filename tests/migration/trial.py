"""Inside the root that `run` has made: builds the site that docs/migration.md begins with, then runs the guide's blocks in their order
and checks after each what it promises.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import time
import urllib.request

import clients

TRIAL, WORK = pathlib.Path("/srv/trial"), pathlib.Path("/srv/evergate")
CLIENTS = 40
PATIENCE_SECONDS = 60
SITE = """server {
    listen 443 ssl http2;
    ssl_certificate /etc/apache2/ssl/server.crt;
    ssl_certificate_key /etc/apache2/ssl/server.key;

    location /osrf-websocket-translator {
        proxy_pass http://localhost:7682;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection "upgrade";
        proxy_connect_timeout 1m;
        proxy_send_timeout 3m;
        proxy_read_timeout 3m;
    }
}
"""
UNIT = """[Unit]
Description=Websocketd OpenSRF Gateway
[Service]
Type=simple
User=opensrf
Group=opensrf
ExecStart=/usr/bin/websocketd --loglevel error --maxforks 250 --port 7682 /openils/bin/osrf-websocket-stdio
[Install]
WantedBy=multi-user.target
"""


def run(command, **more):
    return subprocess.run(command, check=True, text=True, capture_output=True, **more).stdout


def until(condition, what):
    end = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"gave up waiting until {what}")
        time.sleep(0.1)
    return found


def blocks():
    """The guide's commands: name and text of each block of sh, in order."""
    text = (TRIAL / "migration.md").read_text()
    return re.findall(r"^```sh (\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def at_websocketd():
    return int(subprocess.run(["pgrep", "-c", "osrf-websocket"], text=True, capture_output=True).stdout)


def at_evergate():
    with urllib.request.urlopen("http://127.0.0.1:7683/status", timeout=5) as answer:
        return sum(core["open"] for core in json.load(answer)["cores"])


def is_active(unit):
    return subprocess.run(["systemctl", "is-active", unit]).returncode == 0


def listing():
    """What is installed: the guide's last step must leave none of its own."""
    found = set()
    for folder in ["/etc", "/usr/local", "/root", "/var/lib", "/lib/systemd/system"]:
        for at, folders, files in os.walk(folder):
            found.update(f"{at}/{name}" for name in folders + files)
    return found


class Site:
    """A node as it was: Redis with OpenSRF's accounts, a router and services, websocketd, nginx."""

    def __init__(self):
        run(["useradd", "--system", "opensrf"])
        self.file("/etc/hosts", "127.0.0.1 localhost public.localhost\n")
        core = (TRIAL / "opensrf_core.xml").read_text()
        self.file("/openils/conf/opensrf_core.xml", core, 0o640)
        run(["chown", "-R", "opensrf:opensrf", "/openils/conf"])
        self.file("/openils/bin/osrf-websocket-stdio", (TRIAL / "osrf-websocket-stdio").read_text(), 0o755)
        self.file("/lib/systemd/system/websocketd-osrf.service", UNIT)
        for path in pathlib.Path("/etc/nginx/sites-enabled").iterdir():
            path.unlink()
        self.file("/etc/nginx/sites-available/osrf-ws-http-proxy", SITE)
        os.symlink("/etc/nginx/sites-available/osrf-ws-http-proxy", "/etc/nginx/sites-enabled/osrf-ws-http-proxy")
        os.makedirs("/etc/apache2/ssl")
        certificate = ["-keyout", "/etc/apache2/ssl/server.key", "-out", "/etc/apache2/ssl/server.crt"]
        run(["openssl", "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-subj", "/CN=localhost", *certificate])
        os.makedirs("/var/log/nginx", exist_ok=True)
        self.children = [self.child("redis-server", "--bind", "127.0.0.1", "--port", "6379", "--save", "")]
        until(lambda: b"PONG" in subprocess.run(["redis-cli", "ping"], capture_output=True).stdout, "Redis answers")
        run(["redis-cli"], input=(TRIAL / "redis-acl.txt").read_text())
        for account in ["router", "opensrf"]:
            self.file(f"/srv/trial/{account}.pw", f"{account}-test\n", 0o600)
        services = self.child(
            "/srv/evergate/evergate", "demo-services", "--redis", "127.0.0.1:6379", "--domain", "public.localhost",
            "--router-user", "router", "--router-password-file", "/srv/trial/router.pw", "--service-user", "opensrf",
            "--service-password-file", "/srv/trial/opensrf.pw",
        )
        self.children.append(services)
        run(["systemctl", "enable", "--now", "websocketd-osrf"])
        run(["systemctl", "start", "nginx"])

    def file(self, path, text, mode=0o644):
        path = pathlib.Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def child(self, *command):
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/tmp")

    def end(self):
        run(["systemctl", "stop", "nginx"])
        run(["systemctl", "stop", "websocketd-osrf"])
        for child in self.children:
            child.terminate()


class Checks:
    """What the guide promises after each of its blocks; a method for each, which gets what the block printed."""

    def __init__(self, asking):
        self.asking = asking
        self.seen = {"files": listing()}

    def goes_on(self):
        """Clients are answered, and none of them anything wrong."""
        before = self.asking.counts["answered"]
        until(lambda: self.asking.counts["answered"] > before + CLIENTS, "clients go on being answered, which were %s" % self.asking.counts)
        assert not self.asking.counts["wrong"] + self.asking.counts["refused"], self.asking.errors

    def unharmed(self):
        """Nobody was cut off or left without an answer so far."""
        counts = self.asking.counts
        assert not counts["lost"] + sum(self.asking.closes.values()), (counts, self.asking.closes)

    def before(self, printed):
        assert "--maxforks 250" in printed and re.search(r"^[1-9]\d*$", printed, re.MULTILINE), printed

    def install(self, _):
        self.unharmed()

    def configure(self, _):
        self.unharmed()

    def start(self, printed):
        assert "FAIL" not in printed and "serving" in printed and printed.rstrip().endswith("\n3"), printed
        self.unharmed()

    def log(self, printed):
        assert re.search(r"\[127\.0\.0\.1\] \[\] opensrf\.math add 1, 2$", printed, re.MULTILINE), printed

    def share(self, _):
        until(lambda: at_evergate() > 0, "evergate has clients")
        until(lambda: re.search(r"\[192\.0\.2\.\d+\] \[\] opensrf\.demo", self.activity()), "a client is named in the log")
        self.goes_on()
        assert at_websocketd() > CLIENTS / 2, at_websocketd()
        self.unharmed()

    def watch(self, printed):
        assert re.search(r'"open":\d+', printed) and "no limit was hit" in printed, printed

    def all(self, _):
        # Those that stay are websocketd's until it is drained.
        until(lambda: at_websocketd() <= CLIENTS / 8, "only those that never leave are at websocketd")
        self.goes_on()
        self.unharmed()

    def retire(self, _):
        assert at_websocketd() == 0 and not is_active("websocketd-osrf")
        until(lambda: at_evergate() >= CLIENTS / 2, "all are at evergate")
        self.goes_on()
        self.seen["lost with websocketd"] = self.asking.counts["lost"]
        self.asking.closes.clear()

    def back(self, printed):
        assert "drain" in printed, printed
        code = pathlib.Path("/run/systemctl/evergate.code").read_text()
        assert code == "0" and not is_active("evergate"), code
        assert set(self.asking.closes) <= {1012} and self.asking.closes[1012] > 0, self.asking.closes
        assert self.asking.counts["lost"] == self.seen["lost with websocketd"], self.asking.errors
        assert is_active("websocketd-osrf")
        until(lambda: at_websocketd() > CLIENTS / 2, "all are at websocketd again")
        self.goes_on()

    def remove(self, _):
        assert not (left := listing() ^ self.seen["files"]), left
        self.goes_on()

    def activity(self):
        return pathlib.Path("/var/log/evergate/evergate.log").read_text()


def main():
    site = Site()
    asking = clients.Clients(CLIENTS)
    try:
        checks = Checks(asking)
        checks.goes_on()
        steps = blocks()
        assert [name for name, _ in steps], "the guide has no block to run"
        for name, text in steps:
            check = getattr(checks, name)
            begun = time.monotonic()
            done = subprocess.run(["bash", "-euo", "pipefail", "-c", text], text=True, capture_output=True, cwd=WORK)
            if done.returncode:
                raise AssertionError(f"{name} ends with {done.returncode}:\n{done.stdout}{done.stderr}")
            check(done.stdout)
            left = 0 if name == "remove" or not is_active("evergate") else at_evergate()
            print(
                f"{name:9} {time.monotonic() - begun:5.1f} s  websocketd {at_websocketd():3}  evergate {left:3}  "
                f"answered {asking.counts['answered']:5}  lost {asking.counts['lost']}",
                flush=True,
            )
    except AssertionError as why:
        sys.exit(f"migration: {why}")
    finally:
        asking.stop()
        site.end()
    print(f"in all: {dict(asking.counts)}")


main()
