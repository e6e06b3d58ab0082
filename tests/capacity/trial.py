"""One way of bringing clients through one nginx to evergate, in a network namespace with few ports: says how many got through, and fails
if that is not what docs/capacity.md says of the way.
"""

import argparse
import json
import math
import os
import pathlib
import re
import resource
import subprocess
import sys
import time
import urllib.request

PATIENCE_SECONDS = 60
FIRST_PORT = 20000
NGINX = "10.255.0.1:80"
# Of the ports of an address pair, what shares that are drawn by a hash leave unused at the fullest of them.
SLACK = 1.25


def sysctl(name, value):
    pathlib.Path("/proc/sys/" + name.replace(".", "/")).write_text(value)


def until(condition, what):
    end = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        if time.monotonic() > end:
            sys.exit(f"capacity: gave up waiting until {what}")
        time.sleep(0.1)
    return found


class Trial:
    def __init__(self, given):
        self.way, self.ports, self.folder = given.way, given.ports, pathlib.Path(given.folder)
        self.evergate, self.wanted = given.evergate, given.clients
        # Enough to show that it stops: beyond the end each client costs nginx a search through all ports.
        self.asking = min(given.clients, given.ports + given.ports // 2) if given.way == "plain" else given.clients
        self.files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self.pairs = math.ceil(self.asking / given.ports * SLACK)
        # evergate takes 90 % of its descriptors; a worker of nginx needs two for a client, and is not given the same number exactly.
        self.gateways = self.pairs if self.way == "gateways" else math.ceil(self.asking / (self.files * 0.8))
        self.workers = max(2, math.ceil(self.asking * 2 / (self.files * 0.8)))
        self.children = []

    def addresses(self):
        """Where each process of evergate listens, as its option `listen`."""
        if self.way == "unix":
            return [[f"unix:{self.folder}/{n}.sock"] for n in range(self.gateways)]
        if self.way == "addresses":
            each = math.ceil(self.pairs / self.gateways)
            return [[f"127.0.1.{n * each + m + 1}:7682" for m in range(each)] for n in range(self.gateways)]
        if self.way == "gateways":
            return [[f"127.0.1.{n + 1}:7682"] for n in range(self.gateways)]
        return [["127.0.0.1:7682"] for _ in range(self.gateways)]

    def lists_are_known(self):
        """Whether this build of evergate takes several addresses, and Unix sockets."""
        probe = ",".join(["127.0.0.1:1", f"unix:{self.folder}/probe.sock"])
        return subprocess.run([self.evergate, "config", "--listen", probe], capture_output=True).returncode == 0

    def configure_network(self):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        # The clients' addresses and nginx' own: as many pairs as it takes that this side is not what ends first.
        subprocess.run(["ip", "route", "add", "local", "10.0.0.0/8", "dev", "lo"], check=True)
        last = FIRST_PORT + self.ports - 1
        sysctl("net.ipv4.ip_local_port_range", "1024 65535" if self.way == "range" else f"{FIRST_PORT} {last}")
        # nginx' own port is not for connections. Backlogs as tuning/sysctl.d/ has them: all come at once.
        sysctl("net.ipv4.ip_local_reserved_ports", "7682,7700-7799")
        sysctl("net.core.somaxconn", "65535")
        sysctl("net.ipv4.tcp_max_syn_backlog", "65535")

    def start(self, command, log):
        child = subprocess.Popen(command, stdout=open(self.folder / log, "w"), stderr=subprocess.STDOUT, cwd=self.folder)
        self.children.append(child)
        return child

    def start_gateways(self):
        for n, addresses in enumerate(self.addresses()):
            options = ["--idle-timeout-seconds", "0", "--handshake-timeout-seconds", "120", "--admin", f"127.0.0.1:{7700 + n}", "--listen", ",".join(addresses), "--loglevel", "warn"]
            shared = ["--share-port"] if self.way in ("plain", "range", "bind") else []
            self.start([self.evergate, "demo", *options, *shared], f"evergate-{n}.log")
        for n in range(self.gateways):
            until(lambda: self.admin(n, "readyz"), f"evergate {n} serves: see its log")

    def admin(self, n, path):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{7700 + n}/{path}", timeout=5) as answer:
                return answer.read()
        except OSError:
            return None

    def at_gateways(self):
        """Clients that the gateways have."""
        return sum(core["open"] for n in range(self.gateways) for core in json.loads(self.admin(n, "status"))["cores"])

    def start_nginx(self):
        servers = "".join(
            f"        server {address};\n" for addresses in sorted({tuple(each) for each in self.addresses()}) for address in addresses
        )
        source = ""
        if self.way == "bind":
            share = math.floor(10000 / self.pairs) / 100
            lines = "".join(f"        {share}% 127.0.2.{n + 1};\n" for n in range(self.pairs - 1))
            # A client's address and port: its address alone would send a library behind NAT by one of ours.
            source = f'    split_clients "$remote_addr$remote_port" $source {{\n{lines}        * 127.0.2.{self.pairs};\n    }}\n'
        (self.folder / "nginx.conf").write_text(f"""
worker_processes {self.workers};
worker_rlimit_nofile {self.files};
user root;
daemon off;
pid {self.folder}/nginx.pid;
error_log {self.folder}/nginx.log warn;
events {{ worker_connections {self.files - 100}; }}
http {{
    access_log off;
{source}    upstream evergate {{
{servers}    }}
    server {{
        # Each worker has a share of the connects, so that none runs out of descriptors before the others.
        listen {NGINX} reuseport backlog=65535;
        location / {{
            proxy_pass http://evergate;
            {"proxy_bind $source;" if self.way == "bind" else ""}
            # Who has no port must not be counted as a gateway that is down.
            proxy_next_upstream off;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "upgrade";
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_read_timeout 3m;
        }}
    }}
}}
""")
        self.nginx = self.start(["nginx", "-c", str(self.folder / "nginx.conf")], "nginx.out")
        until(lambda: len(self.nginx_processes()) > self.workers, "nginx has its workers: see nginx.out")

    def nginx_processes(self):
        master = self.nginx.pid
        return [master, *map(int, open(f"/proc/{master}/task/{master}/children").read().split())]

    def memory_of_nginx(self):
        """Bytes of all its processes, what they share counted once."""
        rollups = [open(f"/proc/{pid}/smaps_rollup").read() for pid in self.nginx_processes()]
        return sum(int(re.search(r"^Pss:\s+(\d+)", rollup, re.MULTILINE)[1]) * 1024 for rollup in rollups)

    def clients(self):
        """The clients, as many processes as their descriptors ask for; each says what it got when all of its own have settled, and stays
        until its stdin ends.
        """
        processes = math.ceil(self.asking / (self.files * 0.9))
        found = []
        for n in range(processes):
            number = self.asking // processes + (n < self.asking % processes)
            sources = math.ceil(number / self.ports * SLACK) + 1
            command = ["python3", str(pathlib.Path(__file__).with_name("clients.py")), NGINX, f"10.{n + 1}.0", str(number), str(sources)]
            found.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        self.children.extend(found)
        return found

    def run(self):
        if self.way in ("addresses", "unix") and not self.lists_are_known():
            sys.exit(f"capacity: {self.way}: this build of evergate has one TCP address; `listen` must take a list")
        self.configure_network()
        self.start_gateways()
        self.start_nginx()
        before = self.memory_of_nginx()
        begun = time.monotonic()
        counts = {}
        for client in self.clients():
            for key, count in json.loads(client.stdout.readline()).items():
                counts[key] = counts.get(key, 0) + count
        took = time.monotonic() - begun
        answered = counts.pop("answered", 0)
        at_gateways, nginx = self.at_gateways(), self.memory_of_nginx() - before
        refused = " ".join(f"{key}: {count}" for key, count in sorted(counts.items())) or "none"
        print(
            f"{self.way:9} ports {open('/proc/sys/net/ipv4/ip_local_port_range').read().split()}  asked {self.asking:5}  "
            f"answered {answered:5}  others {refused}  at evergate {at_gateways:5}  {took:.0f} s  "
            f"nginx: {self.workers} workers, {nginx / max(1, answered):.0f} bytes a client  evergate: {self.gateways} processes",
            flush=True,
        )
        log = (self.folder / "nginx.log").read_text()
        if self.way == "plain" and self.asking > self.ports:
            # A port or two may be in use otherwise.
            assert self.ports - 10 <= answered <= self.ports, f"{answered} of {self.ports}"
            assert "Cannot assign requested address" in log, log[-2000:]
        else:
            assert answered == self.asking == at_gateways, f"{answered} of {self.asking}: {refused}\n{log[-2000:]}"

    def end(self):
        for child in reversed(self.children):
            child.terminate()
        for child in self.children:
            child.wait()


def main():
    parser = argparse.ArgumentParser()
    for name, kind in [("way", str), ("clients", int), ("ports", int), ("evergate", str), ("folder", str)]:
        parser.add_argument(f"--{name}", type=kind, required=True)
    trial = Trial(parser.parse_args())
    try:
        trial.run()
    except AssertionError as why:
        sys.exit(f"capacity: {trial.way}: {why}")
    finally:
        trial.end()


main()
